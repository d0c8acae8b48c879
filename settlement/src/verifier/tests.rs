use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256},
};
use millrace_l1::{L1Block, L1Update, RollupEvent};
use millrace_proto::{
    AccountNames, BatchPoint, Commitment, KeyHints, PostedBatch, SettlementStatus,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Verifier;
use crate::{
    SettlementConfig,
    derivation::{Derivation, DerivationHead, batch_hash},
    error::SettlementRunError,
    execution::{ExecutionError, ReplayReader, ReplayWorker},
    halt::HaltReason,
    shared::Shared,
    store::{Identity, Outcome, Store},
    testing::{
        CHAIN_ID, POISON, TestChain, TestExecutor, TestReader, TestReplay, l1_hash, l1_ref, post,
        transfer,
    },
};

const ROLLUP: Address = Address::repeat_byte(0x11);

/// A sequencer's chain, L1 records of it, and what a verifier needs.
struct Case {
    _dir: TempDir,
    chain: TestChain,
    reader: TestReader,
    shared: Shared,
    replayed: TestChain,
    executed: Arc<Mutex<u64>>,
    batches: Vec<PostedBatch>,
    running: Option<(CancellationToken, JoinHandle<Result<(), SettlementRunError>>)>,
    blocks: Option<ReplayReader>,
}

impl Case {
    fn new() -> Self {
        Self::of(TestChain::new())
    }

    fn of(chain: TestChain) -> Self {
        for number in 1..=6 {
            chain.extend(100 + number, 0, vec![transfer(number, ROLLUP)]);
        }
        let dir = tempfile::tempdir().expect("a folder");
        let identity = Identity { chain_id: CHAIN_ID, rollup: ROLLUP, genesis_hash: B256::ZERO };
        let store = Store::open(dir.path(), identity).expect("opens");
        Self {
            _dir: dir,
            chain,
            reader: TestReader::new(),
            shared: Shared::new(store).expect("reads"),
            replayed: TestChain::new(),
            executed: Arc::default(),
            batches: Vec::new(),
            running: None,
            blocks: None,
        }
    }

    /// Encodes blocks as the next batch without making its bytes readable.
    fn post(&mut self, first: u64, last: u64, l1_block: u64) -> alloy::primitives::Bytes {
        let bytes = self.chain.batch(first, last).encode(3).expect("encodes");
        self.post_bytes((first, last), l1_block, &bytes);
        bytes
    }

    /// Posts bytes as the batch of some blocks.
    fn post_bytes(&mut self, blocks: (u64, u64), l1_block: u64, bytes: &alloy::primitives::Bytes) {
        let number = self.batches.len() as u64 + 1;
        let mut posted = post(number, blocks, 0, bytes, l1_block);
        let previous = self.batches.last().map_or(B256::ZERO, |batch| batch.batch_hash);
        posted.batch_hash = batch_hash(previous, &posted);
        self.batches.push(posted);
    }

    fn publish(&mut self, first: u64, last: u64, l1_block: u64) {
        let bytes = self.post(first, last, l1_block);
        self.reader.publish(bytes);
    }

    /// Lets L1 show the posted batches from number `from` on, up to L1 block `head`.
    fn show(&self, reverted_to: Option<u64>, from: usize, head: u64, more: Vec<RollupEvent>) {
        let head = L1Block {
            number: head,
            hash: l1_hash(head, 0),
            parent_hash: l1_hash(head - 1, 0),
            timestamp: 1_000 + head,
        };
        let mut events: Vec<_> =
            self.batches[from - 1..].iter().cloned().map(RollupEvent::Posted).collect();
        events.extend(more);
        let update = L1Update {
            reverted_to: reverted_to.map(|number| BlockNumHash::new(number, l1_hash(number, 0))),
            events,
            head,
            latest: head,
            finalized: None,
            state: None,
        };
        self.shared.store.apply(&update).expect("applies");
        self.shared.refresh(Some(head.id())).expect("refreshes");
    }

    fn start(&mut self, sequencer: TestChain) {
        let replay = TestReplay {
            executed: Arc::clone(&self.executed),
            ..TestReplay::over(self.replayed.clone())
        };
        let verifier = Verifier {
            config: SettlementConfig {
                retry_min: Duration::from_millis(1),
                retry_max: Duration::from_millis(5),
                executor_poll: Duration::from_millis(1),
                ..SettlementConfig::default()
            },
            shared: self.shared.clone(),
            derivation: Derivation::new(&self.chain.spec(), ROLLUP),
            genesis: DerivationHead::of(&self.chain.block(0).expect("genesis").header)
                .expect("a head"),
            reader: Arc::new(self.reader.clone()),
            executor: Some(Arc::new(TestExecutor(sequencer))),
            replay: ReplayWorker::spawn(Box::new(replay)).expect("a thread"),
        };
        let stop = CancellationToken::new();
        self.blocks = Some(verifier.replay.reader());
        self.running = Some((stop.clone(), tokio::spawn(verifier.run(stop))));
    }

    fn reader_of_blocks(&self) -> &ReplayReader {
        self.blocks.as_ref().expect("it was started")
    }

    async fn stop(&mut self) {
        let (stop, running) = self.running.take().expect("it was started");
        stop.cancel();
        running.await.expect("no panic").expect("no failure");
    }

    /// Waits for a status.
    async fn wait(&self, what: impl FnMut(&SettlementStatus) -> bool) -> SettlementStatus {
        let mut status = self.shared.status();
        let reached = tokio::time::timeout(Duration::from_secs(30), status.wait_for(what)).await;
        reached.expect("in time").expect("the sender lives").clone()
    }

    async fn verified(&self, batch: u64) -> BatchPoint {
        let status = self.wait(|status| status.verified.is_some_and(|at| at.batch >= batch)).await;
        status.verified.expect("it was waited for")
    }

    async fn halted(&self) -> Arc<HaltReason> {
        self.wait(|status| status.halted.is_some()).await;
        self.shared.halted().expect("the status says so")
    }
}

#[tokio::test]
async fn batches_are_verified_in_order_and_invalid_ones_skipped() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.publish(4, 5, 11);
    case.publish(3, 6, 12);
    case.show(None, 1, 12, Vec::new());
    case.start(case.chain.clone());
    let point = case.verified(3).await;
    case.stop().await;
    assert_eq!((point.batch, point.last_block), (3, 6));
    assert_eq!(point.last_block_hash, Some(case.chain.head().hash()));
    let store = &case.shared.store;
    assert!(matches!(store.outcome(2).expect("reads"), Some(Outcome::Skipped(_))));
    assert_eq!(
        store.last_joined().expect("reads").map(|at| (at.batch, at.last_block)),
        Some((3, 6))
    );
    let Some(Outcome::Verified(first)) = store.outcome(1).expect("reads") else {
        panic!("the first batch is valid");
    };
    let last = case.chain.block(2).expect("a block");
    assert_eq!((first.first_block, first.last_block, first.transactions), (1, 2, 2));
    assert_eq!((first.last_block_hash, first.state_root), (last.hash(), last.header.state_root));
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.show(None, 1, 10, Vec::new());
    case.start(case.chain.clone());
    case.verified(1).await;
    case.stop().await;
    case.publish(3, 6, 11);
    case.show(None, 2, 11, Vec::new());
    case.start(case.chain.clone());
    case.verified(2).await;
    case.stop().await;
    assert_eq!(*case.executed.lock().expect("not poisoned"), 6, "every block once");
}

