use std::sync::Arc;

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256},
};
use millrace_l1::{RollupCounters, RollupEvent};
use millrace_proto::{Commitment, DaReadError, PostedBatch};

use super::{
    Difference, VerifyError,
    events::{Progress, Rebuilt},
};
use crate::{
    derivation::{Derivation, DerivationHead, batch_hash},
    execution::ReplayWorker,
    store::L1Point,
    testing::{TestChain, TestReader, TestReplay, accumulator, deposit, l1_ref, post, transfer},
};

const ROLLUP: Address = Address::repeat_byte(0x11);

/// A chain of four blocks in two batches, and a verification of it.
struct Case {
    chain: TestChain,
    reader: TestReader,
    rebuilt: Rebuilt,
    batches: Vec<PostedBatch>,
}

impl Case {
    fn new() -> Self {
        let chain = TestChain::new();
        for number in 1..=4 {
            chain.extend(100 + number, 0, vec![transfer(number, ROLLUP)]);
        }
        let reader = TestReader::new();
        let mut case = Self {
            rebuilt: Rebuilt {
                derivation: Derivation::new(&chain.spec(), ROLLUP),
                reader: Arc::new(reader.clone()),
                replay: ReplayWorker::spawn(Box::new(TestReplay::new())).expect("a thread"),
                finalized_at: None,
                head: DerivationHead::of(&chain.head_of(0).header).expect("a rollup's"),
                state: Progress::default(),
                ahead: None,
                preparing: Arc::default(),
            },
            chain,
            reader,
            batches: Vec::new(),
        };
        case.post(1, 2);
        case.post(3, 4);
        case
    }

    /// Posts blocks as the next batch.
    fn post(&mut self, first: u64, last: u64) {
        let bytes = self.chain.batch(first, last).encode(3).expect("encodes");
        let number = self.batches.len() as u64 + 1;
        let mut posted = post(number, (first, last), 0, &bytes, 10 + number);
        let previous = self.batches.last().map_or(B256::ZERO, |batch| batch.batch_hash);
        posted.batch_hash = batch_hash(previous, &posted);
        self.reader.publish(bytes);
        self.batches.push(posted);
    }

    fn commitment(&self, batch: usize) -> RollupEvent {
        let posted = &self.batches[batch - 1];
        let last = self.chain.block(posted.header.last_block).expect("a block");
        RollupEvent::Committed(Commitment {
            batch: posted.header.number,
            previous: posted.header.number - 1,
            batch_hash: posted.batch_hash,
            first_block: posted.header.first_block,
            last_block: posted.header.last_block,
            last_block_hash: last.hash(),
            state_root: last.header.state_root,
            message_root: B256::ZERO,
            committed_at: 1_000,
            final_at: 1_100,
            l1: l1_ref(20),
        })
    }

    async fn see(&mut self, event: RollupEvent) -> Result<(), VerifyError> {
        // The batch after it, as in a stretch of L1.
        let after = match &event {
            RollupEvent::Posted(batch) => {
                let next = batch.header.number + 1;
                self.batches.iter().find(|batch| batch.header.number == next).cloned()
            }
            _ => None,
        };
        self.rebuilt.event(event, after.as_ref()).await
    }

    async fn see_posted(&mut self) {
        for batch in self.batches.clone() {
            self.see(RollupEvent::Posted(batch)).await.expect("a right batch");
        }
    }
}

impl TestChain {
    fn head_of(&self, number: u64) -> Arc<millrace_proto::ExecutedBlock> {
        self.block(number).expect("a block")
    }
}

fn difference(result: Result<(), VerifyError>) -> Difference {
    match result {
        Err(VerifyError::Differs(difference)) => difference,
        other => panic!("a difference expected, got {other:?}"),
    }
}

