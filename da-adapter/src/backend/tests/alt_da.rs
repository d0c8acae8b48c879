//! Alt-DA servers.

use millrace_proto::DaReadError;
use url::Url;

use super::*;
use crate::{
    alt_da_server::{AltDaFault, AltDaServer},
    config::{AltDaCommitment, AltDaConfig},
};

struct Server {
    server: AltDaServer,
    backend: AltDaBackend,
    commitment: AltDaCommitment,
}

impl Server {
    async fn start(commitment: AltDaCommitment) -> Self {
        let server = AltDaServer::start().await.unwrap();
        let backend = client(server.url(), commitment);
        Self { server, backend, commitment }
    }
}

fn client(url: Url, commitment: AltDaCommitment) -> AltDaBackend {
    let timeout = std::time::Duration::from_secs(10);
    AltDaBackend::new(&AltDaConfig { commitment, timeout, ..AltDaConfig::at(url) }).unwrap()
}

impl Layer for Server {
    fn backend(&self) -> &dyn DaBackend {
        &self.backend
    }

    fn sources(&self) -> DaSources {
        DaSources { alt_da: Some(self.backend.clone()), ..DaSources::default() }
    }

    fn breaks(&self, fault: Option<Fault>) -> bool {
        self.server.set_fault(fault.map(|fault| match fault {
            Fault::Status(status) => AltDaFault::Status(status),
            Fault::Forgets => AltDaFault::Forgets,
            Fault::Lies => AltDaFault::Lies,
        }));
        true
    }

    fn takes_batches(&self) -> bool {
        true
    }

    fn nowhere(&self) -> Option<Box<dyn DaBackend>> {
        Some(Box::new(client("http://127.0.0.1:9".parse().unwrap(), self.commitment)))
    }

    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
        let other_hash = [&[0], B256::repeat_byte(1).as_slice()].concat();
        [vec![], vec![1], vec![2, 3, 4], vec![0], other_hash, vec![1; 1_026]]
            .map(|pointer| pointing_to(good, pointer))
            .to_vec()
    }
}

#[tokio::test]
async fn a_server_that_is_a_plain_store_conforms() {
    conforms(&Server::start(AltDaCommitment::Keccak).await).await;
}

#[tokio::test]
async fn a_server_with_a_da_layer_behind_it_conforms() {
    conforms(&Server::start(AltDaCommitment::Generic).await).await;
}

#[tokio::test]
async fn a_server_says_that_its_da_layer_is_away_and_where_it_takes_batches() {
    let Server { server, backend, commitment } = Server::start(AltDaCommitment::Generic).await;
    server.set_fault(Some(AltDaFault::Status(503)));
    let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
    assert!(matches!(error, BackendError::UseNext(_)), "{error}");
    assert!(error.to_string().contains("as it was told"), "{error}");
    server.set_fault(None);

    let below = client(server.url().join("some/path/").unwrap(), commitment);
    let error = below.submit(request(noise(10, 1))).await.unwrap_err();
    assert!(matches!(error, BackendError::Fatal(_)), "{error}");
    assert!(error.to_string().contains("404"), "{error}: the path is the server's");
}

/// A generic commitment may stand for anything: who does not know it, or takes it for something else, proves nothing.
#[tokio::test]
async fn what_another_commitment_stands_for_is_not_known_to_be_no_batch() {
    let Server { server: _server, backend, .. } = Server::start(AltDaCommitment::Generic).await;
    let request = request(noise(1_000, 1));
    let pointer = backend.submit(request.clone()).await.unwrap().da_pointer;
    let good = posted(DaKind::AltDa, request.digest, pointer);
    let unknown = pointing_to(&good, vec![1, 2, 3]);
    assert!(matches!(backend.fetch(&unknown).await, Err(DaReadError::Unavailable { .. })));
    let other = of_other_bytes(&good);
    assert!(matches!(backend.fetch(&other).await, Err(DaReadError::Mismatch { .. })));
}