#[tokio::test]
async fn blocks_that_the_sequencer_does_not_have_yet_are_waited_for() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.show(None, 1, 10, Vec::new());
    let sequencer = TestChain::new();
    case.start(sequencer.clone());
    let end = case.chain.block(2).map(|block| block.num_hash());
    case.wait(|status| status.unmatched == end).await;
    for number in 1..=2 {
        sequencer.extend(100 + number, 0, vec![transfer(number, ROLLUP)]);
    }
    case.verified(1).await;
    case.stop().await;
}

#[tokio::test]
async fn a_sequencer_with_another_chain_takes_over_what_l1_holds() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.show(None, 1, 10, Vec::new());
    let other = TestChain::new();
    other.extend(101, 0, vec![transfer(1, ROLLUP)]);
    other.extend(109, 0, vec![transfer(2, ROLLUP)]);
    case.start(other.clone());
    let ours = case.chain.block(2).expect("a block");
    let end = Some(ours.num_hash());
    let status = case.wait(|status| status.halted.is_some() && status.unmatched == end).await;
    let why = status.halted.expect("it was waited for");
    for named in [format!("block 2 is {}", ours.hash()), other.head().hash().to_string()] {
        assert!(why.contains(&named), "{why}");
    }
    assert_eq!(case.shared.store.last_outcome().expect("reads"), 0, "nothing to commit");

    // The sequencer asks for the block and takes it over.
    let taken = case.reader_of_blocks().block(2).await.expect("it runs").expect("reads");
    assert_eq!(taken.expect("it was executed"), ours);
    other.truncate(1);
    other.extend(102, 0, vec![transfer(2, ROLLUP)]);
    let status = case.wait(|status| status.verified.is_some()).await;
    assert_eq!((status.unmatched, status.halted), (None, None));
    assert!(case.shared.halted().is_none(), "no restart is needed");
    case.stop().await;
}

