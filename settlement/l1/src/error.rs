//! What goes wrong between us and an L1 node.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes},
    transports::{RpcError, TransportError, TransportErrorKind},
};
use millrace_proto::ErrorClass;

use crate::revert::RevertReason;

/// Why L1 did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum L1Error {
    /// The node did not answer, or it answered with an error. Retries are already behind it.
    #[error("L1 {method}: {source}")]
    Rpc {
        /// The JSON-RPC method.
        method: &'static str,
        /// What the transport or the node said.
        #[source]
        source: TransportError,
    },
    /// The contract reverted a call.
    #[error("L1 call of {call} reverted: {reason}")]
    Reverted {
        /// The function.
        call: &'static str,
        /// Why.
        reason: RevertReason,
    },
    /// The node does not know a block that it should: it lags behind, or a reorg took the block.
    #[error("the L1 node does not have block {0}")]
    BlockMissing(String),
    /// L1 changed between two answers that have to fit together, or two nodes behind one address disagree.
    #[error("inconsistent answers from L1: {0}")]
    Inconsistent(String),
    /// What the node says of a block does not fit the block's hash.
    #[error(
        "the L1 node says what its block does not hold: {0}. It lies or is broken, or its L1's blocks are not Ethereum's ([l1] check_blocks)"
    )]
    Unproven(String),
    /// The node is of another chain than the one that is configured.
    #[error(
        "the L1 node at {host} is of chain {id}, and this rollup's L1 is chain {expected} ([l1] chain_id, --l1-chain-id): check the L1 URL"
    )]
    WrongChain {
        /// The node's host.
        host: String,
        /// What it says.
        id: u64,
        /// What is configured.
        expected: u64,
    },
    /// No node proves what the contract holds at a block, though one did before.
    #[error(
        "no L1 node proves the state of block {0} (eth_getProof): use one that keeps the states of recent blocks, for example in [l1] fallbacks"
    )]
    NoProof(u64),
    /// An answer that the contract or the protocol rules out.
    #[error("bad answer to {method} from L1: {problem}")]
    BadAnswer {
        /// What was asked.
        method: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Nothing is deployed at the rollup's address, or something else.
    #[error(
        "there is no rollup contract at {address}: is this the right L1, and the right address?"
    )]
    NoContract {
        /// The configured address.
        address: Address,
    },
    /// The rollup contract is of a version that this build does not know.
    #[error(
        "the rollup contract at {address} has version {version}, and this build of millrace knows version {known}: use a build that is made \
         for it"
    )]
    UnknownVersion {
        /// The contract.
        address: Address,
        /// What it says.
        version: u32,
        /// What this build is made for.
        known: u32,
    },
    /// The L1 is not the one that was followed before: a block is gone that came before the contract itself.
    #[error(
        "L1 has been replaced: {0}. This is another L1, or one that has started anew; check the L1 URL"
    )]
    Replaced(String),
    /// No event with a genesis that the caller accepts.
    #[error("rollup {address} has published no genesis whose hash is {expected}")]
    GenesisMissing {
        /// The contract.
        address: Address,
        /// The hash that the contract was made with.
        expected: B256,
    },
    /// A transaction did not appear in a block in time.
    #[error("{what} is not on L1 after {waited:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The caller's parameters cannot work.
    #[error("{0}")]
    InvalidRequest(String),
}

impl L1Error {
    /// What the caller can do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Rpc { source, .. } if is_transient(source) => ErrorClass::Retryable,
            // Another look may reach another node.
            Self::BlockMissing(_)
            | Self::Inconsistent(_)
            | Self::Unproven(_)
            | Self::NoProof(_)
            | Self::Timeout { .. } => ErrorClass::Retryable,
            Self::Reverted { .. } | Self::InvalidRequest(_) => ErrorClass::Caller,
            Self::Rpc { .. }
            | Self::WrongChain { .. }
            | Self::BadAnswer { .. }
            | Self::NoContract { .. }
            | Self::UnknownVersion { .. }
            | Self::Replaced(_)
            | Self::GenesisMissing { .. } => ErrorClass::Fatal,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.class() == ErrorClass::Retryable
    }

    /// The node's own words and code, if it answered with a JSON-RPC error.
    pub(crate) fn response(&self) -> Option<(i64, &str)> {
        match self {
            Self::Rpc { source, .. } => {
                source.as_error_resp().map(|payload| (payload.code, payload.message.as_ref()))
            }
            _ => None,
        }
    }

    /// The revert data that the node sent along, empty if it says that the call reverted without data.
    pub(crate) fn revert_data(&self) -> Option<Bytes> {
        let Self::Rpc { source, .. } = self else { return None };
        let payload = source.as_error_resp()?;
        payload.as_revert_data().or_else(|| {
            // 3 is "execution error" (EIP-1474's successor in execution-apis); some nodes only say it in words.
            (payload.code == 3 || payload.message.to_ascii_lowercase().contains("revert"))
                .then(Bytes::new)
        })
    }
}

/// Whether an error may go away by itself: no connection, timeouts, 429, 5xx, answers that are cut short.
pub(crate) fn is_transient(error: &TransportError) -> bool {
    match error {
        RpcError::Transport(kind) => match kind {
            TransportErrorKind::HttpError(http) => is_transient_status(http.status),
            TransportErrorKind::HttpErrorWithRetryAfter { .. }
            | TransportErrorKind::Custom(_)
            | TransportErrorKind::MissingBatchResponse(_)
            | TransportErrorKind::BackendGone => true,
            _ => false,
        },
        RpcError::ErrorResp(payload) => payload.is_retry_err(),
        RpcError::DeserError { .. } | RpcError::NullResp => true,
        RpcError::SerError(_) | RpcError::UnsupportedFeature(_) | RpcError::LocalUsageError(_) => {
            false
        }
    }
}

/// Whether an HTTP status is worth another try.
pub(crate) const fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}
