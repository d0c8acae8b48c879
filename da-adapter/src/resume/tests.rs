use alloy::primitives::{Bytes, TxHash, U256};
use async_trait::async_trait;
use millrace_l1::{Market, TxManagerError};
use millrace_proto::{Batch, BatchHeader, Commitment, DaKind, ExecutedBlock, L1Ref, batch_digest};

use super::*;
use crate::window::L1Window;
use crate::{
    poster::{Finality, Posting},
    reader::MultiReader,
    testing::{CHAIN, CHAIN_ID, Chain, TestExecutor, TestExecutorHandle, accumulator},
};

/// A contract that holds batches, their bytes in the pointer.
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

    async fn window(&self, _: u64) -> Result<L1Window, L1Error> {
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
        Self { executor, blocks, genesis, contract: Held::default() }
    }

    fn batch(&self, first: usize, last: usize) -> Batch {
        let parent = first.checked_sub(2).map(|index| &self.blocks[index]);
        let hash = parent.map_or(self.genesis, |parent| parent.hash());
        let deposits =
            parent.map_or(0, |parent| QueueMark::of(&parent.header).expect("a rollup's").end);
        Batch::from_blocks(CHAIN_ID, deposits, hash, &self.blocks[first - 1..last])
            .expect("blocks that join")
    }

    fn post(&mut self, first: usize, last: usize) {
        let batch = self.batch(first, last);
        self.post_bytes(first, last, &batch.encode(1).expect("encodes"));
    }

    /// Posts bytes as the batch of some blocks.
    fn post_bytes(&mut self, first: usize, last: usize, bytes: &[u8]) {
        let deposits_end = if last >= 3 { 2 } else { 0 };
        self.contract.batches.push(PostedBatch {
            header: BatchHeader {
                number: self.contract.batches.len() as u64 + 1,
                first_block: first as u64,
                last_block: last as u64,
                deposits_end,
                deposits_hash: accumulator(deposits_end),
                digest: batch_digest(bytes),
                da_kind: DaKind::L1Calldata,
            },
            batch_hash: B256::ZERO,
            blob_hashes: Vec::new(),
            da_pointer: Bytes::copy_from_slice(bytes),
            l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
            l1_timestamp: 0,
        });
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
        let reader = MultiReader::new(crate::DaSources::default());
        let (target, reader) = (&self.contract, &reader);
        Resume { chain: CHAIN, executor: &executor, target, reader }.find_cursor().await
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
    case.post_bytes(3, 4, b"this is no batch");
    assert_eq!(case.cursor().await, (2, 2));
    // Right in itself, but it joins what was skipped.
    case.post(5, 6);
    assert_eq!(case.cursor().await, (3, 2));
    let mut orphan = case.batch(3, 4);
    orphan.parent_hash = B256::repeat_byte(9);
    case.post_bytes(3, 4, &orphan.encode(1).expect("encodes"));
    let mut foreign = case.batch(3, 4);
    foreign.chain_id += 1;
    case.post_bytes(3, 4, &foreign.encode(1).unwrap_or_default());
    let bytes = case.batch(3, 4).encode(1).expect("encodes");
    case.post_bytes(3, 5, &bytes);
    assert_eq!(case.cursor().await, (6, 2));
    case.post(3, 4);
    case.post(5, 5);
    assert_eq!(case.cursor().await, (8, 5));
}

#[tokio::test]
async fn what_is_committed_is_not_judged_again() {
    let mut case = Case::new();
    case.post_bytes(1, 2, b"pruned long ago");
    case.post(3, 4);
    case.post_bytes(5, 6, b"this is no batch");
    assert_eq!(case.cursor().await, (3, 0), "without the commitment");
    case.commit(1, 2);
    assert_eq!(case.cursor().await, (3, 4));
    case.commit(2, 4);
    assert_eq!(case.cursor().await, (3, 4));
}

#[tokio::test]
async fn another_chain_than_the_executors_halts() {
    let mut case = Case::new();
    let mut batch = case.batch(1, 2);
    batch.last_block_hash = B256::repeat_byte(9);
    case.post_bytes(1, 2, &batch.encode(1).expect("encodes"));
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
async fn bytes_that_cannot_be_read_are_not_guessed_at() {
    let mut case = Case::new();
    case.post(1, 2);
    case.contract.batches[0].header.da_kind = DaKind::L1Blob;
    let error = case.find().await.expect_err("no beacon node");
    assert!(error.halt().is_some_and(|reason| reason.contains("beacon")), "{error}");
    case.contract.batches[0].header.da_kind = DaKind::L1Calldata;
    case.executor.blocks_mut().truncate(1);
    let error = case.find().await.expect_err("the executor has fewer blocks");
    assert!(matches!(error, ResumeError::Behind(2)), "{error}");
    assert_eq!(error.halt(), None);
}
