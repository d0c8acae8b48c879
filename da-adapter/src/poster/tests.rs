mod backends;
mod contract;
mod foreign;
mod in_flight;
mod overdue;

use std::slice;

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, TxHash, U256},
    sol_types::SolError,
};
use async_trait::async_trait;
use millrace_l1::{Market, RevertReason, Rollup};
use millrace_proto::{Batch, Commitment, ExecutedBlock, L1Ref, PostedBatch, QueueMark};
use parking_lot::Mutex;

use self::contract::{TestContract, l1};
use super::*;
use crate::{
    alt_da_server::{AltDaFault, AltDaServer},
    backend::{AltDaBackend, L1BlobBackend, L1CalldataBackend},
    config::{AltDaConfig, SwitchingConfig},
    outbox::{Archived, Cursor},
    testing::{
        CHAIN, CHAIN_ID, Chain, Judged, TestExecutor, TestExecutorHandle, accumulator, open_outbox,
    },
};

struct Fixture {
    folder: tempfile::TempDir,
    outbox: Arc<Outbox>,
    contract: Arc<TestContract>,
    poster: Poster,
    chain: Chain,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::new("a");
        let outbox = open_outbox(folder.path());
        outbox.begin(chain.cursor(), 0).unwrap();
        let contract = Arc::new(TestContract::default());
        let poster = poster(&outbox, &contract);
        Self { folder, outbox, contract, poster, chain }
    }

    /// Closes a batch of one new block.
    fn close(&mut self, deposits: u64) -> Arc<ExecutedBlock> {
        let block = self.chain.block(deposits, &[Bytes::new()]);
        self.close_blocks(slice::from_ref(&block));
        block
    }

    /// Closes a batch.
    fn close_blocks(&self, blocks: &[Arc<ExecutedBlock>]) {
        let (first, last) = (blocks.first().expect("a block"), blocks.last().expect("a block"));
        let cursor = self.outbox.cursor().unwrap();
        let batch = Batch::from_blocks(CHAIN_ID, cursor.deposits_end, cursor.block.hash, blocks);
        let data = batch.unwrap().encode(1).unwrap();
        let queue = QueueMark::of(&last.header).expect("a header of ours");
        let after = Cursor::new(cursor.batch + 1, last.num_hash(), queue);
        let entry = BatchEntry {
            number: after.batch,
            first_block: first.number(),
            last_block: last.number(),
            deposits_end: after.deposits_end,
            deposits_hash: after.deposits_hash,
            digest: batch_digest(&data),
            size: data.len() as u64,
            transactions: blocks.len() as u64,
            closed_at: unix_millis(),
            post: None,
        };
        assert!(self.outbox.close(entry, &data, cursor, after).unwrap());
    }

    async fn halt(&mut self) -> String {
        match self.poster.step().await {
            Err(StepError::Halt(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Steps until there is nothing to do.
    async fn settle(&mut self) {
        while self.poster.step().await.unwrap() != Step::Idle {}
    }
}

fn poster(outbox: &Arc<Outbox>, contract: &Arc<TestContract>) -> Poster {
    poster_to(outbox, contract, vec![Arc::new(L1BlobBackend::default())])
}

fn poster_to(
    outbox: &Arc<Outbox>,
    contract: &Arc<TestContract>,
    backends: Vec<Arc<dyn DaBackend>>,
) -> Poster {
    let metrics = DaMetrics::new();
    Poster {
        target: contract.clone(),
        executor: Arc::new(TestExecutorHandle(TestExecutor::new(Chain::new("a").head()))),
        settlement: Arc::new(Judged::default()),
        switch: SwitchingConfig::default().switch(&backends),
        in_use: watch::channel(backends[0].kind()).0,
        backends,
        outbox: outbox.clone(),
        max_spend: None,
        archives: false,
        halts: Arc::new(Halts::new(metrics.clone())),
        metrics,
        chain: CHAIN,
        poll_interval: Duration::from_secs(1),
        max_retry_interval: Duration::from_secs(2),
        failures: Failures::default(),
        max_in_flight: 1,
        flying_cost: U256::ZERO,
        window: watch::Sender::new(None),
        window_seen: None,
        window_margin: Duration::ZERO,
        refusal: watch::Sender::new(None),
        closed_again: None,
        known: None,
    }
}

#[tokio::test]
async fn batches_are_posted_in_order_and_counted() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Idle);
    for _ in 0..3 {
        fixture.close(0);
    }
    fixture.settle().await;
    let summary = fixture.outbox.summary();
    assert_eq!((summary.posted, summary.posted_block, summary.backlog_batches), (3, 3, 0));
    assert_eq!(
        (summary.totals.transactions, summary.totals.fees),
        (3, U256::from(21_000_000_000u64))
    );
    let held = fixture.contract.state.lock().batches.clone();
    for record in held {
        let entry = fixture.outbox.entry(record.header.number).unwrap();
        assert_eq!((entry.digest, entry.post.unwrap().l1), (record.header.digest, record.l1));
    }
}

#[tokio::test]
async fn what_a_reorg_drops_is_posted_again() {
    let mut fixture = Fixture::new();
    for _ in 0..4 {
        fixture.close(0);
    }
    fixture.settle().await;
    let before = fixture.outbox.summary();
    fixture.contract.reorg(1);
    fixture.settle().await;
    assert_eq!(fixture.outbox.summary(), before);
    let sent = fixture.contract.state.lock().sent.clone();
    assert_eq!(sent.len(), 7);
    assert_eq!(sent[1..4], sent[4..7], "the same intents");
}

#[tokio::test]
async fn a_restart_between_posting_and_noting_it_posts_nothing_twice() {
    let mut fixture = Fixture::new();
    fixture.close(0);
    fixture.settle().await;
    // As if the process had been killed before it saw its batch.
    fixture.outbox.unmark_after(0).unwrap();
    drop((fixture.poster, fixture.outbox));
    let outbox = open_outbox(fixture.folder.path());
    let mut poster = poster(&outbox, &fixture.contract);
    assert_eq!(poster.step().await.unwrap(), Step::Idle);
    assert_eq!(outbox.summary().posted, 1);
    assert_eq!(fixture.contract.state.lock().sent.len(), 1);
}

#[tokio::test]
async fn the_window_is_that_of_the_next_batch() {
    let mut fixture = Fixture::new();
    let left = |fixture: &Fixture| {
        let window = fixture.poster.window.borrow().expect("it was looked at");
        window.left(Instant::now()).seconds
    };
    fixture.contract.change(|contract| contract.deposits = 1);
    fixture.close(0);
    fixture.contract.change(|contract| contract.reverts = 1);
    fixture.poster.step().await.unwrap_err();
    assert!((100..=120).contains(&left(&fixture)), "the deposit is left out");
    fixture.poster.step().await.unwrap();
    fixture.close(1);
    fixture.poster.step().await.unwrap();
    assert!(left(&fixture) > 1_000, "it is taken");
}

#[tokio::test]
async fn a_poster_whose_epoch_is_over_pays_for_nothing() {
    let mut fixture = Fixture::new();
    fixture.close(0);
    fixture.contract.change(|contract| contract.epoch = 1);
    let StepError::Halt(reason) = fixture.poster.step().await.unwrap_err() else { panic!() };
    assert!(reason.contains("epoch 0") && reason.contains("epoch 1"), "{reason}");
    assert!(fixture.contract.state.lock().sent.is_empty());
}

#[tokio::test]
async fn an_epoch_that_a_reorg_took_is_begun_again() {
    let mut fixture = Fixture::new();
    fixture.outbox.begin(fixture.chain.cursor(), 1).unwrap();
    fixture.close(0);
    assert!(matches!(fixture.poster.step().await.unwrap_err(), StepError::Retry(_)));
    assert_eq!(fixture.contract.state.lock().epoch, 1);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
}

#[tokio::test]
async fn deposits_that_l1_lost_or_replaced_are_waited_for() {
    let mut fixture = Fixture::new();
    fixture.close(3);
    assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));
    fixture.contract.state.lock().deposits = 3;
    fixture.settle().await;
    assert_eq!(fixture.outbox.summary().posted, 1);

    let cursor = fixture.outbox.cursor().unwrap();
    let wrong = Cursor { batch: 2, deposits_hash: B256::repeat_byte(1), ..cursor };
    let data = fixture.outbox.data(1).unwrap().unwrap();
    let entry = BatchEntry {
        number: 2,
        deposits_hash: wrong.deposits_hash,
        post: None,
        ..fixture.outbox.entry(1).unwrap()
    };
    assert!(fixture.outbox.close(entry, &data, cursor, wrong).unwrap());
    let Err(StepError::Retry(reason)) = fixture.poster.step().await else {
        panic!("it cannot go on")
    };
    assert!(reason.to_string().contains("other deposits than L1 holds"), "{reason}");
}

