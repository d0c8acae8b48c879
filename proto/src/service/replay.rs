//! Executing derived blocks again, on the sequential path.

use std::{fmt, sync::Arc};

use alloy::primitives::TxHash;

use crate::{
    service::ExecutorError,
    types::{DerivedBlock, ExecutedBlock, RejectReason, SealedHeader},
};

/// A chain that is rebuilt block by block on the sequential path. Blocking: call it off the async threads.
pub trait Replay: fmt::Debug + Send {
    /// The last block executed.
    fn head(&self) -> SealedHeader;

    /// Executes the next block, stores it, and makes it the head.
    ///
    /// # Errors
    /// [`ReplayError::Invalid`] if the block breaks the chain's rules; the head is then as it was.
    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError>;

    /// A block that was executed before, or `None`.
    ///
    /// # Errors
    /// When the store fails.
    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError>;
}

/// Why a derived block could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Not the block after the head, or its fields break the chain's rules.
    #[error("block {number} is invalid: {problem}")]
    Invalid {
        /// The block.
        number: u64,
        /// What is wrong.
        problem: String,
    },
    /// It holds a transaction that cannot be in it.
    #[error("block {number} holds transaction {hash}, which is invalid there: {reason}")]
    InvalidTransaction {
        /// The block.
        number: u64,
        /// The transaction.
        hash: TxHash,
        /// Why.
        #[source]
        reason: RejectReason,
    },
    /// The executor failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}
