use alloy::{
    consensus::Sealable,
    primitives::{Address, B256, U256},
};
use millrace_proto::{
    AccountNames, DerivedBlock, DerivedStretch, KeyHints, NamedDelta, QueuedTxs, Replay,
    StateDelta, message_root,
};
use tokio_util::sync::CancellationToken;

use super::{ExecutionError, ReplayWorker, execute_batch};
use crate::{
    derivation::{DerivationHead, DerivedBatch, DerivedContent},
    testing::{MESSENGER, POISON, TestChain, TestReplay, transfer},
};

/// What the sequencer made, and the batch derived from it.
fn sequenced() -> (TestChain, DerivedBatch) {
    let chain = TestChain::new();
    chain.extend(101, 0, vec![transfer(0, Address::ZERO)]);
    chain.extend(102, 0, vec![transfer(1, MESSENGER), transfer(2, MESSENGER)]);
    let batch = derived(&chain, 1, 2);
    (chain, batch)
}

fn derived(chain: &TestChain, first: u64, last: u64) -> DerivedBatch {
    let end = chain.block(last).expect("a block");
    DerivedBatch {
        number: 1,
        content: DerivedContent::Blocks {
            claimed_hash: end.hash(),
            blocks: (first..=last)
                .map(|number| {
                    let block = chain.block(number).expect("a block");
                    DerivedBlock {
                        number,
                        timestamp: block.header.timestamp,
                        queued: QueuedTxs::default(),
                        transactions: block.transactions.clone(),
                    }
                })
                .collect(),
        },
    }
}

/// The blocks of a batch of transactions, and the hash that it claims.
fn blocks(batch: &mut DerivedBatch) -> (&mut Vec<DerivedBlock>, &mut B256) {
    match &mut batch.content {
        DerivedContent::Blocks { blocks, claimed_hash } => (blocks, claimed_hash),
        other => panic!("{other:?}"),
    }
}

/// What changed, with all accounts by their addresses.
fn told(delta: &StateDelta) -> NamedDelta {
    NamedDelta::new(delta, &KeyHints::default(), &AccountNames::default())
}

/// What the sequencer made, and the batch of what it changed.
fn of_diffs() -> (TestChain, DerivedBatch) {
    let chain = TestChain::of_diffs();
    chain.extend(101, 0, vec![transfer(0, Address::ZERO)]);
    chain.extend(102, 0, vec![transfer(1, MESSENGER), transfer(2, MESSENGER)]);
    let batch = chain.diffs(1, 2);
    let stretch = DerivedStretch {
        first_block: 1,
        header: chain.head().header.clone(),
        delta: told(&batch.delta),
        messages: batch.messages,
        digest: B256::repeat_byte(0xd1),
    };
    let content =
        DerivedContent::Stretch { stretch: Box::new(stretch), transactions: batch.transactions };
    (chain, DerivedBatch { number: 1, content })
}

#[test]
fn applying_gives_the_sequenced_chains_end() {
    let (chain, batch) = of_diffs();
    let mut replay = TestReplay::new();
    let stop = CancellationToken::new();
    let executed = execute_batch(&mut replay, batch.clone(), &stop).expect("a right batch");
    let head = chain.head();
    assert_eq!(executed.head, DerivationHead::of(&head.header).expect("a rollup's"));
    assert_eq!((executed.first_block, executed.blocks, executed.transactions), (1, 2, 3));
    assert_eq!(executed.state_root, head.header.state_root);
    assert_eq!(executed.known, [head.num_hash()]);
    let ids = [transfer(1, MESSENGER).hash(), transfer(2, MESSENGER).hash()];
    assert_eq!(executed.message_root, message_root(&ids));
    assert_eq!(*replay.executed.lock().expect("not poisoned"), 0);

    // After a restart it is not applied again.
    let again = execute_batch(&mut replay, batch, &stop).expect("it is there");
    assert_eq!(again, executed);
    assert_eq!(replay.applied.len(), 1);
}

