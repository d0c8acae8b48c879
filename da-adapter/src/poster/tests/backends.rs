//! Which backend a batch goes through.

use super::*;
use crate::{ObjectStoreBackend, ObjectStoreConfig};

/// A poster with other backends, on the fixture's outbox and contract.
fn with_backends(
    fixture: &mut Fixture,
    backends: Vec<Arc<dyn DaBackend>>,
    switching: &SwitchingConfig,
) {
    let mut poster = poster_to(&fixture.outbox, &fixture.contract, backends);
    poster.switch = switching.switch(&poster.backends);
    fixture.poster = poster;
}

fn kinds(fixture: &Fixture) -> Vec<DaKind> {
    let state = fixture.contract.state.lock();
    state.batches.iter().map(|record| record.header.da_kind).collect()
}

#[tokio::test]
async fn while_a_backend_is_away_batches_go_through_the_next() {
    let server = AltDaServer::start().await.unwrap();
    let alt_da = Arc::new(AltDaBackend::new(&AltDaConfig::at(server.url())).unwrap());
    let mut fixture = Fixture::new();
    let switching =
        SwitchingConfig { sticky_batches: 3, pause: Duration::ZERO, ..SwitchingConfig::default() };
    with_backends(&mut fixture, vec![alt_da, Arc::new(L1BlobBackend::default())], &switching);
    let mut in_use = fixture.poster.in_use.subscribe();

    server.set_fault(Some(AltDaFault::Status(503)));
    fixture.close(0);
    fixture.settle().await;
    assert_eq!(kinds(&fixture), [DaKind::L1Blob]);
    assert_eq!(*in_use.borrow_and_update(), DaKind::L1Blob);
    server.set_fault(None);
    for _ in 0..4 {
        fixture.close(0);
    }
    fixture.settle().await;
    let (blob, alt_da) = (DaKind::L1Blob, DaKind::AltDa);
    assert_eq!(kinds(&fixture), [blob, blob, blob, alt_da, alt_da], "not before three batches");
    assert_eq!(*in_use.borrow_and_update(), alt_da);

    // With nothing to go to, it is waited for.
    server.set_fault(Some(AltDaFault::Status(500)));
    let only = AltDaBackend::new(&AltDaConfig::at(server.url())).unwrap();
    with_backends(&mut fixture, vec![Arc::new(only)], &switching);
    fixture.close(0);
    for _ in 0..5 {
        assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));
    }
    server.set_fault(Some(AltDaFault::Status(403)));
    assert!(fixture.halt().await.contains("alt_da does not take batch 6"));
    server.set_fault(None);
    fixture.settle().await;
    assert_eq!(kinds(&fixture).len(), 6);
}

/// An alt-DA server commits to the same bytes in another way each time, and a transaction that was sent cannot change.
#[tokio::test]
async fn a_batch_is_put_somewhere_once_however_often_it_is_posted() {
    let server = AltDaServer::start().await.unwrap();
    let alt_da = || Arc::new(AltDaBackend::new(&AltDaConfig::at(server.url())).unwrap());
    let mut fixture = Fixture::new();
    let switching = SwitchingConfig::default();
    with_backends(&mut fixture, vec![alt_da(), Arc::new(L1BlobBackend::default())], &switching);
    fixture.close(0);
    fixture.contract.change(|state| state.reverts = 1);
    assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));

    // After a restart, with the server away and another order, it is still the same transaction.
    server.set_fault(Some(AltDaFault::Status(503)));
    with_backends(&mut fixture, vec![Arc::new(L1BlobBackend::default()), alt_da()], &switching);
    fixture.settle().await;
    let state = fixture.contract.state.lock();
    assert_eq!((state.sent.len(), server.len()), (2, 1));
    assert_eq!(state.sent[0], state.sent[1]);
    assert_eq!(state.pointers[0], state.pointers[1]);
}

/// Where an alt-DA server would put it now is another place than the transaction names that may be on its way.
#[tokio::test]
async fn a_batch_that_its_layer_has_lost_is_not_paid_for() {
    let server = AltDaServer::start().await.unwrap();
    let alt_da = Arc::new(AltDaBackend::new(&AltDaConfig::at(server.url())).unwrap());
    let mut fixture = Fixture::new();
    with_backends(&mut fixture, vec![alt_da], &SwitchingConfig::default());
    fixture.close(0);
    fixture.contract.change(|state| state.reverts = 1);
    assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));

    for fault in [AltDaFault::Forgets, AltDaFault::Lies] {
        server.set_fault(Some(fault));
        let told = fixture.halt().await;
        assert!(told.contains("alt_da took batch 1 and does not have it any more"), "{told}");
    }
    assert_eq!((fixture.contract.state.lock().sent.len(), server.len()), (1, 1));
    server.set_fault(None);
    fixture.settle().await;
    assert_eq!((fixture.contract.state.lock().sent.len(), server.len()), (2, 1));
}

#[tokio::test]
async fn a_batch_that_its_layer_has_lost_is_put_there_again_where_its_place_is_its_digests() {
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    let store = ObjectStoreBackend::open(&ObjectStoreConfig::at(url)).unwrap();
    let mut fixture = Fixture::new();
    with_backends(&mut fixture, vec![Arc::new(store)], &SwitchingConfig::default());
    fixture.close(0);
    fixture.contract.change(|state| state.reverts = 1);
    assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));

    let digest = fixture.outbox.entry(1).unwrap().digest;
    let object = folder.path().join(hex::encode(digest));
    std::fs::remove_file(&object).unwrap();
    fixture.settle().await;
    assert_eq!(batch_digest(&std::fs::read(&object).unwrap()), digest);
    let state = fixture.contract.state.lock();
    assert_eq!((state.batches.len(), &state.sent[0]), (1, &state.sent[1]));
}

#[tokio::test]
async fn a_much_cheaper_backend_is_used_where_prices_count() {
    let mut fixture = Fixture::new();
    let switching = SwitchingConfig {
        sticky_batches: 0,
        cheaper_percent: Some(30),
        ..SwitchingConfig::default()
    };
    let backends: Vec<Arc<dyn DaBackend>> =
        vec![Arc::new(L1BlobBackend::default()), Arc::new(L1CalldataBackend)];
    with_backends(&mut fixture, backends, &switching);
    let market = |blob_base_fee| Market { base_fee: 10, tip: 1, blob_base_fee };
    // Blobs are cheap again the last time, but for so small a batch not by so much.
    let times = [(1, DaKind::L1Blob), (1_000, DaKind::L1Calldata), (1, DaKind::L1Calldata)];
    for (blob_base_fee, kind) in times {
        fixture.contract.change(|state| state.market = market(blob_base_fee));
        fixture.close(0);
        fixture.settle().await;
        assert_eq!(kinds(&fixture).last(), Some(&kind), "at {blob_base_fee} wei");
    }
}
