//! A running executor in a folder of its own.

use std::{path::Path, sync::Arc};

use alloy::primitives::{Address, B256, U256};
use millrace_executor::{ExecutorConfig, ExecutorHandle, ExecutorService, StoreConfig};
use millrace_proto::{
    AccountInfo, BlockAttributes, BlockBuild, BlockSelector, ChainSpec, DerivedBlock,
    ExecutedBlock, Executor, Header, QueueMark, QueuedTxs, RecoveredTx, TxOutcome,
};
use tempfile::TempDir;

use crate::support::{contracts, spec};

pub(crate) struct Chain {
    pub(crate) folder: TempDir,
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) executor: ExecutorHandle,
}

pub(crate) fn store_config() -> StoreConfig {
    StoreConfig { cache_bytes: 8 << 20, write_buffer_bytes: 4 << 20, ..StoreConfig::default() }
}

pub(crate) fn open(folder: &Path, spec: &Arc<ChainSpec>) -> ExecutorHandle {
    let config = ExecutorConfig {
        data_dir: folder.to_owned(),
        store: store_config(),
        ..ExecutorConfig::default()
    };
    ExecutorService::open(config, spec.clone()).expect("the store opens")
}

impl Chain {
    /// A rollup with all test contracts.
    pub(crate) fn new() -> Self {
        Self::with_spec(spec("prague", true, &contracts::all()))
    }

    pub(crate) fn with_spec(spec: Arc<ChainSpec>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let executor = open(folder.path(), &spec);
        Self { folder, spec, executor }
    }

    /// The same, with other settings.
    pub(crate) fn with_config(config: ExecutorConfig) -> Self {
        let spec = spec("prague", true, &contracts::all());
        let folder = tempfile::tempdir().expect("a folder");
        let config = ExecutorConfig { data_dir: folder.path().to_owned(), ..config };
        let executor = ExecutorService::open(config, spec.clone()).expect("the store opens");
        Self { folder, spec, executor }
    }

    /// The attributes of the next block, with so many deposits.
    pub(crate) async fn attributes(&self, deposits: u64) -> BlockAttributes {
        let head = self.executor.head().await.expect("there is a head");
        let end = QueueMark::of(&head).expect("a rollup's header").end + deposits;
        // Of a queue whose accumulators are made up.
        let queue = QueueMark { end, hash: B256::from(U256::from(end)), forced: 0 };
        BlockAttributes::rollup(&self.spec, &head, head.timestamp + 1, queue)
    }

    pub(crate) async fn open_block(&self, deposits: u64) -> Box<dyn BlockBuild> {
        let attributes = self.attributes(deposits).await;
        self.executor.open_block(attributes).await.expect("it follows")
    }

    /// Builds a block, two transactions at a time.
    pub(crate) async fn block(&self, transactions: &[Arc<RecoveredTx>]) -> Arc<ExecutedBlock> {
        let deposits = transactions.iter().filter(|tx| tx.tx().is_deposit()).count();
        let mut build = self.open_block(deposits as u64).await;
        for transactions in transactions.chunks(2) {
            build.execute(transactions.to_vec()).await.expect("it executes");
        }
        build.seal().await.expect("it seals")
    }

    /// Builds a block whose first transactions come from L1's queue: deposits, and behind them forced ones. Also returns what a batch
    /// and the queue tell of it.
    pub(crate) async fn block_with_queued(
        &self,
        queued: Vec<Arc<RecoveredTx>>,
        transactions: &[Arc<RecoveredTx>],
    ) -> (Arc<ExecutedBlock>, DerivedBlock) {
        let deposits = queued.iter().filter(|tx| tx.tx().is_deposit()).count();
        let forced = (queued.len() - deposits) as u32;
        let attributes = self.attributes(queued.len() as u64).await;
        let head = self.executor.head().await.expect("there is a head");
        let header = Header {
            number: attributes.number,
            extra_data: attributes.extra_data,
            parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
            ..Header::default()
        };
        let mark = QueueMark { forced, ..QueueMark::of(&header).expect("a rollup's") };
        let attributes = BlockAttributes::rollup(&self.spec, &head, head.timestamp + 1, mark);
        let mut build = self.executor.open_block(attributes).await.expect("it follows");
        for transactions in [&queued[..], transactions] {
            build.execute(transactions.to_vec()).await.expect("it executes");
        }
        let block = build.seal().await.expect("it seals");
        let derived = DerivedBlock {
            number: block.number(),
            timestamp: block.header.timestamp,
            queued: QueuedTxs { mark, txs: queued },
            transactions: block.transactions[block.queued_count()..].to_vec(),
        };
        (block, derived)
    }

    /// Builds a block of transactions that must all be valid.
    pub(crate) async fn valid_block(
        &self,
        transactions: &[Arc<RecoveredTx>],
    ) -> Arc<ExecutedBlock> {
        let mut build = self.open_block(0).await;
        for outcome in build.execute(transactions.to_vec()).await.expect("it executes") {
            assert!(matches!(outcome, TxOutcome::Included { .. }), "{outcome:?}");
        }
        build.seal().await.expect("it seals")
    }

    pub(crate) async fn account(&self, address: Address, at: BlockSelector) -> Option<AccountInfo> {
        self.executor.accounts(&[address], at).await.expect("it reads")[0]
    }
}