#[tokio::test]
async fn a_right_chain_is_rebuilt() {
    let mut case = Case::new();
    for index in 0..2 {
        let event = RollupEvent::Queued {
            entry: deposit(index).into(),
            accumulator: accumulator(index + 1),
            l1: l1_ref(5),
        };
        case.see(event).await.expect("a right deposit");
    }
    case.see_posted().await;
    for batch in [1, 2] {
        let event = case.commitment(batch);
        case.see(event).await.expect("a right commitment");
    }
    let state = &mut case.rebuilt.state;
    assert_eq!(state.wrong_commitment(), None);
    assert_eq!(state.commitments.len(), 2);
    assert_eq!((state.blocks, state.transactions, state.batches, state.deposits), (4, 4, 2, 2));
    assert_eq!(case.rebuilt.head.hash, case.chain.head().hash());

    assert_eq!(case.rebuilt.finalized(), None);
    let block = BlockNumHash::new(20, B256::ZERO);
    case.rebuilt.finalized_at = Some(L1Point { block, timestamp: 1_100 });
    assert_eq!(case.rebuilt.finalized().map(|point| point.batch), Some(2));
}

/// Whether the next batch was prepared meanwhile, or another one, or none: the same comes of it.
#[tokio::test]
async fn what_is_prepared_ahead_is_taken_where_it_is_the_next_batch() {
    for ahead in ["the next", "another", "none"] {
        let mut case = Case::new();
        let batches = case.batches.clone();
        for batch in &batches {
            let mut after = batches.last().filter(|last| *last != batch).cloned();
            if ahead == "another"
                && let Some(after) = &mut after
            {
                after.batch_hash = B256::repeat_byte(7);
                after.header.digest = B256::repeat_byte(8);
            }
            let after = after.filter(|_| ahead != "none");
            let event = RollupEvent::Posted(batch.clone());
            case.rebuilt.event(event, after.as_ref()).await.expect("a right batch");
            assert_eq!(case.rebuilt.ahead.is_some(), after.is_some(), "{ahead}");
        }
        assert_eq!(case.rebuilt.head.hash, case.chain.head().hash(), "{ahead}");
        assert_eq!(case.rebuilt.state.skipped.len(), 0, "{ahead}");
    }
}

#[tokio::test]
async fn an_invalid_batch_is_skipped_and_reported() {
    let mut case = Case::new();
    case.batches.clear();
    case.post(1, 2);
    case.post(4, 4);
    case.post(3, 4);
    case.see_posted().await;
    let state = &case.rebuilt.state;
    assert_eq!(state.skipped.iter().map(|batch| batch.number).collect::<Vec<_>>(), [2]);
    assert_eq!((state.blocks, state.batches), (4, 3));
}

#[tokio::test]
async fn batches_that_l1_does_not_chain_are_differences() {
    let mut case = Case::new();
    let second = case.batches[1].clone();
    let missing = difference(case.see(RollupEvent::Posted(second)).await);
    assert_eq!((missing.what, missing.at.as_str()), ("number", "batch 2"));

    let mut first = case.batches[0].clone();
    first.header.last_block = 3;
    let forged = difference(case.see(RollupEvent::Posted(first)).await);
    assert_eq!((forged.what, forged.at.as_str()), ("batch hash", "batch 1"));
}

#[tokio::test]
async fn a_batch_with_a_wrong_claim_is_skipped_and_leaves_nothing_behind() {
    let mut case = Case::new();
    let mut batch = case.chain.batch(1, 2);
    batch.last_block_hash = B256::repeat_byte(6);
    let bytes = batch.encode(3).expect("encodes");
    let mut posted = post(1, (1, 2), 0, &bytes, 10);
    posted.batch_hash = batch_hash(B256::ZERO, &posted);
    case.reader.publish(bytes);
    let before = posted.batch_hash;
    case.see(RollupEvent::Posted(posted)).await.expect("skipped");
    let [skipped] = case.rebuilt.state.skipped.as_slice() else { panic!("one batch") };
    let right = case.chain.head_of(2).hash().to_string();
    assert!(skipped.reason.contains(&right), "{}", skipped.reason);
    assert_eq!(case.rebuilt.head.number, 0);

    // The next one that joins is the chain.
    let bytes = case.chain.batch(1, 1).encode(3).expect("encodes");
    let mut posted = post(2, (1, 1), 0, &bytes, 11);
    posted.batch_hash = batch_hash(before, &posted);
    case.reader.publish(bytes);
    case.see(RollupEvent::Posted(posted)).await.expect("a right batch");
    assert_eq!(case.rebuilt.head.number, 1);
}

