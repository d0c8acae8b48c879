//! Following L1 through reorgs, on anvil.

mod common;

use std::sync::Arc;

use alloy::primitives::{Address, U256};
use common::{Chain, soon, until};
use millrace_l1::{
    DepositError, DepositInbox, L1Follower, L1Update, RollupContract, RollupEvent,
    testing::AnvilOptions,
};
use millrace_proto::{L1Inbox, QueueEntry};

const TO: Address = Address::repeat_byte(7);

/// What a consumer of updates holds: the events that stand.
#[derive(Default)]
struct Consumer {
    events: Vec<RollupEvent>,
    reverts: Vec<u64>,
}

impl Consumer {
    fn apply(&mut self, update: L1Update) {
        if let Some(block) = update.reverted_to {
            self.reverts.push(block.number);
            self.events.retain(|event| event.l1().block.number <= block.number);
        }
        self.events.extend(update.events);
    }

    async fn follow_to(&mut self, follower: &mut L1Follower, chain: &Chain) {
        let head = chain.client().head().await.expect("head");
        while follower.cursor() != head.id() {
            let update = soon("an update", follower.next()).await.expect("update");
            self.apply(update);
        }
    }

    fn values(&self) -> Vec<u64> {
        self.events
            .iter()
            .map(|event| match event {
                RollupEvent::Queued { entry, .. } => value(entry),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

async fn canonical(rollup: &RollupContract) -> Vec<RollupEvent> {
    let head = rollup.client().head().await.expect("head").number;
    rollup.events(0, head).await.expect("events")
}

#[tokio::test]
async fn reorgs_of_1_and_5_blocks_are_unwound_exactly() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    let mut consumer = Consumer::default();
    for value in 1..=6 {
        chain.deposit(TO, value).await;
    }
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 4, 5, 6]);
    let head = follower.cursor().number;

    chain.anvil.reorg(1).await.expect("reorg");
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 4, 5]);
    assert_eq!(consumer.reverts, [head - 1]);

    chain.deposit(TO, 10).await;
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 4, 5, 10]);
    let head = follower.cursor().number;

    chain.anvil.reorg(5).await.expect("reorg");
    chain.deposit(TO, 20).await;
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.reverts.last(), Some(&(head - 5)));
    assert_eq!(consumer.events, canonical(&chain.rollup).await);
    assert_eq!(consumer.values().last(), Some(&20));
}

#[tokio::test]
async fn a_follower_resumes_where_it_was_and_notices_a_reorg_meanwhile() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    let mut consumer = Consumer::default();
    for value in 1..=4 {
        chain.deposit(TO, value).await;
    }
    consumer.follow_to(&mut follower, &chain).await;
    let points: Vec<_> = follower.points().collect();
    drop(follower);

    chain.deposit(TO, 5).await;
    let mut follower =
        L1Follower::resume(chain.rollup.clone(), points.clone()).await.expect("follower");
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 4, 5]);
    assert!(consumer.reverts.is_empty());
    let points: Vec<_> = follower.points().collect();
    drop(follower);

    chain.anvil.reorg(2).await.expect("reorg");
    chain.deposit(TO, 6).await;
    let mut follower = L1Follower::resume(chain.rollup.clone(), points).await.expect("follower");
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 6]);
    assert_eq!(consumer.reverts.len(), 1);

    // With the cursor alone, a reorg leads back to the start, and to the same events.
    let cursor = follower.cursor();
    chain.anvil.reorg(1).await.expect("reorg");
    chain.deposit(TO, 7).await;
    let mut follower = L1Follower::resume(chain.rollup.clone(), [cursor]).await.expect("follower");
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.values(), [1, 2, 3, 7]);
    assert_eq!(consumer.events, canonical(&chain.rollup).await);
}

#[tokio::test]
async fn catching_up_over_a_long_stretch_misses_and_doubles_nothing() {
    let chain = Chain::start(AnvilOptions::default()).await;
    for value in 1..=30 {
        chain.deposit(TO, value).await;
        chain.anvil.mine(10).await.expect("mine");
    }
    let options = millrace_l1::ClientOptions { log_range: 50, ..*chain.client().options() };
    let client = millrace_l1::L1Client::new(chain.anvil.url().clone(), options).expect("client");
    let rollup = RollupContract::new(client, chain.rollup.address());
    let mut follower = L1Follower::from_start(rollup).await.expect("follower");
    let mut consumer = Consumer::default();
    consumer.follow_to(&mut follower, &chain).await;
    assert_eq!(consumer.events, canonical(&chain.rollup).await);
    assert_eq!(consumer.values(), (1..=30).collect::<Vec<_>>());
    assert!(consumer.reverts.is_empty());
}