#[test]
fn a_planted_state_root_is_named() {
    let (_, mut batch) = of_diffs();
    let DerivedContent::Stretch { stretch, .. } = &mut batch.content else { panic!("{batch:?}") };
    let mut header = stretch.header.clone_inner();
    header.state_root = B256::repeat_byte(5);
    stretch.header = header.seal_slow();
    let mut replay = TestReplay::new();
    let error = execute_batch(&mut replay, batch, &CancellationToken::new()).expect_err("planted");
    assert!(matches!(error, ExecutionError::StateRoot { batch: 1, block: 2, claimed, .. }
            if claimed == B256::repeat_byte(5)));
    assert!(replay.applied.is_empty());
}

/// A batch of what the blocks of a chain have changed.
fn stretch(chain: &TestChain, number: u64, first: u64, last: u64) -> DerivedBatch {
    let batch = chain.diffs(first, last);
    let stretch = DerivedStretch {
        first_block: first,
        header: chain.block(last).expect("a block").header.clone(),
        delta: told(&batch.delta),
        messages: batch.messages,
        digest: B256::from(U256::from(100 * first + last)),
    };
    let content = DerivedContent::Stretch { stretch: Box::new(stretch), transactions: 0 };
    DerivedBatch { number, content }
}

#[test]
fn what_l1_replaced_is_taken_back_and_the_other_applied() {
    let chain = TestChain::of_diffs();
    for number in 1..=6 {
        chain.extend(100 + number, 0, Vec::new());
    }
    let (mut replay, stop) = (TestReplay::new(), CancellationToken::new());
    let mut execute = |number, first, last| {
        let batch = stretch(&chain, number, first, last);
        execute_batch(&mut replay, batch, &stop).expect("a right batch");
        replay.applied.iter().map(|(header, _)| header.number).collect::<Vec<_>>()
    };
    assert_eq!(execute(1, 1, 2), [2]);
    assert_eq!(execute(2, 3, 4), [2, 4]);
    // The same again; then what is cut otherwise.
    assert_eq!(execute(1, 1, 2), [2, 4]);
    assert_eq!(execute(2, 3, 5), [2, 5]);
    assert_eq!(execute(3, 6, 6), [2, 5, 6]);
    assert_eq!(execute(1, 1, 3), [3]);
    assert_eq!(execute(2, 4, 5), [3, 5]);
}

/// Whoever applies it for the first time would look at what it says has changed.
#[test]
fn another_batch_under_the_same_header_is_judged_by_itself() {
    let (_, batch) = of_diffs();
    let (mut replay, stop) = (TestReplay::new(), CancellationToken::new());
    execute_batch(&mut replay, batch.clone(), &stop).expect("a right batch");
    let mut other = batch.clone();
    let DerivedContent::Stretch { stretch, .. } = &mut other.content else { panic!("{other:?}") };
    stretch.digest = B256::repeat_byte(0xd2);
    (stretch.delta, stretch.messages) = (told(&StateDelta::default()), Vec::new());
    let error = execute_batch(&mut replay, other, &stop).expect_err("it changes nothing");
    assert!(error.is_verdict(), "{error}");
    execute_batch(&mut replay, batch, &stop).expect("it comes again");
    assert_eq!(replay.applied.len(), 1);
}

#[test]
fn executing_gives_the_sequenced_chain() {
    let (chain, batch) = sequenced();
    let mut replay = TestReplay::new();
    let executed =
        execute_batch(&mut replay, batch, &CancellationToken::new()).expect("a right batch");
    assert_eq!(executed.head, DerivationHead::of(&chain.head().header).expect("a rollup's"));
    assert_eq!(executed.first_block, 1);
    assert_eq!(executed.transactions, 3);
    assert_eq!(executed.known.last(), Some(&chain.head().num_hash()));
    let ids = [transfer(1, MESSENGER).hash(), transfer(2, MESSENGER).hash()];
    assert_eq!(executed.message_root, message_root(&ids));
}

#[test]
fn a_wrong_claim_is_named() {
    let (chain, mut batch) = sequenced();
    *blocks(&mut batch).1 = B256::repeat_byte(5);
    let error = execute_batch(&mut TestReplay::new(), batch, &CancellationToken::new())
        .expect_err("a wrong hash");
    let right = chain.head().hash();
    assert!(matches!(error, ExecutionError::Claim { block: 2, claimed, computed, .. }
            if claimed == B256::repeat_byte(5) && computed == right));
}