#[tokio::test]
async fn a_batch_that_executes_to_something_else_halts() {
    let mut case = Case::of(TestChain::salted(1));
    case.publish(1, 2, 10);
    case.show(None, 1, 10, Vec::new());
    case.start(case.chain.clone());
    let reason = case.halted().await;
    case.stop().await;
    assert!(
        matches!(&*reason, HaltReason::ExecutorsDiffer(ExecutionError::Claim { .. })),
        "{reason}"
    );
}

#[tokio::test]
async fn a_batch_that_claims_what_nobody_has_is_skipped_and_leaves_nothing_behind() {
    let mut case = Case::new();
    // A stranger's: it joins the chain, and its blocks can be executed, but its claim is false.
    let mut batch = case.chain.batch(1, 2);
    batch.last_block_hash = B256::repeat_byte(6);
    let bytes = batch.encode(3).expect("encodes");
    case.post_bytes((1, 2), 10, &bytes);
    case.reader.publish(bytes);
    case.publish(1, 1, 11);
    case.publish(2, 4, 12);
    case.show(None, 1, 12, Vec::new());
    case.start(case.chain.clone());
    let point = case.verified(3).await;
    assert_eq!(point.last_block, 4);
    assert!(case.shared.halted().is_none());
    case.stop().await;
}

#[tokio::test]
async fn a_batch_that_claims_the_sequencers_hash_for_other_blocks_is_skipped() {
    let mut case = Case::new();
    let claimed = case.chain.block(2).expect("a block").hash();
    for (at, to) in [(0, Address::repeat_byte(8)), (1, POISON)] {
        let other = TestChain::new();
        other.extend(101, 0, vec![transfer(1, ROLLUP)]);
        other.extend(102, 0, vec![transfer(70 + at, to)]);
        let mut batch = other.batch(1, 2);
        batch.last_block_hash = claimed;
        let bytes = batch.encode(3).expect("encodes");
        case.post_bytes((1, 2), 10 + at, &bytes);
        case.reader.publish(bytes);
    }
    case.publish(1, 4, 12);
    case.show(None, 1, 12, Vec::new());
    case.start(case.chain.clone());
    assert_eq!(case.verified(3).await.last_block, 4);
    assert!(case.shared.halted().is_none());
    case.stop().await;
}

#[tokio::test]
async fn other_state_diffs_under_the_sequencers_header_are_skipped() {
    let mut case = Case::of(TestChain::of_diffs());
    case.replayed = TestChain::of_diffs();
    let mut batch = case.chain.diffs(1, 2);
    batch.delta.accounts.clear();
    let (hints, names) = Default::default();
    let wrong = batch.encode(3, &hints, &names).expect("encodes");
    case.post_bytes((1, 2), 10, &wrong);
    case.reader.publish(wrong);
    let right = case.chain.diffs(1, 4).encode(3, &hints, &names).expect("encodes");
    case.post_bytes((1, 4), 11, &right);
    case.reader.publish(right);
    case.show(None, 1, 11, Vec::new());
    case.start(case.chain.clone());
    assert_eq!(case.verified(2).await.last_block, 4);
    assert!(case.shared.halted().is_none());
    case.stop().await;
}

