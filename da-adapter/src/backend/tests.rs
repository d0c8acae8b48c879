//! What every backend promises, whatever is behind it; and what an alt-DA server's failures mean.

#[cfg(feature = "celestia")]
mod celestia;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_proto::{BatchHeader, DaReadError, DaReader, L1Ref, PostedBatch, batch_digest};
use url::Url;

use super::*;
use crate::{
    alt_da_server::{AltDaFault, AltDaServer},
    blob::unpack,
    config::{AltDaCommitment, AltDaConfig, ObjectStoreConfig},
    reader::{DaSources, MultiReader},
    testing::noise,
};

fn request(data: Bytes) -> SubmitRequest {
    SubmitRequest { number: 1, digest: batch_digest(&data), data }
}

/// The contract's record of a batch.
fn posted(kind: DaKind, digest: B256, da_pointer: Bytes) -> PostedBatch {
    PostedBatch {
        header: BatchHeader {
            number: 1,
            first_block: 1,
            last_block: 1,
            deposits_end: 0,
            deposits_hash: B256::ZERO,
            digest,
            da_kind: kind,
        },
        batch_hash: B256::ZERO,
        blob_hashes: Vec::new(),
        da_pointer,
        l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
        l1_timestamp: 0,
    }
}

/// The bytes that the posting transaction, and what is behind the backend, give back.
async fn read_back(kind: DaKind, digest: B256, prepared: Prepared, sources: &DaSources) -> Bytes {
    if kind == DaKind::L1Blob {
        assert!(prepared.da_pointer.is_empty());
        return unpack(&prepared.blobs).unwrap().into();
    }
    assert!(prepared.blobs.is_empty(), "blobs are paid for");
    let record = posted(kind, digest, prepared.da_pointer);
    MultiReader::new(sources.clone()).read(&record).await.unwrap()
}

async fn conforms(backend: &dyn DaBackend, sources: DaSources) {
    let max = backend.max_size();
    assert!(max >= 130_000, "{max}");
    for size in [1, 31, 5_000, 130_000, max.min(900_000)] {
        let request = request(noise(size, size as u64));
        // Again, as after a restart between the two steps of posting.
        for _ in 0..2 {
            let prepared = backend.submit(request.clone()).await.unwrap();
            let read = read_back(backend.kind(), request.digest, prepared, &sources).await;
            assert_eq!(read, request.data);
        }
    }
    let market = Market { base_fee: 9, tip: 1, blob_base_fee: 3 };
    let cost = |size| backend.l1_cost(size, &market);
    assert!(cost(1) >= U256::from(900_000) && cost(max) >= cost(1), "a transaction at least");
    let larger = request(vec![7; max + 1].into());
    let error = backend.submit(larger).await.unwrap_err();
    assert!(
        matches!(error, BackendError::TooLarge { size, max: limit } if size == max + 1 && limit == max),
        "{error}"
    );
}

fn alt_da(url: Url, commitment: AltDaCommitment) -> AltDaBackend {
    let timeout = std::time::Duration::from_secs(10);
    AltDaBackend::new(&AltDaConfig { commitment, timeout, ..AltDaConfig::at(url) }).unwrap()
}

fn on(server: &AltDaBackend) -> DaSources {
    DaSources { alt_da: Some(server.clone()), ..DaSources::default() }
}

#[tokio::test]
async fn blobs_conform() {
    conforms(&L1BlobBackend, DaSources::default()).await;
}

#[tokio::test]
async fn calldata_conforms() {
    conforms(&L1CalldataBackend, DaSources::default()).await;
}

#[tokio::test]
async fn an_object_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(folder.path()).unwrap();
    let config = ObjectStoreConfig { url, prefix: "chain/1".to_owned() };
    let store = ObjectStoreBackend::open(&config).unwrap();
    conforms(&store, DaSources { store: Some(store.clone()), ..DaSources::default() }).await;
}

