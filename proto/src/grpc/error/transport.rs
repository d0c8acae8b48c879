//! A service that could not reach, or not understand, the service behind it; and requests that do not parse.

use tonic::{Code, Status};

use crate::{
    grpc::error::Fault,
    service::{TransportError, status_message},
};

const UNREACHABLE: &str = "SERVICE_UNREACHABLE";
const MALFORMED_REQUEST: &str = "MALFORMED_REQUEST";
const MALFORMED_REPLY: &str = "MALFORMED_REPLY";
const CLOSED: &str = "STREAM_CLOSED";

/// What is sent if the service behind the called one failed so.
pub(super) fn transport_fault(error: &TransportError) -> Fault {
    match error {
        TransportError::Unreachable(status) => Fault::new(Code::Unavailable, UNREACHABLE, error)
            .with("code", i32::from(status.code()))
            .with("problem", status_message(status)),
        TransportError::Malformed { field, problem } => {
            Fault::new(Code::Unavailable, MALFORMED_REPLY, error)
                .with("field", field)
                .with("problem", problem)
        }
        TransportError::Closed => Fault::new(Code::Unavailable, CLOSED, error),
    }
}

/// What is sent if the request does not parse.
pub(crate) fn request_fault(error: &TransportError) -> Fault {
    match error {
        TransportError::Malformed { field, problem } => {
            Fault::new(Code::InvalidArgument, MALFORMED_REQUEST, error)
                .with("field", field)
                .with("problem", problem)
        }
        other => transport_fault(other),
    }
}

/// What was sent. A field's name is not known here any more by its constant, so it moves into the text.
pub(super) fn transport_from_fault(fault: &Fault) -> Option<TransportError> {
    let malformed = |field| {
        TransportError::malformed(
            field,
            format!("{}: {}", fault.text("field"), fault.text("problem")),
        )
    };
    Some(match fault.reason.as_ref() {
        UNREACHABLE => {
            let code = Code::from_i32(fault.get("code")?);
            TransportError::Unreachable(Box::new(Status::new(code, fault.text("problem"))))
        }
        MALFORMED_REQUEST => malformed("request"),
        MALFORMED_REPLY => malformed("reply"),
        CLOSED => TransportError::Closed,
        _ => return None,
    })
}
