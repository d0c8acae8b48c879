//! Several posts on their way at a time.

use super::*;

impl TestContract {
    /// Waits until so many posts were begun.
    async fn begun(&self, count: usize) -> Vec<(u64, bool)> {
        let mut moved = self.moved.subscribe();
        while self.state.lock().begun.len() < count {
            moved.changed().await.unwrap();
        }
        self.state.lock().begun.clone()
    }

    fn let_go(&self, batch: u64) {
        self.state.lock().held.remove(&batch);
        self.moved.send_replace(());
    }
}

#[tokio::test]
async fn batches_go_on_their_way_behind_each_other() {
    let mut fixture = Fixture::new();
    for _ in 0..5 {
        fixture.close(0);
    }
    let contract = fixture.contract.clone();
    contract.change(|state| state.held.extend(1..=5));
    fixture.poster.max_in_flight = 3;
    let mut poster = fixture.poster;
    let stepping = tokio::spawn(async move { (poster.step().await, poster) });
    assert_eq!(contract.begun(3).await, [(1, false), (2, true), (3, true)]);
    // Not more than three, and none is there before the one before it.
    assert!(contract.state.lock().sent.is_empty());
    for batch in 1..=3 {
        contract.let_go(batch);
    }
    let (step, mut poster) = stepping.await.unwrap();
    assert_eq!(step.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.summary().posted, 3);
    contract.change(|state| state.held.clear());
    while poster.step().await.unwrap() != Step::Idle {}
    assert_eq!(fixture.outbox.summary().posted, 5);
    assert_eq!(contract.begun(5).await[3..], [(4, false), (5, true)]);
}

#[tokio::test]
async fn a_batch_that_fails_behind_another_is_posted_again_after_it() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        fixture.close(0);
    }
    let contract = fixture.contract.clone();
    contract.change(|state| {
        state.held.insert(1);
        state.reverts = 1;
    });
    fixture.poster.max_in_flight = 2;
    let mut poster = fixture.poster;
    let stepping = tokio::spawn(async move { (poster.step().await, poster) });
    // The second one ends first, and reverts.
    while contract.state.lock().sent.len() != 1 {
        tokio::task::yield_now().await;
    }
    assert!(contract.state.lock().sent[0].starts_with("post-2-"));
    contract.let_go(1);
    let (step, mut poster) = stepping.await.unwrap();
    assert_eq!(step.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.summary().posted, 1);
    // It was not its own fault.
    contract.change(|state| state.reverts = 1);
    assert!(matches!(poster.step().await, Err(StepError::Retry(_))));
    while poster.step().await.unwrap() != Step::Idle {}
    assert_eq!(fixture.outbox.summary().posted, 2);
}

#[tokio::test]
async fn batches_on_their_way_count_against_the_days_limit() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        fixture.close(0);
    }
    let contract = fixture.contract.clone();
    let gwei = 1_000_000_000;
    contract.change(|state| {
        state.market = Market { base_fee: gwei, tip: 0, blob_base_fee: gwei };
        state.held.extend(1..=3);
    });
    let market = contract.state.lock().market;
    let one = L1BlobBackend::default().l1_cost(1_000, &market);
    fixture.poster.max_spend = Some(one * U256::from(5) / U256::from(2));
    fixture.poster.max_in_flight = 3;
    let mut poster = fixture.poster;
    let stepping = tokio::spawn(async move { poster.step().await });
    assert_eq!(contract.begun(2).await, [(1, false), (2, true)]);
    for batch in 1..=3 {
        contract.let_go(batch);
    }
    assert_eq!(stepping.await.unwrap().unwrap(), Step::Posted);
    assert_eq!(contract.state.lock().begun.len(), 2, "the third is over the limit");
}