/// A chain of state diffs whose first batch names an account, which some of the sequencer and the verifier have.
fn of_names(sequencer_has: bool, verifier_has: bool) -> Case {
    let mut case = Case::of(TestChain::of_diffs());
    case.replayed = TestChain::of_diffs();
    let batch = case.chain.diffs(1, 2);
    let account = *batch.delta.accounts.keys().next().expect("something changed");
    let names = AccountNames::new(20, &[account], &[Some(account)]);
    let bytes = batch.encode(3, &KeyHints::default(), &names).expect("encodes");
    case.post_bytes((1, 2), 10, &bytes);
    case.reader.publish(bytes);
    let (hints, names) = Default::default();
    let whole = case.chain.diffs(1, 4).encode(3, &hints, &names).expect("encodes");
    case.post_bytes((1, 4), 11, &whole);
    case.reader.publish(whole);
    case.show(None, 1, 11, Vec::new());
    for (has, chain) in [(sequencer_has, &mut case.chain), (verifier_has, &mut case.replayed)] {
        chain.accounts.extend(has.then_some(account));
    }
    case
}

#[tokio::test]
async fn accounts_are_named_by_the_state_that_is_replayed() {
    let mut case = of_names(true, true);
    case.start(case.chain.clone());
    assert_eq!(case.verified(1).await.last_block, 2);
    case.stop().await;
}

#[tokio::test]
async fn a_batch_that_names_an_account_which_nobody_has_is_skipped() {
    let mut case = of_names(false, false);
    case.start(case.chain.clone());
    assert_eq!(case.verified(2).await.last_block, 4);
    assert!(case.shared.halted().is_none());
    case.stop().await;
}

/// The sequencer's batches are made with what its executor finds.
#[tokio::test]
async fn an_account_that_only_the_sequencer_has_halts() {
    let mut case = of_names(true, false);
    case.start(case.chain.clone());
    let reason = case.halted().await;
    case.stop().await;
    assert!(
        matches!(&*reason, HaltReason::ExecutorsDiffer(ExecutionError::Invalid { .. })),
        "{reason}"
    );
}

#[tokio::test]
async fn a_batch_that_l1_takes_back_is_given_up() {
    let mut case = Case::new();
    case.post(1, 4, 10);
    case.show(None, 1, 10, Vec::new());
    case.start(case.chain.clone());
    case.reader.missed().await;
    case.batches.clear();
    case.publish(1, 2, 11);
    case.show(Some(9), 1, 11, Vec::new());
    let point = case.verified(1).await;
    case.stop().await;
    assert_eq!(point.last_block, 2);
}

#[tokio::test]
async fn a_batch_that_comes_back_after_a_reorg_is_not_executed_again() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.publish(3, 4, 11);
    case.show(None, 1, 11, Vec::new());
    case.start(case.chain.clone());
    case.verified(2).await;
    // The same blocks come back, cut differently.
    case.batches.clear();
    case.publish(1, 1, 12);
    case.publish(2, 6, 12);
    case.show(Some(9), 1, 12, Vec::new());
    let status =
        case.wait(|status| status.verified.is_some_and(|point| point.last_block == 6)).await;
    case.stop().await;
    assert_eq!(status.halted, None);
    assert_eq!(*case.executed.lock().expect("not poisoned"), 6, "every block once");
}

#[tokio::test]
async fn other_blocks_under_executed_numbers_are_compared_with_the_sequencers() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.show(None, 1, 10, Vec::new());
    case.start(case.chain.clone());
    case.verified(1).await;
    let other = TestChain::new();
    other.extend(101, 0, vec![transfer(77, ROLLUP)]);
    let sequencer = std::mem::replace(&mut case.chain, other);
    case.batches.clear();
    case.publish(1, 1, 11);
    case.show(Some(9), 1, 11, Vec::new());
    let end = case.chain.block(1).map(|block| block.num_hash());
    case.wait(|status| status.halted.is_some() && status.unmatched == end).await;
    // L1 may return to what the sequencer has.
    case.chain = sequencer;
    case.batches.clear();
    case.publish(1, 2, 12);
    case.show(Some(9), 1, 12, Vec::new());
    let status = case.wait(|status| status.halted.is_none() && status.verified.is_some()).await;
    assert_eq!(status.unmatched, None);
    case.stop().await;
}

