//! Why the service does not start, and why it ends.

use std::io;

use alloy::primitives::B256;
use millrace_l1::{L1Error, TxManagerError};
use millrace_proto::{ExecutorError, ReplayError, SettlementError};

use crate::{execution::ReplayWorkerGone, store::StoreError};

impl From<StoreError> for SettlementError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Why the settlement service does not start.
#[derive(Debug, thiserror::Error)]
pub enum SettlementOpenError {
    /// The contract could not be asked.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// The contract is another chain's.
    #[error("the rollup contract is for chain {contract}, this is chain {configured}")]
    ChainId {
        /// The contract's.
        contract: u64,
        /// Of the genesis given here.
        configured: u64,
    },
    /// The contract was made with another genesis.
    #[error("the rollup contract's genesis is {contract}, this chain's is {computed}")]
    Genesis {
        /// The contract's.
        contract: B256,
        /// Of the genesis given here.
        computed: B256,
    },
    /// The replayed chain cannot be used.
    #[error("replayed chain: {0}")]
    Replay(#[from] ReplayError),
    /// The replayed chain has no genesis block.
    #[error("the replayed chain has no block 0")]
    NoGenesis,
    /// The data folder cannot be made.
    #[error("data folder {path}: {source}")]
    DataDir {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replay thread cannot be started.
    #[error("replay thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why the settlement service ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum SettlementRunError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replayed chain failed.
    #[error("replayed chain: {0}")]
    Replay(#[source] ReplayError),
    /// The replay thread is gone.
    #[error(transparent)]
    ReplayWorker(#[from] ReplayWorkerGone),
    /// The sequencer's executor failed for good.
    #[error("executor: {0}")]
    Executor(#[source] ExecutorError),
    /// Commitments cannot be sent until an operator has looked.
    #[error(transparent)]
    Transaction(TxManagerError),
    /// One of the service's tasks panicked.
    #[error("settlement task {task} panicked: {source}")]
    Panicked {
        /// Which.
        task: &'static str,
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
}
