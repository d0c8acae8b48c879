//! Why a chain is not verified.

use std::{fmt, io};

use millrace_l1::L1Error;
use millrace_proto::{DaReadError, ReplayError};

use crate::execution::{ExecutionError, ReplayWorkerGone};

/// Something that is not as it has to be: what, where, what it has to be, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub what: &'static str,
    /// Where: a block, a batch, a commitment, a deposit.
    pub at: String,
    /// What it has to be.
    pub expected: String,
    /// What it is.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at, expected, got } = self;
        write!(f, "{what} of {at}: expected {expected}, got {got}")
    }
}

impl Difference {
    pub(super) fn new(
        what: &'static str,
        at: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self { what, at: at.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}

/// Why a chain is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first thing found wrong.
    #[error("{0}")]
    Differs(Difference),
    /// A batch holds a block that cannot be executed.
    #[error("{0}")]
    Execution(#[source] ExecutionError),
    /// L1 reorganised while it was read; what was found says nothing.
    #[error("L1 reorganised block {number} while it was read; verify again")]
    L1Moved {
        /// The block that changed.
        number: u64,
    },
    /// L1 has not finalized anything that could be verified.
    #[error("L1 has no finalized block at or after the rollup contract's deployment")]
    NothingFinalized,
    /// L1 does not answer.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// A batch's bytes cannot be read.
    #[error(transparent)]
    Da(#[from] DaReadError),
    /// The chain to rebuild is not empty.
    #[error(
        "verification starts from nothing, but the folder holds {head} blocks; use an empty one"
    )]
    NotEmpty {
        /// Its head.
        head: u64,
    },
    /// Reading or decoding a batch failed with a panic.
    #[error("a batch could not be read and decoded: {0}")]
    Prepare(#[source] tokio::task::JoinError),
    /// The rebuilt chain's store failed.
    #[error("rebuilt chain: {0}")]
    Replay(#[from] ReplayError),
    /// The replay thread could not be started.
    #[error("replay thread: {0}")]
    Thread(#[source] io::Error),
    /// The replay thread is gone.
    #[error(transparent)]
    Worker(#[from] ReplayWorkerGone),
}

impl From<Difference> for VerifyError {
    fn from(difference: Difference) -> Self {
        Self::Differs(difference)
    }
}

impl From<ExecutionError> for VerifyError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::Claim { batch, block, claimed, computed } => {
                let at = format!("block {block}, which batch {batch} ends with");
                Difference::new("hash", at, claimed, computed).into()
            }
            ExecutionError::StateRoot { batch, block, claimed, computed } => {
                let at = format!("block {block}, which batch {batch} ends with");
                Difference::new("state root", at, claimed, computed).into()
            }
            ExecutionError::Failed { source, .. } => Self::Replay(source),
            other => Self::Execution(other),
        }
    }
}