/// It has lost its data, or has left them for what its own L1 node showed.
#[tokio::test]
async fn a_sequencer_that_leaves_what_is_verified_is_told() {
    let mut case = Case::new();
    case.publish(1, 4, 10);
    case.show(None, 1, 10, Vec::new());
    let sequencer = case.chain.copy();
    case.start(sequencer.clone());
    case.verified(1).await;
    let end = case.chain.block(4).map(|block| block.num_hash());
    sequencer.truncate(1);
    case.wait(|status| status.unmatched == end).await;
    for number in 2..=4 {
        sequencer.extend(100 + number, 0, vec![transfer(number, ROLLUP)]);
    }
    case.wait(|status| status.unmatched.is_none()).await;
    case.stop().await;
}

/// A stranger's batch may claim what nobody has, beyond the sequencer's chain.
#[tokio::test]
async fn a_false_claim_beyond_the_sequencers_chain_is_skipped() {
    let mut case = Case::new();
    let mut batch = case.chain.batch(1, 6);
    batch.last_block_hash = B256::repeat_byte(6);
    let bytes = batch.encode(3).expect("encodes");
    case.post_bytes((1, 6), 10, &bytes);
    case.reader.publish(bytes);
    case.publish(1, 2, 11);
    case.show(None, 1, 11, Vec::new());
    let sequencer = case.chain.copy();
    sequencer.truncate(4);
    case.start(sequencer);
    assert_eq!(case.verified(2).await.last_block, 2);
    case.stop().await;
}

/// A commitment to a batch, with another state root than its own.
fn wrong_commitment(batch: &PostedBatch, last_block_hash: B256) -> Commitment {
    Commitment {
        batch: batch.header.number,
        previous: 0,
        batch_hash: batch.batch_hash,
        first_block: batch.header.first_block,
        last_block: batch.header.last_block,
        last_block_hash,
        state_root: B256::repeat_byte(9),
        message_root: B256::ZERO,
        committed_at: 1_011,
        final_at: 1_111,
        l1: l1_ref(11),
    }
}

#[tokio::test]
async fn a_wrong_commitment_on_l1_halts() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    let last = case.chain.block(2).expect("a block").hash();
    let commitment = wrong_commitment(&case.batches[0], last);
    case.show(None, 1, 11, vec![RollupEvent::Committed(commitment)]);
    case.start(case.chain.clone());
    let reason = case.halted().await;
    case.stop().await;
    assert!(
        matches!(&*reason, HaltReason::WrongCommitment { batch: 1, field: "state root", .. }),
        "{reason}"
    );
}

#[tokio::test]
async fn a_commitment_to_an_invalid_batch_halts() {
    let mut case = Case::new();
    let mut batch = case.chain.batch(1, 2);
    batch.last_block_hash = B256::repeat_byte(6);
    let bytes = batch.encode(3).expect("encodes");
    case.post_bytes((1, 2), 10, &bytes);
    case.reader.publish(bytes);
    let commitment = wrong_commitment(&case.batches[0], B256::repeat_byte(6));
    case.show(None, 1, 11, vec![RollupEvent::Committed(commitment)]);
    case.start(case.chain.clone());
    let reason = case.halted().await;
    case.stop().await;
    assert!(matches!(&*reason, HaltReason::WrongCommitment { batch: 1, .. }), "{reason}");
    assert!(reason.to_string().contains("invalid"), "{reason}");
}

#[tokio::test]
async fn a_reader_that_cannot_work_shows_until_it_is_mended() {
    let mut case = Case::new();
    case.publish(1, 2, 10);
    case.reader.set_wrong(true);
    case.show(None, 1, 10, Vec::new());
    case.start(case.chain.clone());
    let status = case.wait(|status| status.halted.is_some()).await;
    assert!(status.halted.is_some_and(|why| why.contains("405")));
    assert!(case.shared.halted().is_none(), "no restart is needed");
    case.reader.set_wrong(false);
    case.wait(|status| status.halted.is_none() && status.verified.is_some()).await;
    case.stop().await;
}
