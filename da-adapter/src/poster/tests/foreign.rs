//! Batches that were not closed here.

use millrace_proto::BatchVerdict;

use super::*;

impl Fixture {
    /// The contract takes a batch that ends with a block from somebody else.
    fn post_foreign(&self, block: &ExecutedBlock) {
        self.contract.change(|state| {
            let number = state.batches.len() as u64 + 1;
            state.head += 1;
            state.batches.push(PostedBatch {
                header: BatchHeader {
                    number,
                    first_block: block.number(),
                    last_block: block.number(),
                    deposits_end: 0,
                    deposits_hash: B256::ZERO,
                    digest: B256::repeat_byte(9),
                    da_kind: DaKind::L1Calldata,
                },
                batch_hash: B256::with_last_byte(number as u8),
                blob_hashes: Vec::new(),
                da_pointer: Bytes::new(),
                l1: l1(state.head),
                l1_timestamp: 0,
            });
        });
    }

    /// Settlement has derived these blocks, one a batch, and the executor has others or the same.
    fn judged(&mut self, derived: &[Arc<ExecutedBlock>], executor: &Arc<TestExecutor>) {
        let state = self.contract.state.lock();
        let verdict = |(batch, block): (&PostedBatch, &Arc<ExecutedBlock>)| {
            let BatchHeader { number, .. } = batch.header;
            let batch_hash = state.hash_of(number);
            (number, BatchVerdict { batch_hash, end: Ok(block.num_hash()) })
        };
        let verdicts = state.batches.iter().zip(derived).map(verdict).collect();
        drop(state);
        self.poster.settlement = Arc::new(Judged { verdicts, halted: None });
        self.poster.executor = Arc::new(TestExecutorHandle(executor.clone()));
    }

    /// An executor with some of the chain's blocks.
    fn executor(&self, blocks: &[Arc<ExecutedBlock>]) -> Arc<TestExecutor> {
        let executor = TestExecutor::new(Chain::new("a").head());
        blocks.iter().for_each(|block| executor.push(block.clone()));
        executor
    }
}

#[tokio::test]
async fn batches_go_on_after_those_of_others_once_their_blocks_are_taken_over() {
    let mut fixture = Fixture::new();
    let (mut others, mut own) = (fixture.chain.clone(), fixture.chain.clone());
    fixture.close(0);
    fixture.close(0);
    let theirs = [others.noisy(), others.noisy(), others.noisy()];
    theirs.iter().for_each(|block| fixture.post_foreign(block));

    // Settlement has not come to them.
    let error = fixture.poster.step().await.unwrap_err();
    let StepError::Retry(reason) = error else { panic!("{error:?}") };
    let reason = reason.to_string();
    assert!(
        reason.contains("holds batch 1 with the digest") && reason.contains("not judged"),
        "{reason}"
    );
    // It has, and the sequencer has not taken them over yet.
    let executor = fixture.executor(&[]);
    fixture.judged(&theirs, &executor);
    assert!(
        matches!(fixture.poster.step().await.unwrap_err(), StepError::Retry(_)),
        "it lacks them"
    );
    executor.push(own.small());
    let reason = fixture.halt().await;
    assert!(reason.contains("its chain is another one than L1 holds"), "{reason}");
    assert_eq!(fixture.outbox.cursor().unwrap().batch, 2, "nothing is given up before");

    fixture.judged(&theirs, &fixture.executor(&theirs));
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    let cursor = fixture.outbox.cursor().unwrap();
    assert_eq!((cursor.batch, cursor.block), (3, theirs[2].num_hash()));
    assert_eq!(fixture.outbox.entries(), Vec::new());
    fixture.chain = others;
    fixture.close(0);
    fixture.settle().await;
    let summary = fixture.outbox.summary();
    assert_eq!((summary.posted, summary.posted_block, summary.backlog_batches), (4, 4, 0));
}

