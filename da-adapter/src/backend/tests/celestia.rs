//! Celestia nodes.

use std::time::Duration;

use millrace_proto::DaReadError;
use url::Url;

use super::*;
use crate::{
    celestia_server::{CelestiaFault, CelestiaServer},
    config::{CelestiaConfig, TokenSource},
};

/// What was put is looked for as long as the node may take.
fn quick(url: Url) -> CelestiaConfig {
    CelestiaConfig { timeout: Duration::from_secs(1), ..CelestiaConfig::at(url) }
}

fn client(config: &CelestiaConfig) -> CelestiaBackend {
    CelestiaBackend::new(config).unwrap()
}

struct Node {
    server: CelestiaServer,
    backend: CelestiaBackend,
}

impl Node {
    async fn start() -> Self {
        let server = CelestiaServer::start(None).await.unwrap();
        let backend = client(&quick(server.url()));
        Self { server, backend }
    }
}

impl Layer for Node {
    fn backend(&self) -> &dyn DaBackend {
        &self.backend
    }

    fn sources(&self) -> DaSources {
        DaSources { celestia: Some(self.backend.clone()), ..DaSources::default() }
    }

    fn breaks(&self, fault: Option<Fault>) -> bool {
        self.server.set_fault(fault.map(|fault| match fault {
            Fault::Status(status) => CelestiaFault::Status(status),
            Fault::Forgets => CelestiaFault::Forgets,
            Fault::Lies => CelestiaFault::Lies,
        }));
        true
    }

    fn takes_batches(&self) -> bool {
        true
    }

    fn nowhere(&self) -> Option<Box<dyn DaBackend>> {
        Some(Box::new(client(&quick("http://127.0.0.1:9".parse().unwrap()))))
    }

    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
        let pointer = &good.da_pointer;
        let longer = [&pointer[..], &[0]].concat();
        let mut invalid = [vec![], vec![1], pointer[..50].to_vec(), longer, vec![0; 51]]
            .map(|pointer| pointing_to(good, pointer))
            .to_vec();
        // From the blob itself, which the commitment stands for.
        invalid.push(of_other_bytes(good));
        invalid
    }
}

#[tokio::test]
async fn celestia_conforms() {
    conforms(&Node::start().await).await;
}

#[tokio::test]
async fn a_token_is_sent_where_there_is_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = CelestiaServer::start(Some("token")).await.unwrap();
    let token = Some(TokenSource::File(file.path().to_owned()));
    let config = CelestiaConfig { token, ..quick(server.url()) };
    std::fs::write(file.path(), "token\n").unwrap();
    client(&config).submit(request(noise(10, 1))).await.unwrap();
    for (written, told) in [("", "missing permission"), ("another", "401")] {
        std::fs::write(file.path(), written).unwrap();
        let token = config.token.clone().filter(|_| !written.is_empty());
        let backend = client(&CelestiaConfig { token, ..config.clone() });
        let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
        assert!(matches!(error, BackendError::UseNext(_)), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_gas_price_is_handed_on() {
    let Node { server, backend } = Node::start().await;
    backend.submit(request(noise(10, 1))).await.unwrap();
    assert_eq!(server.options(), serde_json::json!({}), "the node's own estimate");
    let config = CelestiaConfig { gas_price: Some(0.25), ..CelestiaConfig::at(server.url()) };
    client(&config).submit(request(noise(10, 1))).await.unwrap();
    let asked = serde_json::json!({ "gas_price": 0.25, "is_gas_price_set": true });
    assert_eq!(server.options(), asked);
}

#[tokio::test]
async fn what_a_node_says_in_words_tells_what_to_do() {
    let Node { server, backend } = Node::start().await;
    let submit = async |fault| {
        server.set_fault(Some(fault));
        let result = backend.submit(request(noise(1_000, 1))).await;
        server.set_fault(None);
        result.unwrap_err()
    };
    let error = submit(CelestiaFault::Says("tx already in mempool")).await;
    assert!(matches!(error, BackendError::Retry(_)), "{error}");
    assert!(error.to_string().contains("tx already in mempool"), "{error}");
    let poor = "insufficient funds: spendable balance 1utia is smaller than 2utia";
    let error = submit(CelestiaFault::Says(poor)).await;
    assert!(matches!(error, BackendError::UseNext(_)), "{error}");
    let large = "tx size 9 bytes: transaction size exceeds maximum allowed limit";
    for text in [large, "blob(s) too large"] {
        let error = submit(CelestiaFault::Says(text)).await;
        assert!(matches!(error, BackendError::TooLarge { size: 1_000, max: 999 }), "{error}");
    }
    let error = submit(CelestiaFault::NoHeight).await;
    assert!(matches!(error, BackendError::UseNext(_)), "{error}");
}

#[tokio::test]
async fn what_was_paid_for_is_looked_for_before_it_is_paid_for_again() {
    let Node { server, backend } = Node::start().await;
    let submit = async || backend.submit(request(noise(1_000, 1))).await;
    server.set_fault(Some(CelestiaFault::Lies));
    submit().await.unwrap_err();
    // It shows at last.
    server.set_fault(None);
    submit().await.unwrap();
    assert_eq!(server.height(), 1);
    // It does not show.
    server.set_fault(Some(CelestiaFault::Forgets));
    for paid in [1, 1, 1, 2] {
        let error = submit().await.unwrap_err();
        assert!(matches!(error, BackendError::Retry(_)), "{error}");
        assert_eq!(server.height() - 1, paid);
    }
}

/// Neither another block nor another commitment is known to hold nothing for ever.
#[tokio::test]
async fn what_a_node_does_not_find_is_not_known_to_be_no_batch() {
    let Node { server, backend } = Node::start().await;
    let request = request(noise(1_000, 1));
    let pointer = backend.submit(request.clone()).await.unwrap().da_pointer;
    assert_eq!((pointer.len(), server.height()), (51, 1));
    for at in [8, 9] {
        let mut elsewhere = pointer.to_vec();
        elsewhere[at] ^= 2;
        let record = posted(DaKind::Celestia, request.digest, elsewhere);
        let result = backend.fetch(&record).await;
        assert!(matches!(result, Err(DaReadError::Unavailable { .. })), "{at}: {result:?}");
    }
}
