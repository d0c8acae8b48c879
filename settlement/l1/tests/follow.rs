//! Following L1 through reorgs, on anvil.

mod common;

use std::sync::Arc;

use alloy::primitives::{Address, B256};
use common::{Chain, soon, until};
use millrace_l1::{
    DepositError, DepositInbox, L1Follower, L1Update, RollupContract, RollupEvent,
    testing::AnvilOptions,
};
use millrace_proto::{L1Inbox, QueueEntry, QueueMark, Standing};

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

/// Before the first entry.
const START: QueueMark = QueueMark { end: 0, hash: B256::ZERO, forced: 0 };

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
    assert!(inbox.entries(START, 10).await.expect("deposits").is_empty());
    chain.deposit(TO, 3).await;
    until("the first deposit", async || {
        inbox.entries(START, 10).await.expect("deposits").len() == 1
    })
    .await;
    chain.anvil.mine(2).await.expect("mine");
    until("all deposits", async || inbox.entries(START, 10).await.expect("deposits").len() == 3)
        .await;

    assert_eq!(values(&inbox.entries(START, 2).await.expect("deposits")), [1, 2]);
    assert_eq!(values(&inbox.entries(mark(&chain, 2).await, 10).await.expect("deposits")), [3]);
    assert!(inbox.entries(mark(&chain, 3).await, 10).await.expect("deposits").is_empty());
    // Back to what memory no longer holds.
    until("the first ones again", async || {
        values(&inbox.entries(START, 10).await.expect("deposits")) == [1, 2, 3]
    })
    .await;
    // A fresh start in the middle.
    let fresh = DepositInbox::new(chain.rollup.clone(), 2);
    assert_eq!(values(&fresh.entries(mark(&chain, 1).await, 10).await.expect("deposits")), [2, 3]);
}

/// Where the queue is after its first entries.
async fn mark(chain: &Chain, end: u64) -> QueueMark {
    let hash = chain.rollup.deposit_accumulator(end).await.expect("the contract answers");
    QueueMark { end, hash, forced: 0 }
}

/// Waits until the inbox says that entries have vanished, and returns what it says.
async fn vanished(inbox: &DepositInbox, after: QueueMark) -> Option<u64> {
    let said = std::sync::Mutex::new(None);
    until("the alarm", async || match inbox.confirmed(after, 10).await {
        Ok(deposits) => {
            assert!(deposits.is_empty(), "{deposits:?}");
            false
        }
        Err(DepositError::Vanished { end, missing_at }) => {
            assert_eq!(end, after.end);
            *said.lock().expect("no panic") = Some(missing_at);
            true
        }
        Err(DepositError::L1(error)) if error.is_retryable() => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    let said = said.lock().expect("no panic");
    said.expect("it was said")
}

#[tokio::test]
async fn a_reorg_above_the_confirmations_goes_unnoticed_and_one_below_is_told() {
    let chain = Chain::start(AnvilOptions::default()).await;
    let inbox = DepositInbox::new(chain.rollup.clone(), 2);
    chain.deposit(TO, 1).await;
    chain.anvil.mine(2).await.expect("mine");
    chain.deposit(TO, 2).await;
    assert_eq!(values(&inbox.confirmed(START, 10).await.expect("deposits")), [1]);
    let first = mark(&chain, 1).await;

    chain.anvil.reorg(1).await.expect("reorg");
    chain.deposit(TO, 3).await;
    chain.anvil.mine(3).await.expect("mine");
    until("the deposit that replaced another one", async || {
        let next = inbox.confirmed(first, 10).await.expect("deposits");
        values(&next) == [3]
    })
    .await;
    let second = mark(&chain, 2).await;
    assert_eq!(inbox.standing(second).await.expect("an answer"), Standing::Whole);

    // Both deposits that were handed out vanish, and others take their places.
    chain.anvil.reorg(9).await.expect("reorg");
    for value in [8, 9, 10] {
        chain.deposit(TO, value).await;
    }
    chain.anvil.mine(3).await.expect("mine");
    assert_eq!(vanished(&inbox, second).await, None, "others are in their place");
    assert_eq!(inbox.standing(second).await.expect("an answer"), Standing::Replaced);
    assert_eq!(inbox.standing(first).await.expect("an answer"), Standing::Replaced);
    assert_eq!(inbox.standing(START).await.expect("an answer"), Standing::Whole);
    until("what came instead", async || {
        let deposits = inbox.confirmed(START, 10).await.expect("deposits");
        values(&deposits) == [8, 9, 10]
    })
    .await;

    // They vanish as well, and nothing takes their places: also for an inbox that has seen nothing before.
    let third = mark(&chain, 3).await;
    chain.anvil.reorg(6).await.expect("reorg");
    chain.anvil.mine(3).await.expect("mine");
    let fresh = DepositInbox::new(chain.rollup.clone(), 2);
    for inbox in [&inbox, &fresh] {
        let confirmed = chain.client().head().await.expect("head").number - 2;
        let confirmed = chain.client().block(confirmed).await.expect("block").expect("it is there");
        assert_eq!(vanished(inbox, third).await, Some(confirmed.timestamp));
    }
}
