//! Errors: why the server does not run, and what a client is told.

use std::{net::SocketAddr, time::Duration};

use alloy::{
    primitives::{Bytes, TxHash, hex},
    sol_types::{Panic, Revert, SolError},
};
use jsonrpsee::{
    core::RegisterMethodError,
    types::{ErrorObjectOwned, error::INTERNAL_ERROR_CODE, error::INVALID_PARAMS_CODE},
};
use millrace_proto::{
    CallOutcome, CallStatus, ExecutorError, Outage, SequencerError, SubmitError, TransportError,
};
use parking_lot::Mutex;
use serde::Serialize;
use tracing::{debug, error, warn};

use crate::{logs::LogLimit, reject};

/// Why a server did not start or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The address cannot be listened on.
    #[error("JSON-RPC cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or the tokens are of no use.
    #[error(transparent)]
    Edge(#[from] millrace_edge::EdgeError),
    /// A CORS origin that is no header value.
    #[error("CORS origin {0:?} is not valid; write it like https://app.example.org, or *")]
    Origin(String),
    /// A method of the caller's that this server has already.
    #[error("JSON-RPC methods: {0}")]
    Methods(#[from] RegisterMethodError),
    /// The executor did not say what chain it holds.
    #[error("JSON-RPC needs the executor: {0}")]
    Executor(#[from] ExecutorError),
    /// A task of the server panicked.
    #[error("JSON-RPC task: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// EIP-1474: the requested resource does not exist.
const RESOURCE_NOT_FOUND: i32 = -32001;
/// EIP-1474: the service cannot answer now.
pub(crate) const RESOURCE_UNAVAILABLE: i32 = -32002;
/// EIP-1474: the request is over a limit.
pub(crate) const LIMIT_EXCEEDED: i32 = -32005;
/// What clients expect of a call that cannot run and of a refused transaction.
const SERVER_ERROR: i32 = -32000;
/// A revert, by the convention that all clients share.
const REVERTED: i32 = 3;

/// EIP-7966: accepted, and not processed in time.
const NOT_IN_TIME: i32 = 4;
/// EIP-7966: accepted, and not ready to be processed.
const NOT_READY: i32 = 5;

/// What calls have seen of each service. That an outage is over, the block feed says.
static EXECUTOR: Mutex<Outage> = Mutex::new(Outage::new());
static SEQUENCER: Mutex<Outage> = Mutex::new(Outage::new());

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("{}", revert_message(.0))]
    Reverted(Bytes),
    #[error("{0}")]
    Halted(String),
    #[error("{0}")]
    InvalidParams(String),
    #[error("the transaction was accepted, but is in no block after {timeout:?}; it still counts")]
    NotInTime { hash: TxHash, timeout: Duration },
    #[error("the transaction was accepted, and waits for one with an earlier nonce")]
    NotReady(TxHash),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Limit(String),
    #[error(transparent)]
    Logs(#[from] LogLimit),
}

impl CallError {
    /// The error of a trace or a simulation: that its block is unknown has the code that the specification's tests give it.
    pub(crate) fn without_block(error: ExecutorError) -> Self {
        match error {
            ExecutorError::UnknownBlock(_) => Self::Halted(error.to_string()),
            error => error.into(),
        }
    }

    /// The error of a call that did not succeed; the output of one that did.
    pub(crate) fn of_outcome(outcome: CallOutcome) -> Result<Bytes, Self> {
        match outcome.status {
            CallStatus::Success => Ok(outcome.output),
            CallStatus::Reverted => Err(Self::Reverted(outcome.output)),
            CallStatus::Halted(why) => Err(Self::Halted(why)),
        }
    }
}

impl From<CallError> for ErrorObjectOwned {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Executor(error) => executor(error),
            CallError::Sequencer(error) => sequencer(error),
            CallError::Submit(SubmitError::Failed(error)) => sequencer(error),
            CallError::Submit(SubmitError::Rejected(reason)) => reject::error_object(&reason),
            CallError::Reverted(ref data) => {
                object(REVERTED, error.to_string(), Some(hex::encode_prefixed(data)))
            }
            CallError::NotInTime { hash, .. } => object(NOT_IN_TIME, error.to_string(), Some(hash)),
            CallError::NotReady(hash) => object(NOT_READY, error.to_string(), Some(hash)),
            CallError::Halted(message) => plain(SERVER_ERROR, message),
            CallError::InvalidParams(message) => plain(INVALID_PARAMS_CODE, message),
            CallError::NotFound(message) => plain(RESOURCE_NOT_FOUND, message),
            CallError::Limit(message) => plain(LIMIT_EXCEEDED, message),
            CallError::Logs(limit) => plain(LIMIT_EXCEEDED, limit.to_string()),
        }
    }
}