#[test]
fn an_invalid_transaction_is_named() {
    let chain = TestChain::new();
    chain.extend(101, 0, vec![transfer(0, POISON)]);
    let batch = derived(&chain, 1, 1);
    let error = execute_batch(&mut TestReplay::new(), batch, &CancellationToken::new())
        .expect_err("an invalid transaction");
    assert!(matches!(error, ExecutionError::Invalid { batch: 1, .. }), "{error}");
}

#[test]
fn what_was_executed_before_is_not_executed_again() {
    let (_, batch) = sequenced();
    let mut replay = TestReplay::new();
    let mut half = batch.clone();
    let (half_blocks, claimed) = blocks(&mut half);
    half_blocks.truncate(1);
    *claimed = half_blocks_hash(&batch);
    execute_batch(&mut replay, half, &CancellationToken::new()).expect("the first half");
    execute_batch(&mut replay, batch, &CancellationToken::new()).expect("the rest");
    assert_eq!(*replay.executed.lock().expect("not poisoned"), 2);
}

/// The hash of the batch's first block.
fn half_blocks_hash(batch: &DerivedBatch) -> B256 {
    let mut replay = TestReplay::new();
    execute_batch(&mut replay, batch.clone(), &CancellationToken::new()).expect("a right batch");
    replay.chain.block(1).expect("it was executed").hash()
}

#[test]
fn a_batch_with_a_false_claim_leaves_nothing_behind() {
    let (_, batch) = sequenced();
    let mut replay = TestReplay::new();
    let mut wrong = batch.clone();
    *blocks(&mut wrong).1 = B256::repeat_byte(5);
    let error = execute_batch(&mut replay, wrong, &CancellationToken::new()).expect_err("false");
    assert!(error.is_verdict(), "{error}");
    assert_eq!(replay.head().number, 0);
    execute_batch(&mut replay, batch, &CancellationToken::new()).expect("a right batch");
}

#[test]
fn other_blocks_under_executed_numbers_take_the_executed_ones_place() {
    let (chain, batch) = sequenced();
    for change in ["timestamp", "deposits end", "transactions"] {
        let mut replay = TestReplay::over(chain.copy());
        let mut batch = batch.clone();
        let block = &mut blocks(&mut batch).0[1];
        match change {
            "timestamp" => block.timestamp += 1,
            "deposits end" => block.queued.mark.end += 1,
            _ => block.transactions.truncate(1),
        }
        let (block, claimed) = (block.clone(), chain.copy());
        claimed.truncate(1);
        *blocks(&mut batch).1 =
            claimed.extend(block.timestamp, block.queued.mark.end, block.transactions).hash();
        execute_batch(&mut replay, batch, &CancellationToken::new()).expect("it is executed");
        assert_eq!(*replay.executed.lock().expect("not poisoned"), 1, "{change}: the second alone");
        assert_eq!(replay.head().seal(), claimed.head().hash(), "{change}");
    }
}

#[test]
fn it_stops_between_blocks() {
    let (_, batch) = sequenced();
    let stop = CancellationToken::new();
    stop.cancel();
    let mut replay = TestReplay::new();
    let error = execute_batch(&mut replay, batch, &stop).expect_err("stopped");
    assert!(matches!(error, ExecutionError::Stopped { batch: 1 }));
    assert_eq!(replay.chain.head().number(), 0);
}

#[tokio::test]
async fn the_worker_runs_on_its_own_thread_and_ends() {
    let worker = ReplayWorker::spawn(Box::new(TestReplay::new())).expect("a thread");
    let (head, thread) = worker
        .run(|replay| (replay.head().number, std::thread::current().name().map(str::to_owned)))
        .await
        .expect("it runs");
    assert_eq!((head, thread.as_deref()), (0, Some("settlement-replay")));
    worker.close().await.expect("it ends");
}

#[tokio::test]
async fn a_panic_on_the_thread_is_an_error() {
    let worker = ReplayWorker::spawn(Box::new(TestReplay::new())).expect("a thread");
    worker.run(|_| panic!("on purpose")).await.expect_err("the thread is gone");
    worker.run(|_| ()).await.expect_err("the thread is still gone");
}