#[tokio::test]
async fn batches_of_others_behind_ours_come_and_go_with_l1() {
    let mut fixture = Fixture::new();
    fixture.close(0);
    fixture.settle().await;
    let ours = fixture.outbox.entry(1).unwrap();
    let mut blocks = vec![Arc::new(ExecutedBlock {
        header: fixture.chain.head().clone(),
        transactions: Vec::new(),
        receipts: Vec::new(),
    })];
    let mut others = fixture.chain.clone();
    blocks.push(others.noisy());
    fixture.post_foreign(&blocks[1]);
    fixture.judged(&blocks, &fixture.executor(&blocks));
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Idle);
    assert_eq!(fixture.outbox.cursor().unwrap().batch, 2);
    assert_eq!(fixture.outbox.entry(1).unwrap().digest, ours.digest);
    fixture.chain = others;
    fixture.close(0);
    fixture.settle().await;
    // The archive has theirs too, and not yet what is behind.
    fixture.poster.archives = true;
    fixture.outbox.mark_archived(Archived { batch: 2, ..Archived::default() }).unwrap();
    fixture.contract.change(|state| state.finalized = 100);
    fixture.settle().await;
    let kept = |number| {
        let entry = fixture.outbox.entry(number);
        entry.map(|_| fixture.outbox.data(number).unwrap().is_some())
    };
    assert_eq!([1, 2, 3].map(kept), [Some(false), None, Some(true)]);
    fixture.contract.change(|state| state.finalized = 0);

    // A reorg takes theirs, and what is behind: their blocks stay in the chain, and are posted from here.
    fixture.contract.reorg(1);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    let cursor = fixture.outbox.cursor().unwrap();
    assert_eq!((cursor.batch, cursor.block), (1, blocks[0].num_hash()));
    assert_eq!(fixture.outbox.summary().posted, 1);
    let numbers: Vec<_> = fixture.outbox.entries().iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1]);
}

/// A reorg may put another batch in the place of one of ours without that there are ever fewer.
#[tokio::test]
async fn another_batch_in_the_place_of_a_posted_one_is_noticed() {
    let mut fixture = Fixture::new();
    let mut others = fixture.chain.clone();
    fixture.close(0);
    fixture.settle().await;
    fixture.contract.reorg(0);
    let theirs = [others.noisy()];
    fixture.post_foreign(&theirs[0]);
    fixture.judged(&theirs, &fixture.executor(&theirs));
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.cursor().unwrap().block, theirs[0].num_hash());
    assert_eq!(fixture.outbox.summary().totals.bytes, 0, "ours is not posted");
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Idle);

    // One of theirs behind one of ours, and another in its place, as many as before.
    fixture.chain = others.clone();
    fixture.close(0);
    fixture.settle().await;
    let mut third = others.clone();
    fixture.contract.reorg(0);
    let theirs = [others.noisy(), others.noisy()];
    theirs.iter().for_each(|block| fixture.post_foreign(block));
    fixture.contract.change(|state| state.batches[0].header.digest = B256::repeat_byte(7));
    let third = [third.small(), third.small()];
    fixture.judged(&third, &fixture.executor(&third));
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.cursor().unwrap().block, third[1].num_hash());
}

/// One of ours may be mined behind another in the place of the one before it.
#[tokio::test]
async fn another_batch_before_one_of_ours_is_not_forgotten() {
    let mut fixture = Fixture::new();
    let theirs = [fixture.chain.clone().noisy()];
    fixture.close(0);
    fixture.close(0);
    let ours = fixture.outbox.entry(2).unwrap();
    fixture.post_foreign(&theirs[0]);
    fixture.post_foreign(&theirs[0]);
    fixture.contract.change(|state| state.batches[1].header.digest = ours.digest);
    for _ in 0..3 {
        let error = fixture.poster.step().await.unwrap_err();
        assert!(matches!(error, StepError::Retry(_)), "settlement has not judged them: {error}");
    }
    assert!(fixture.contract.state.lock().sent.is_empty());
    // Both end where the first does: ours does not join it.
    let ends = [theirs[0].clone(), theirs[0].clone()];
    fixture.judged(&ends, &fixture.executor(&theirs));
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.cursor().unwrap().block, theirs[0].num_hash());
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Idle);
}

/// Of one that has taken over, posting is right.
#[tokio::test]
async fn who_has_taken_over_is_not_rejoined() {
    let mut fixture = Fixture::new();
    let theirs = [fixture.chain.clone().noisy()];
    fixture.post_foreign(&theirs[0]);
    fixture.judged(&theirs, &fixture.executor(&theirs));
    fixture.contract.state.lock().epoch = 1;
    let reason = fixture.halt().await;
    assert!(reason.contains("another one has taken over"), "{reason}");
    assert_eq!(fixture.outbox.cursor().unwrap().batch, 0);
}