fn executor(error: ExecutorError) -> ErrorObjectOwned {
    match error {
        ExecutorError::UnknownBlock(_) | ExecutorError::StatePruned { .. } => {
            plain(RESOURCE_NOT_FOUND, error.to_string())
        }
        ExecutorError::InvalidRequest(message) => plain(SERVER_ERROR, message),
        ExecutorError::LimitExceeded { .. } | ExecutorError::TraceLimit(_) => {
            plain(LIMIT_EXCEEDED, error.to_string())
        }
        ExecutorError::Simulation(error) => plain(error.code.code(), error.message),
        ExecutorError::Transport(error) => {
            unanswered(&EXECUTOR, "the executor", &error);
            plain(RESOURCE_UNAVAILABLE, "the executor does not answer; try again later")
        }
        ExecutorError::BuildDiscarded => {
            plain(RESOURCE_UNAVAILABLE, "the open block is built again; try again")
        }
        ExecutorError::NotHead { .. }
        | ExecutorError::NotIncludable { .. }
        | ExecutorError::Store(_)
        | ExecutorError::Stopped(_) => {
            error!(target: "millrace::rpc", %error, "executor failed");
            plain(INTERNAL_ERROR_CODE, "internal error")
        }
    }
}

fn sequencer(error: SequencerError) -> ErrorObjectOwned {
    match error {
        SequencerError::Executor(error) => executor(error),
        SequencerError::UnknownTransaction(_) => plain(RESOURCE_NOT_FOUND, error.to_string()),
        SequencerError::Lagged { .. } => plain(LIMIT_EXCEEDED, error.to_string()),
        SequencerError::NoStateDiffs => plain(INVALID_PARAMS_CODE, error.to_string()),
        SequencerError::Unavailable(_) => plain(RESOURCE_UNAVAILABLE, error.to_string()),
        SequencerError::Transport(error) => {
            unanswered(&SEQUENCER, "the sequencer", &error);
            plain(RESOURCE_UNAVAILABLE, "the sequencer does not answer; try again later")
        }
        SequencerError::OrderLog(_) => {
            error!(target: "millrace::rpc", %error, "sequencer failed");
            plain(INTERNAL_ERROR_CODE, "internal error")
        }
    }
}

/// One outage fails many calls: one warning now and then is enough.
fn unanswered(outage: &Mutex<Outage>, service: &str, error: &TransportError) {
    if outage.lock().failed() {
        warn!(target: "millrace::rpc", service, %error, "calls fail: a service does not answer");
    } else {
        debug!(target: "millrace::rpc", service, %error, "a call failed: a service does not answer");
    }
}

fn plain(code: i32, message: impl Into<String>) -> ErrorObjectOwned {
    object(code, message, None::<()>)
}

pub(crate) fn object(
    code: i32,
    message: impl Into<String>,
    data: Option<impl Serialize>,
) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, data)
}

/// A refused transaction: `-32000` with geth's wording, and the machine-readable reason as data.
pub(crate) fn rejected(
    code: Option<i32>,
    message: String,
    data: impl Serialize,
) -> ErrorObjectOwned {
    object(code.unwrap_or(SERVER_ERROR), message, Some(data))
}

/// `execution reverted`, with the reason if the data is Solidity's `Error(string)` or `Panic(uint256)`.
pub(crate) fn revert_message(data: &[u8]) -> String {
    const REVERTED: &str = "execution reverted";
    if let Ok(revert) = Revert::abi_decode(data) {
        return format!("{REVERTED}: {}", revert.reason);
    }
    match Panic::abi_decode(data) {
        Ok(panic) => format!("{REVERTED}: {panic}"),
        Err(_) => REVERTED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::U256, sol_types::SolError};

    use super::*;

    fn error_of(data: Vec<u8>) -> ErrorObjectOwned {
        CallError::Reverted(data.into()).into()
    }

    #[test]
    fn a_revert_says_its_reason_and_carries_its_data() {
        let data = Revert::from("not enough").abi_encode();
        let error = error_of(data.clone());
        assert_eq!(error.code(), 3);
        assert_eq!(error.message(), "execution reverted: not enough");
        let hex = format!("{:?}", hex::encode_prefixed(data));
        assert_eq!(error.data().map(|data| data.get()), Some(hex.as_str()));
    }

    #[test]
    fn a_panic_says_its_kind() {
        let error = error_of(Panic { code: U256::from(0x11) }.abi_encode());
        assert_eq!(
            error.message(),
            "execution reverted: panic: arithmetic underflow or overflow (0x11)"
        );
    }

    #[test]
    fn other_revert_data_is_left_to_the_client() {
        for data in [vec![], vec![1, 2, 3], vec![0x08, 0xc3, 0x79, 0xa0, 0xff]] {
            assert_eq!(error_of(data).message(), "execution reverted");
        }
        assert_eq!(error_of(vec![]).data().map(|data| data.get()), Some("\"0x\""));
    }
}
