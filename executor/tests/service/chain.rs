//! A running executor in a folder of its own.

use std::{path::Path, sync::Arc};

use alloy::primitives::Address;
use millrace_executor::{ExecutorConfig, ExecutorHandle, ExecutorService, StoreConfig};
use millrace_proto::{
    AccountInfo, BlockAttributes, BlockBuild, BlockSelector, ChainSpec, ExecutedBlock, Executor,
    HeaderExtra, RecoveredTx, TxOutcome,
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

    /// The attributes of the next block, with so many deposits.
    pub(crate) async fn attributes(&self, deposits: u64) -> BlockAttributes {
        let head = self.executor.head().await.expect("there is a head");
        let end = HeaderExtra::of(&head).expect("a rollup's header").deposits_end;
        BlockAttributes::rollup(&self.spec, &head, head.timestamp + 1, end + deposits)
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