#[tokio::test]
async fn a_batch_that_reverts_twice_is_not_paid_for_again() {
    let mut fixture = Fixture::new();
    fixture.close(0);
    fixture.contract.state.lock().reverts = 100;
    assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));
    for _ in 0..3 {
        fixture.halt().await;
    }
    assert_eq!(fixture.contract.state.lock().sent.len(), 2);
}

#[tokio::test]
async fn an_account_without_the_role_is_told_so() {
    let mut fixture = Fixture::new();
    fixture.contract.change(|contract| contract.is_stranger = true);
    fixture.close(0);
    for _ in 1..TRIES {
        assert!(matches!(fixture.poster.step().await, Err(StepError::Retry(_))));
    }
    let told = fixture.halt().await;
    assert!(told.contains("BATCHER_ROLE"), "{told}");
}

#[tokio::test]
async fn final_batches_are_pruned_and_a_moved_one_is_found_again() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        fixture.close(0);
    }
    fixture.settle().await;
    // The second one was included again, in another block, and that is final.
    fixture.contract.change(|state| {
        state.batches[1].l1 = l1(50);
        state.finalized = 2;
    });
    fixture.settle().await;
    assert_eq!(fixture.outbox.entry(2).unwrap().post.unwrap().l1, l1(50));
    assert!(fixture.outbox.data(2).unwrap().is_some());
    fixture.contract.state.lock().finalized = 60;
    fixture.settle().await;
    assert_eq!(fixture.outbox.entries().len(), 1);
    assert_eq!(fixture.outbox.data(3).unwrap(), None);
    let summary = fixture.outbox.summary();
    assert_eq!((summary.posted, summary.totals.transactions), (3, 3));

    fixture.contract.reorg(1);
    let reason = fixture.halt().await;
    assert!(reason.contains("was final on L1 before"), "{reason}");
}

