//! Why the DA adapter does not open, or stops.

use std::io;

use millrace_l1::TxManagerError;
use millrace_proto::{BatchDecodeError, BatchEncodeError, ExecutorError};

use crate::{
    backend::AltDaError, config::InvalidConfig, objects::ObjectStoreError, outbox::OutboxError,
};

/// Why the DA adapter cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DaAdapterOpenError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The object store cannot be opened.
    #[error(transparent)]
    ObjectStore(#[from] ObjectStoreError),
    /// The alt-DA server cannot be used.
    #[error(transparent)]
    AltDa(#[from] AltDaError),
    /// The Celestia node cannot be used.
    #[cfg(feature = "celestia")]
    #[error(transparent)]
    Celestia(#[from] crate::backend::CelestiaError),
    /// The outbox cannot be opened.
    #[error("outbox: {0}")]
    Outbox(#[from] OutboxError),
    /// The opening was stopped with the runtime.
    #[error("worker: {0}")]
    Worker(#[source] tokio::task::JoinError),
}

/// Why the DA adapter stopped without being told to. What is worth waiting for (L1, the DA layer or
/// the executor being away) does not stop it, nor what it halts for.
#[derive(Debug, thiserror::Error)]
pub enum DaAdapterRunError {
    /// The outbox failed: a full or broken disk, or data that cannot be.
    #[error("outbox: {0}")]
    Outbox(#[from] OutboxError),
    /// The executor cannot go on.
    #[error("executor: {0}")]
    Executor(#[source] Box<ExecutorError>),
    /// The executor's blocks cannot be encoded.
    #[error("batch encoding: {0}")]
    Encode(#[source] BatchEncodeError),
    /// zstd failed.
    #[error("compression: {0}")]
    Compression(#[source] io::Error),
    /// A batch in the outbox is not what was put into it.
    #[error("batch {number} in the outbox is damaged: {problem}")]
    Damaged {
        /// The batch.
        number: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Our own batch cannot be read again.
    #[error("batch {number} in the outbox does not decode: {source}")]
    Undecodable {
        /// The batch.
        number: u64,
        /// Why.
        #[source]
        source: BatchDecodeError,
    },
    /// The transaction manager cannot go on: its journal or its key fails.
    #[error("L1 transactions: {0}")]
    Transactions(#[source] Box<TxManagerError>),
    /// A worker panicked or was stopped with the runtime.
    #[error("worker: {0}")]
    Worker(#[source] tokio::task::JoinError),
}
