use std::time::Duration;

use alloy::primitives::{Bytes, TxHash, U256};
use async_trait::async_trait;
use millrace_l1::{Market, TxManagerError};
use millrace_proto::{BatchHeader, BatchVerdict, Commitment, DaKind, ExecutedBlock, L1Ref};

use super::*;
use crate::{
    poster::{Finality, Posting},
    testing::{Chain, Judged, TestExecutor, TestExecutorHandle, accumulator},
    window::L1Window,
};

/// A contract that holds batches.
#[derive(Debug, Default)]
struct Held {
    batches: Vec<PostedBatch>,
    committed: Option<Commitment>,
}

#[async_trait]
impl PostTarget for Held {
    async fn batch_count(&self) -> Result<u64, L1Error> {
        Ok(self.batches.len() as u64)
    }

    async fn window(&self, _: u64, _: Duration) -> Result<L1Window, L1Error> {
        unreachable!("nothing is posted")
    }

    async fn epoch(&self) -> Result<u32, L1Error> {
        unreachable!("nothing is posted")
    }

    async fn begin_epoch(&self, _: u32) -> Result<(), TxManagerError> {
        unreachable!("nothing is posted")
    }

    async fn deposit_accumulator(&self, count: u64) -> Result<B256, L1Error> {
        Ok(accumulator(count))
    }

    async fn records(&self, first: u64, last: u64) -> Result<Vec<PostedBatch>, L1Error> {
        Ok(self.batches[first as usize - 1..last as usize].to_vec())
    }

    async fn last_commitment(&self) -> Result<Option<Commitment>, L1Error> {
        Ok(self.committed)
    }

    async fn market(&self) -> Result<Market, L1Error> {
        Ok(Market::default())
    }

    async fn fee(&self, _: TxHash) -> Result<U256, L1Error> {
        unreachable!("nothing is posted")
    }

    async fn finality(&self, _: &L1Ref) -> Result<Finality, L1Error> {
        unreachable!("nothing is posted")
    }

    async fn batch_hash(&self, number: u64) -> Result<B256, L1Error> {
        Ok(self.batches[number as usize - 1].batch_hash)
    }

    async fn begin(&self, _: &Posting) -> Result<(), TxManagerError> {
        unreachable!("nothing is posted")
    }

    async fn post(&self, _: Posting) -> Result<(), TxManagerError> {
        unreachable!("nothing is posted")
    }
}

/// A chain of blocks, all of which the executor has, and what the contract holds of it.
struct Case {
    executor: Arc<TestExecutor>,
    /// By number.
    blocks: Vec<Arc<ExecutedBlock>>,
    genesis: B256,
    contract: Held,
    settlement: Judged,
}

impl Case {
    /// Six blocks; the third one takes two deposits.
    fn new() -> Self {
        let mut chain = Chain::new("resume");
        let (executor, genesis) = (TestExecutor::new(chain.head()), chain.head().seal());
        let blocks: Vec<_> = (1..=6)
            .map(|number| chain.block(if number == 3 { 2 } else { 0 }, &[Bytes::new()]))
            .collect();
        for block in &blocks {
            executor.push(block.clone());
        }
        Self { executor, blocks, genesis, contract: Held::default(), settlement: Judged::default() }
    }

    /// A batch of blocks that settlement has found valid.
    fn post(&mut self, first: usize, last: usize) {
        let batch_hash = self.post_unjudged(first, last);
        let end = Ok(self.blocks[last - 1].num_hash());
        self.judge(BatchVerdict { batch_hash, end });
    }

    /// One that it skips.
    fn post_invalid(&mut self, first: usize, last: usize) {
        let batch_hash = self.post_unjudged(first, last);
        self.judge(BatchVerdict { batch_hash, end: Err("it claims a false hash".to_owned()) });
    }

    /// What it has come to about the last batch.
    fn judge(&mut self, verdict: BatchVerdict) {
        self.settlement.verdicts.insert(self.contract.batches.len() as u64, verdict);
    }

    fn post_unjudged(&mut self, first: usize, last: usize) -> B256 {
        let deposits_end = if last >= 3 { 2 } else { 0 };
        let number = self.contract.batches.len() as u64 + 1;
        let batch_hash = B256::with_last_byte(number as u8);
        self.contract.batches.push(PostedBatch {
            header: BatchHeader {
                number,
                first_block: first as u64,
                last_block: last as u64,
                deposits_end,
                deposits_hash: accumulator(deposits_end),
                digest: B256::ZERO,
                da_kind: DaKind::L1Calldata,
            },
            batch_hash,
            blob_hashes: Vec::new(),
            da_pointer: Bytes::new(),
            l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
            l1_timestamp: 0,
        });
        batch_hash
    }

