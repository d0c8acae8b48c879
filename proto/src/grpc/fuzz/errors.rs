//! Errors of a peer: a status with any details, a rejection.

use std::fmt::Debug;

use bytes::Bytes;
use tonic::{Code, Status};

use crate::{
    grpc::{
        error::{Fault, WireError},
        fuzz::decoded,
        pb,
    },
    service::{DaAdapterError, ExecutorError, SequencerError, SettlementError, SubmitError},
};

/// A code, and the bytes of `grpc-status-details-bin`.
pub(super) fn status(bytes: &[u8]) -> bool {
    let Some((code, details)) = bytes.split_first() else { return false };
    let code = Code::from_i32(i32::from(*code));
    let details = Bytes::copy_from_slice(details);
    let status = || Status::with_details(code, "text", details.clone());
    error::<ExecutorError>(status());
    error::<SequencerError>(status());
    error::<SubmitError>(status());
    error::<DaAdapterError>(status());
    error::<SettlementError>(status());
    Fault::from_status(&status()).is_some()
}

/// An error that is sent on keeps its code and its reason.
fn error<E: WireError + Debug>(status: Status) {
    let sent = E::from_status(status).fault();
    let received = E::from_status(sent.clone().into_status()).fault();
    assert_eq!((received.code, &received.reason), (sent.code, &sent.reason));
}

pub(super) fn rejection(bytes: &[u8]) -> bool {
    let Some(message) = decoded::<pb::Rejection>(bytes) else { return false };
    let fault = Fault::from_rejection(message);
    let again = Fault::from_rejection(fault.clone().into_rejection());
    assert_eq!(again, fault);
    let Some(error) = SubmitError::from_fault(&fault) else { return false };
    let sent = error.fault();
    let received = SubmitError::from_fault(&sent).map(|error| error.fault());
    let received = received.unwrap_or_else(|| panic!("{sent:?} is not read"));
    assert_eq!((received.code, &received.reason), (sent.code, &sent.reason));
    true
}