#[tokio::test]
async fn a_wrong_commitment_counts_unless_it_was_reverted() {
    let mut case = Case::new();
    case.see_posted().await;
    let right = case.commitment(1);
    let RollupEvent::Committed(mut commitment) = case.commitment(1) else { unreachable!() };
    commitment.state_root = B256::repeat_byte(8);
    case.see(RollupEvent::Committed(commitment)).await.expect("told at the end");
    let revert = RollupEvent::CommitmentsReverted { from: 1, l1: l1_ref(21) };
    case.see(revert).await.expect("a revert");
    case.see(right).await.expect("a right commitment");
    assert_eq!(case.rebuilt.state.wrong_commitment(), None);

    let RollupEvent::Committed(mut commitment) = case.commitment(2) else { unreachable!() };
    commitment.last_block_hash = B256::repeat_byte(8);
    case.see(RollupEvent::Committed(commitment)).await.expect("told at the end");
    let found = case.rebuilt.state.wrong_commitment().expect("a wrong commitment");
    assert_eq!((found.what, found.at.as_str()), ("last block hash", "the commitment of batch 2"));
    assert_eq!(found.expected, case.chain.head().hash().to_string());
}

#[tokio::test]
async fn a_commitment_of_a_skipped_batch_is_wrong() {
    let mut case = Case::new();
    case.batches.clear();
    case.post(2, 3);
    case.see_posted().await;
    let event = case.commitment(1);
    case.see(event).await.expect("told at the end");
    let found = case.rebuilt.state.wrong_commitment().expect("a wrong commitment");
    assert_eq!(found.expected, "a valid batch");
}

#[tokio::test]
async fn a_deposit_that_does_not_accumulate_is_a_difference() {
    let mut case = Case::new();
    let event = RollupEvent::Queued {
        entry: deposit(0).into(),
        accumulator: B256::repeat_byte(4),
        l1: l1_ref(5),
    };
    let found = difference(case.see(event).await);
    assert_eq!((found.what, found.at.as_str()), ("accumulator", "deposit 0"));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_no_beacon_api_is_given_up_at_once() {
    let mut case = Case::new();
    case.reader.set_wrong(true);
    let first = case.batches[0].clone();
    let error = case.see(RollupEvent::Posted(first)).await.expect_err("no beacon API");
    assert!(matches!(error, VerifyError::Da(DaReadError::Unavailable { .. })), "{error}");
    assert!(error.to_string().contains("405"), "{error}");
    assert_eq!(case.reader.reads(), 1);
}

#[tokio::test]
async fn totals_that_are_not_the_contracts_are_differences() {
    let mut case = Case::new();
    let event = RollupEvent::Queued {
        entry: deposit(0).into(),
        accumulator: accumulator(1),
        l1: l1_ref(5),
    };
    case.see(event).await.expect("a right deposit");
    case.see_posted().await;
    for batch in [1, 2] {
        let event = case.commitment(batch);
        case.see(event).await.expect("a right commitment");
    }
    let state = &mut case.rebuilt.state;
    let right = RollupCounters { batches: 2, deposits: 1, committed_batch: 2, committed_block: 4 };
    assert_eq!(state.compare(&right, 30), Ok(()));
    for (what, expected, got, counters) in [
        ("number of posted batches", "3", "2", RollupCounters { batches: 3, ..right }),
        ("number of deposits", "2", "1", RollupCounters { deposits: 2, ..right }),
        ("last committed batch", "3", "2", RollupCounters { committed_batch: 3, ..right }),
        ("last committed block", "9", "4", RollupCounters { committed_block: 9, ..right }),
    ] {
        let found = state.compare(&counters, 30).expect_err("another total");
        assert_eq!(
            (found.what, found.expected.as_str(), found.got.as_str()),
            (what, expected, got)
        );
        assert!(found.at.contains("L1 block 30"), "{found}");
    }
    state.commitments.remove(&1);
    let found = state.compare(&right, 30).expect_err("a commitment is missing");
    assert_eq!(
        (found.what, found.expected.as_str(), found.got.as_str()),
        ("first block", "1", "3")
    );
}
