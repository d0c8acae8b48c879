//! Why there is no proof of a transaction's inclusion.

use alloy::primitives::TxHash;
use jsonrpsee::types::ErrorObjectOwned;
use millrace_da_adapter::InclusionProofError;
use millrace_l1::L1Error;
use millrace_proto::{DaReadError, ErrorChain, ExecutorError, RejectReason, SettlementError};
use serde_json::json;
use tracing::warn;

/// EIP-1474: the requested resource does not exist.
const RESOURCE_NOT_FOUND: i32 = -32001;
/// EIP-1474: the service cannot answer now.
const RESOURCE_UNAVAILABLE: i32 = -32002;
/// EIP-1474: the request is over a limit.
const LIMIT_EXCEEDED: i32 = -32005;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProveError {
    #[error(
        "transaction {0} is unknown: no block here holds it, and it is not known to be accepted"
    )]
    Unknown(TxHash),
    #[error("transaction {0} was accepted and is in no block yet; try again later")]
    NotSequenced(TxHash),
    #[error("transaction {hash} was dropped and is in no block: {reason}")]
    Dropped { hash: TxHash, reason: RejectReason },
    #[error(
        "transaction {hash} is in block {block}, which is in no batch on L1 yet; try again later"
    )]
    NotPosted { hash: TxHash, block: u64 },
    #[error("other inclusion proofs are being made; try again later")]
    Busy,
    #[error(
        "this node has no source for the bytes of batches: see its log from when it was started"
    )]
    NoReader,
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    #[error("settlement: {0}")]
    Settlement(#[from] SettlementError),
    #[error(transparent)]
    L1(#[from] L1Error),
    #[error("the batch's bytes: {0}")]
    Da(#[from] DaReadError),
    #[error("{0} changed while the proof was made; try again")]
    Changed(&'static str),
    #[error("what the services and L1 say does not make a proof; try again: {0}")]
    DoesNotHold(#[from] InclusionProofError),
    #[error("the task that checks the proof failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl ProveError {
    /// A name for programs.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "UNKNOWN_TRANSACTION",
            Self::NotSequenced(_) => "NOT_SEQUENCED",
            Self::Dropped { .. } => "DROPPED",
            Self::NotPosted { .. } => "NOT_POSTED",
            Self::Busy => "BUSY",
            Self::Changed(_) => "CHANGED",
            _ => "UNAVAILABLE",
        }
    }
}

impl From<ProveError> for ErrorObjectOwned {
    fn from(error: ProveError) -> Self {
        let reason = error.code();
        let (code, message) = match &error {
            ProveError::Unknown(_)
            | ProveError::NotSequenced(_)
            | ProveError::Dropped { .. }
            | ProveError::NotPosted { .. } => (RESOURCE_NOT_FOUND, error.to_string()),
            ProveError::Busy => (LIMIT_EXCEEDED, error.to_string()),
            ProveError::Changed(_) | ProveError::NoReader => {
                (RESOURCE_UNAVAILABLE, error.to_string())
            }
            // URLs and the like are for the log.
            other => {
                warn!(target: "millrace", error = %ErrorChain::new(other), "no inclusion proof");
                let message = "the proof cannot be made now; the node's log says why";
                (RESOURCE_UNAVAILABLE, message.to_owned())
            }
        };
        Self::owned(code, message, Some(json!({ "reason": reason })))
    }
}