#[tokio::test]
async fn damaged_bytes_are_never_paid_for() {
    let mut fixture = Fixture::new();
    fixture.close(0);
    let cursor = fixture.outbox.cursor().unwrap();
    let entry = fixture.outbox.entry(1).unwrap();
    assert!(fixture.outbox.close(entry, b"torn", cursor, cursor).unwrap());
    let error = fixture.poster.step().await.unwrap_err();
    assert!(
        matches!(error, StepError::Run(DaAdapterRunError::Damaged { number: 1, .. })),
        "{error}"
    );
    let entry = BatchEntry { digest: batch_digest(b"no batch"), ..entry };
    assert!(fixture.outbox.close(entry, b"no batch", cursor, cursor).unwrap());
    let error = fixture.poster.step().await.unwrap_err();
    assert!(
        matches!(error, StepError::Run(DaAdapterRunError::Undecodable { number: 1, .. })),
        "{error}"
    );
    assert!(fixture.contract.state.lock().sent.is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_l1_away_it_waits_and_then_catches_up() {
    let mut fixture = Fixture::new();
    fixture.contract.state.lock().down = true;
    let stop = CancellationToken::new();
    let outbox = fixture.outbox.clone();
    let running = tokio::spawn(poster(&outbox, &fixture.contract).run(stop.clone()));
    for _ in 0..3 {
        fixture.close(0);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(outbox.summary().backlog_batches, 3);
    assert!(!running.is_finished());

    fixture.contract.state.lock().down = false;
    let mut changed = outbox.watch();
    while outbox.summary().posted < 3 {
        changed.changed().await.unwrap();
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_days_limit_is_not_passed() {
    let mut fixture = Fixture::new();
    // A batch costs 7 gwei, as the test's L1 has it; the market would have it cost 1.
    fixture.poster.max_spend = Some(U256::from(15_000_000_000_u64));
    let post = U256::from(95_000 + 131_072);
    fixture.contract.change(|state| {
        state.market = Market { base_fee: 4_424, tip: 0, blob_base_fee: 4_424 };
    });
    assert!((1_000_000_000..1_000_200_000).contains(&(post * U256::from(4_424)).to::<u64>()));
    for _ in 0..3 {
        fixture.close(0);
    }
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert!(
        fixture.halt().await.contains("max_ether_per_day is 0.000000015"),
        "14 and a little over 1"
    );
    // Also after a restart.
    drop((fixture.poster, fixture.outbox));
    fixture.outbox = open_outbox(fixture.folder.path());
    fixture.poster = poster(&fixture.outbox, &fixture.contract);
    fixture.poster.max_spend = Some(U256::from(15_000_000_000_u64));
    fixture.halt().await;
    assert_eq!(fixture.outbox.spent_on(today() + 1), U256::ZERO, "tomorrow it goes on");
    fixture.poster.max_spend = Some(U256::from(16_000_000_000_u64));
    fixture.settle().await;
    assert_eq!(fixture.outbox.spent_on(today()), U256::from(21_000_000_000_u64));
}

#[tokio::test]
async fn what_is_not_in_the_archive_yet_is_kept() {
    let mut fixture = Fixture::new();
    fixture.poster.archives = true;
    for _ in 0..3 {
        fixture.close(0);
    }
    fixture.settle().await;
    fixture.contract.change(|state| state.finalized = 100);
    fixture.settle().await;
    let kept =
        |fixture: &Fixture| [1, 2, 3].map(|number| fixture.outbox.data(number).unwrap().is_some());
    assert_eq!(kept(&fixture), [true; 3]);
    let archived = |batch| Archived { batch, ..Archived::default() };
    fixture.outbox.mark_archived(archived(2)).unwrap();
    fixture.settle().await;
    assert_eq!(kept(&fixture), [false, false, true]);
    assert_eq!(fixture.outbox.submitted(2).unwrap(), None);
}
