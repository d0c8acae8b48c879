//! Typed errors as `google.rpc.Status`, and back.

mod da;
mod executor;
mod fault;
mod refusal;
mod reject;
mod sequencer;
mod settlement;
mod transport;

#[cfg(test)]
mod tests;

use tonic::Status;

pub use self::refusal::{overloaded, too_slow, unauthenticated};
pub(crate) use self::{
    fault::Fault,
    refusal::operators_only,
    reject::{reject_fault, reject_from_fault},
    transport::request_fault,
};
use crate::service::TransportError;

/// The `domain` of every `ErrorInfo` that a Millrace service sends.
pub const ERROR_DOMAIN: &str = "millrace.v1";

/// An error whose source stayed in another process: what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(pub String);

impl RemoteError {
    fn boxed(fault: &Fault) -> Box<dyn std::error::Error + Send + Sync> {
        Box::new(Self(fault.text("problem").to_owned()))
    }
}

/// An error that crosses the wire. `from_fault(fault(e))` is `e` again, except that a source becomes a [`RemoteError`].
pub(crate) trait WireError: Sized {
    /// What is sent.
    fn fault(&self) -> Fault;

    /// What was sent; `None` if it is no error of this kind.
    fn from_fault(fault: &Fault) -> Option<Self>;

    /// The error of a peer that cannot be reached or understood.
    fn from_transport(error: TransportError) -> Self;

    /// Reads a failed call's status.
    fn from_status(status: Status) -> Self {
        Fault::from_status(&status)
            .and_then(|fault| Self::from_fault(&fault))
            .unwrap_or_else(|| Self::from_transport(TransportError::Unreachable(Box::new(status))))
    }

    /// The status to fail a call with.
    fn status(&self) -> Status {
        self.fault().into_status()
    }
}

/// For `map_err`.
pub(crate) fn to_status<E: WireError>(error: E) -> Status {
    error.status()
}

/// The status for a request that does not parse.
pub(crate) fn bad_request(error: TransportError) -> Status {
    request_fault(&error).into_status()
}
