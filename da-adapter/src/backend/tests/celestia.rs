//! What a Celestia node's failures mean, and that it is not trusted.

use std::time::Duration;

use super::*;
use crate::{
    celestia_server::{CelestiaFault, CelestiaServer},
    config::{CelestiaConfig, TokenSource},
};

fn celestia(server: &CelestiaServer) -> CelestiaBackend {
    CelestiaBackend::new(&CelestiaConfig::at(server.url())).unwrap()
}

fn on(node: &CelestiaBackend) -> DaSources {
    DaSources { celestia: Some(node.clone()), ..DaSources::default() }
}

#[tokio::test]
async fn celestia_conforms() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "token\n").unwrap();
    let server = CelestiaServer::start(Some("token")).await.unwrap();
    let token = Some(TokenSource::File(file.path().to_owned()));
    let config = CelestiaConfig { token, ..CelestiaConfig::at(server.url()) };
    let backend = CelestiaBackend::new(&config).unwrap();
    conforms(&backend, on(&backend)).await;

    for (written, told) in [("", "missing permission"), ("another", "401")] {
        std::fs::write(file.path(), written).unwrap();
        let token = config.token.clone().filter(|_| !written.is_empty());
        let backend = CelestiaBackend::new(&CelestiaConfig { token, ..config.clone() }).unwrap();
        let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
        assert!(matches!(error, BackendError::UseNext(_)), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_gas_price_is_handed_on() {
    let server = CelestiaServer::start(None).await.unwrap();
    celestia(&server).submit(request(noise(10, 1))).await.unwrap();
    assert_eq!(server.options(), serde_json::json!({}), "the node's own estimate");
    let config = CelestiaConfig { gas_price: Some(0.25), ..CelestiaConfig::at(server.url()) };
    let backend = CelestiaBackend::new(&config).unwrap();
    backend.submit(request(noise(10, 1))).await.unwrap();
    let asked = serde_json::json!({ "gas_price": 0.25, "is_gas_price_set": true });
    assert_eq!(server.options(), asked);
}

#[tokio::test]
async fn a_celestia_nodes_failures_say_what_to_do() {
    let server = CelestiaServer::start(None).await.unwrap();
    // As long as what was put is looked for.
    let timeout = Duration::from_secs(1);
    let config = CelestiaConfig { timeout, ..CelestiaConfig::at(server.url()) };
    let backend = CelestiaBackend::new(&config).unwrap();
    let submit = async |fault| {
        server.set_fault(Some(fault));
        let result = backend.submit(request(noise(1_000, 1))).await;
        server.set_fault(None);
        result.unwrap_err()
    };
    for status in [408, 429, 500, 502, 503] {
        let error = submit(CelestiaFault::Status(status)).await;
        assert!(matches!(error, BackendError::Retry(_)), "{status}: {error}");
    }
    for status in [400, 401, 403, 404] {
        let error = submit(CelestiaFault::Status(status)).await;
        assert!(matches!(error, BackendError::UseNext(_)), "{status}: {error}");
    }
    let error = submit(CelestiaFault::Says("tx already in mempool")).await;
    assert!(matches!(error, BackendError::Retry(_)), "{error}");
    assert!(error.to_string().contains("tx already in mempool"), "{error}");
    let poor = "insufficient funds: spendable balance 1utia is smaller than 2utia";
    let error = submit(CelestiaFault::Says(poor)).await;
    assert!(matches!(error, BackendError::UseNext(_)), "{error}");
    let large = "tx size 9 bytes: transaction size exceeds maximum allowed limit";
    for fault in [
        CelestiaFault::Status(413),
        CelestiaFault::Says(large),
        CelestiaFault::Says("blob(s) too large"),
    ] {
        let error = submit(fault).await;
        assert!(matches!(error, BackendError::TooLarge { size: 1_000, max: 999 }), "{error}");
    }
    for fault in [CelestiaFault::NoHeight, CelestiaFault::Lies] {
        let error = submit(fault).await;
        assert!(matches!(error, BackendError::UseNext(_)), "{error}");
    }
    // What was paid for is found when it shows at last.
    let before = server.height();
    backend.submit(request(noise(1_000, 1))).await.unwrap();
    assert_eq!(server.height(), before);
    // What does not show is looked for a few times before it is paid for again.
    for paid in [1, 1, 1, 2] {
        let error = submit(CelestiaFault::Forgets).await;
        assert!(matches!(error, BackendError::Retry(_)), "{error}");
        assert_eq!(server.height() - before, paid);
    }
    let again = server.url();
    drop(server);
    let backend = CelestiaBackend::new(&CelestiaConfig::at(again)).unwrap();
    let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
    assert!(matches!(error, BackendError::Retry(_)), "{error}");
}

#[tokio::test]
async fn what_a_celestia_node_has_is_checked_against_l1() {
    let server = CelestiaServer::start(None).await.unwrap();
    let backend = celestia(&server);
    let request = request(noise(1_000, 1));
    let pointer = backend.submit(request.clone()).await.unwrap().da_pointer;
    assert_eq!((pointer.len(), server.height()), (51, 1));
    let reader = MultiReader::new(on(&backend));
    let read = async |pointer: &[u8], digest| {
        let record = posted(DaKind::Celestia, digest, pointer.to_vec().into());
        reader.read(&record).await
    };
    let digest = request.digest;

    server.set_fault(Some(CelestiaFault::Lies));
    assert!(matches!(read(&pointer, digest).await, Err(DaReadError::Mismatch { .. })));
    server.set_fault(Some(CelestiaFault::Status(500)));
    assert!(matches!(read(&pointer, digest).await, Err(DaReadError::Unavailable { .. })));
    server.set_fault(None);
    assert_eq!(read(&pointer, digest).await.unwrap(), request.data);

    // Neither another block nor another commitment is known to hold nothing for ever.
    for at in [8, 9] {
        let mut elsewhere = pointer.to_vec();
        elsewhere[at] ^= 2;
        let result = read(&elsewhere, digest).await;
        assert!(matches!(result, Err(DaReadError::Unavailable { .. })), "{at}: {result:?}");
    }
    // What everybody can tell: from L1 alone, or from the blob that it names.
    let longer = [&pointer[..], &[0]].concat();
    for invalid in [vec![], vec![1], pointer[..50].to_vec(), longer, vec![0; 51]] {
        let result = read(&invalid, digest).await;
        assert!(matches!(result, Err(DaReadError::Invalid { .. })), "{invalid:?}: {result:?}");
    }
    let result = read(&pointer, B256::repeat_byte(1)).await;
    assert!(matches!(result, Err(DaReadError::Invalid { .. })), "{result:?}");
}
