//! Why a block could not be executed.

use alloy_primitives::TxHash;
use millrace_proto::{ExecutorError, RejectReason};
use revm::context::result::EVMError;

use super::StateReadError;

/// Why the execution of a block stopped. What is wrong with a single transaction is no such error.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The state before the block could not be read.
    #[error(transparent)]
    State(#[from] StateReadError),
    /// A transaction that must be included cannot be.
    #[error("transaction {hash} cannot be included: {reason}")]
    NotIncludable {
        /// The transaction.
        hash: TxHash,
        /// Why.
        #[source]
        reason: RejectReason,
    },
    /// A thread panicked while it executed the block; the log says where.
    #[error("a thread panicked while it executed the block")]
    Panicked,
    /// The EVM refused the block's environment, or a system call failed.
    #[error("evm: {0}")]
    Evm(String),
}

impl<T: std::fmt::Display> From<EVMError<StateReadError, T>> for ExecutionError {
    fn from(error: EVMError<StateReadError, T>) -> Self {
        match error {
            EVMError::Database(error) => Self::State(error),
            EVMError::Transaction(error) => Self::Evm(error.to_string()),
            EVMError::Header(error) => Self::Evm(error.to_string()),
            EVMError::Custom(error) => Self::Evm(error),
            EVMError::CustomAny(error) => Self::Evm(error.to_string()),
        }
    }
}

impl From<ExecutionError> for ExecutorError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::NotIncludable { hash, reason } => Self::NotIncludable { hash, reason },
            ExecutionError::State(error) => Self::Store(Box::new(error)),
            error @ (ExecutionError::Evm(_) | ExecutionError::Panicked) => {
                Self::Stopped(error.to_string())
            }
        }
    }
}