#[tokio::test]
async fn finality_is_news_of_its_own() {
    let options = AnvilOptions { slots_in_an_epoch: Some(2), ..AnvilOptions::default() };
    let chain = Chain::start(options).await;
    chain.anvil.mine(10).await.expect("mine");
    let mut follower = L1Follower::from_start(chain.rollup.clone()).await.expect("follower");
    let update = soon("an update", follower.next()).await.expect("update");
    assert_eq!(update.head, update.latest);
    assert_eq!(update.finalized.map(|block| block.number), Some(update.head.number - 4));
    assert!(follower.poll().await.expect("poll").is_none(), "nothing has changed");
}

fn value(entry: &QueueEntry) -> u64 {
    let QueueEntry::Deposit(deposit) = entry else { panic!("{entry:?}") };
    deposit.value.to()
}

fn values(entries: &[QueueEntry]) -> Vec<u64> {
    entries.iter().map(value).collect()
}

#[tokio::test]
async fn deposits_come_once_they_are_confirmed() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let inbox = Arc::new(DepositInbox::new(chain.rollup.clone(), 2));
    assert_eq!(inbox.rollup(), chain.rollup.address());
    chain.deposit(TO, 1).await;
    chain.deposit(TO, 2).await;
    assert!(inbox.entries(0, 10).await.expect("deposits").is_empty());
    chain.deposit(TO, 3).await;
    until("the first deposit", async || inbox.entries(0, 10).await.expect("deposits").len() == 1)
        .await;
    chain.anvil.mine(2).await.expect("mine");
    until("all deposits", async || inbox.entries(0, 10).await.expect("deposits").len() == 3).await;

    assert_eq!(values(&inbox.entries(0, 2).await.expect("deposits")), [1, 2]);
    assert_eq!(values(&inbox.entries(2, 10).await.expect("deposits")), [3]);
    assert!(inbox.entries(3, 10).await.expect("deposits").is_empty());
    // Back to what memory no longer holds.
    until("the first ones again", async || {
        values(&inbox.entries(0, 10).await.expect("deposits")) == [1, 2, 3]
    })
    .await;
    // A fresh start in the middle.
    let fresh = DepositInbox::new(chain.rollup.clone(), 2);
    assert_eq!(values(&fresh.entries(1, 10).await.expect("deposits")), [2, 3]);
}

#[tokio::test]
async fn a_reorg_above_the_confirmations_goes_unnoticed_and_one_below_stops_deposits() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let inbox = DepositInbox::new(chain.rollup.clone(), 2);
    chain.deposit(TO, 1).await;
    chain.anvil.mine(2).await.expect("mine");
    chain.deposit(TO, 2).await;
    assert_eq!(values(&inbox.confirmed(0, 10).await.expect("deposits")), [1]);

    chain.anvil.reorg(1).await.expect("reorg");
    chain.deposit(TO, 3).await;
    chain.anvil.mine(3).await.expect("mine");
    until("the deposit that replaced another one", async || {
        let next = inbox.confirmed(1, 10).await.expect("deposits");
        values(&next) == [3]
    })
    .await;

    // Both deposits that were handed out vanish, and others take their places.
    chain.anvil.reorg(9).await.expect("reorg");
    for value in [8, 9, 10] {
        chain.deposit(TO, value).await;
    }
    chain.anvil.mine(3).await.expect("mine");
    until("the alarm", async || match inbox.confirmed(2, 10).await {
        Ok(deposits) => {
            assert!(deposits.is_empty(), "{deposits:?}");
            false
        }
        Err(DepositError::Replaced { count, .. }) => count == 2,
        Err(DepositError::L1(error)) if error.is_retryable() => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(chain.rollup.deposit_count().await.expect("count"), 3);
    assert_ne!(U256::ZERO, chain.client().balance(chain.rollup.address()).await.expect("balance"));
}