    fn commit(&mut self, batch: u64, last: usize) {
        self.contract.committed = Some(Commitment {
            batch,
            previous: 0,
            batch_hash: B256::ZERO,
            first_block: 1,
            last_block: last as u64,
            last_block_hash: self.blocks[last - 1].hash(),
            state_root: B256::ZERO,
            message_root: B256::ZERO,
            committed_at: 0,
            final_at: 0,
            l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
        });
    }

    async fn find(&self) -> Result<Cursor, ResumeError> {
        let executor: Arc<dyn Executor> = Arc::new(TestExecutorHandle(self.executor.clone()));
        let settlement: Arc<dyn Settlement> = Arc::new(self.settlement.clone());
        let target = &self.contract;
        Resume { executor: &executor, target, settlement: &settlement }.find_cursor().await
    }

    /// The batch number and the block after which the next batch begins.
    async fn cursor(&self) -> (u64, u64) {
        let cursor = self.find().await.expect("found");
        let block = cursor.block.number as usize;
        let hash = block.checked_sub(1).map_or(self.genesis, |index| self.blocks[index].hash());
        assert_eq!(cursor.block.hash, hash);
        let deposits = if block >= 3 { 2 } else { 0 };
        assert_eq!((cursor.deposits_end, cursor.deposits_hash), (deposits, accumulator(deposits)));
        (cursor.batch, cursor.block.number)
    }
}

#[tokio::test]
async fn it_begins_after_the_last_batch_if_all_are_valid() {
    let mut case = Case::new();
    assert_eq!(case.cursor().await, (0, 0));
    case.post(1, 2);
    case.post(3, 4);
    assert_eq!(case.cursor().await, (2, 4));
}

#[tokio::test]
async fn invalid_batches_are_passed_over() {
    let mut case = Case::new();
    case.post(1, 2);
    case.post_invalid(3, 4);
    assert_eq!(case.cursor().await, (2, 2));
    case.post_invalid(5, 6);
    assert_eq!(case.cursor().await, (3, 2));
    case.post(3, 4);
    case.post(5, 5);
    // Beyond what the executor has: nobody waits for blocks that will never be.
    case.executor.blocks_mut().truncate(5);
    case.post_invalid(6, 6);
    assert_eq!(case.cursor().await, (6, 5));
}

#[tokio::test]
async fn what_is_committed_needs_no_verdict() {
    let mut case = Case::new();
    case.post_unjudged(1, 2);
    case.post(3, 4);
    case.post_invalid(5, 6);
    case.commit(1, 2);
    assert_eq!(case.cursor().await, (3, 4));
    case.commit(2, 4);
    assert_eq!(case.cursor().await, (3, 4));
}

#[tokio::test]
async fn another_chain_than_the_executors_halts() {
    let mut case = Case::new();
    let batch_hash = case.post_unjudged(1, 2);
    case.judge(BatchVerdict { batch_hash, end: Ok(BlockNumHash::new(2, B256::ZERO)) });
    let error = case.find().await.expect_err("another chain");
    assert!(matches!(error, ResumeError::OtherChain { batch: 1, block: 2, .. }), "{error}");
    assert!(error.halt().is_some());

    let mut case = Case::new();
    case.post(1, 2);
    case.commit(1, 2);
    case.contract.committed.as_mut().expect("committed").last_block_hash = B256::ZERO;
    let error = case.find().await.expect_err("another chain");
    assert!(matches!(error, ResumeError::OtherChain { batch: 1, .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_judged_is_waited_for() {
    let mut case = Case::new();
    case.post_unjudged(1, 2);
    let error = case.find().await.expect_err("settlement has not come to it");
    assert!(matches!(error, ResumeError::Unjudged { batch: 1, halted: None }), "{error}");
    assert_eq!(error.halt(), None);
    // What was judged is what another L1 block held.
    case.judge(BatchVerdict { batch_hash: B256::ZERO, end: Err("gone".to_owned()) });
    let error = case.find().await.expect_err("an L1 reorg has replaced it");
    assert!(matches!(error, ResumeError::Unjudged { batch: 1, .. }), "{error}");
    case.settlement.halted = Some("the two executors differ".to_owned());
    let error = case.find().await.expect_err("it will not come to it");
    assert!(error.halt().is_some_and(|reason| reason.contains("executors differ")), "{error}");
}

#[tokio::test]
async fn blocks_that_the_executor_does_not_have_yet_are_waited_for() {
    let mut case = Case::new();
    case.post(1, 2);
    case.executor.blocks_mut().truncate(1);
    let error = case.find().await.expect_err("the executor has fewer blocks");
    assert!(matches!(error, ResumeError::Behind(2)), "{error}");
    assert_eq!(error.halt(), None);
}
