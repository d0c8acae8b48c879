//! What a public port tells a caller whom it does not serve now.

use std::time::Duration;

use tonic::{Code, Status};

use crate::grpc::error::Fault;

/// There is too much of something; the call had no effect. Says when to try again.
pub fn overloaded(what: &str, retry_after: Duration) -> Status {
    let mut fault =
        Fault::new(Code::ResourceExhausted, "OVERLOADED", format_args!("too many {what}"));
    fault.retry_after = Some(retry_after);
    fault.with("what", what).into_status()
}

/// The call shows no token, or none that counts; it had no effect.
pub fn unauthenticated() -> Status {
    let told = "this port wants a token: authorization: Bearer TOKEN";
    Fault::new(Code::Unauthenticated, "NO_TOKEN", told).into_status()
}

/// The request did not arrive whole, or was not answered, in time. Whether it had an effect is not known.
pub fn too_slow(limit: Duration) -> Status {
    let told = format_args!("the request did not arrive, or was not answered, within {limit:?}");
    Fault::new(Code::DeadlineExceeded, "TOO_SLOW", told)
        .with("limit_ms", limit.as_millis())
        .into_status()
}

/// The call is one of operators, who have a socket of their own.
pub(crate) fn operators_only() -> Status {
    let told = "this call is for operators: it is served on the admin socket, [listen.admin]";
    Fault::new(Code::PermissionDenied, "OPERATORS_ONLY", told).into_status()
}