#[tokio::test]
async fn an_alt_da_server_conforms_with_either_commitment() {
    let server = AltDaServer::start().await.unwrap();
    for commitment in [AltDaCommitment::Keccak, AltDaCommitment::Generic] {
        let backend = alt_da(server.url(), commitment);
        conforms(&backend, on(&backend)).await;
    }
    let below = server.url().join("some/path/").unwrap();
    let backend = alt_da(below, AltDaCommitment::Keccak);
    let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}: the path is the server's");
}

#[tokio::test]
async fn an_alt_da_servers_failures_say_what_to_do() {
    let server = AltDaServer::start().await.unwrap();
    for commitment in [AltDaCommitment::Keccak, AltDaCommitment::Generic] {
        let backend = alt_da(server.url(), commitment);
        let mut seed = 100;
        let mut submit = async |fault| {
            seed += 1;
            server.set_fault(Some(fault));
            let result = backend.submit(request(noise(1_000, seed))).await;
            server.set_fault(None);
            result.unwrap_err()
        };
        for status in [429, 408, 500, 502, 504] {
            let error = submit(AltDaFault::Status(status)).await;
            assert!(matches!(error, BackendError::Retry(_)), "{status}: {error}");
        }
        for status in [503, 400, 401, 403] {
            let error = submit(AltDaFault::Status(status)).await;
            assert!(matches!(error, BackendError::UseNext(_)), "{status}: {error}");
            assert!(error.to_string().contains("as it was told"), "{error}");
        }
        let error = submit(AltDaFault::Status(413)).await;
        assert!(matches!(error, BackendError::TooLarge { size: 1_000, max: 999 }), "{error}");
        let error = submit(AltDaFault::Forgets).await;
        assert!(matches!(error, BackendError::Retry(_)), "{error}");
        let error = submit(AltDaFault::Lies).await;
        assert!(matches!(error, BackendError::UseNext(_)), "{error}");
    }
    let url = server.url();
    drop(server);
    let error = alt_da(url, AltDaCommitment::Generic).submit(request(noise(10, 1))).await;
    assert!(matches!(error.unwrap_err(), BackendError::Retry(_)));
}

#[tokio::test]
async fn what_an_alt_da_server_has_is_checked_against_l1() {
    let server = AltDaServer::start().await.unwrap();
    let backend = alt_da(server.url(), AltDaCommitment::Generic);
    let request = request(noise(1_000, 1));
    let pointer = backend.submit(request.clone()).await.unwrap().da_pointer;
    let reader = MultiReader::new(on(&backend));
    let read = async |pointer: Bytes| {
        let record = posted(DaKind::AltDa, request.digest, pointer);
        reader.read(&record).await
    };

    server.set_fault(Some(AltDaFault::Lies));
    assert!(matches!(read(pointer.clone()).await, Err(DaReadError::Mismatch { .. })));
    server.set_fault(Some(AltDaFault::Status(500)));
    assert!(matches!(read(pointer.clone()).await, Err(DaReadError::Unavailable { .. })));
    server.set_fault(None);
    assert_eq!(read(pointer).await.unwrap(), request.data);
    let unknown = Bytes::from_static(&[1, 2, 3]);
    assert!(matches!(read(unknown).await, Err(DaReadError::Unavailable { .. })));

    // What everybody can tell from L1 alone.
    let other_hash = [&[0], B256::repeat_byte(1).as_slice()].concat();
    for invalid in [vec![], vec![1], vec![2, 3, 4], vec![0], other_hash, vec![1; 1_026]] {
        let result = read(invalid.clone().into()).await;
        assert!(matches!(result, Err(DaReadError::Invalid { .. })), "{invalid:?}: {result:?}");
    }
    let nowhere = MultiReader::new(DaSources::default());
    let record = posted(DaKind::AltDa, request.digest, vec![1, 2].into());
    assert!(matches!(nowhere.read(&record).await, Err(DaReadError::NoReader { .. })));
}
