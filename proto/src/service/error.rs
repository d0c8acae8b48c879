//! What callers branch on.

use std::error::Error as _;

use super::report::append_causes;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same call may succeed later.
    Retryable,
    /// The call was wrong; it will fail again.
    Caller,
    /// The service cannot go on without an operator.
    Fatal,
}

/// The other service could not be reached, or its reply made no sense.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// No reply. The text tells the status's causes: its own form is for debugging.
    #[error("service unreachable: {}", status_text(.0))]
    Unreachable(Box<tonic::Status>),
    /// A reply that this version cannot read.
    #[error("malformed message: field {field}: {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The peer closed a stream in the middle of an exchange.
    #[error("the peer closed the stream")]
    Closed,
}

impl TransportError {
    /// A field that does not hold what it should.
    pub fn malformed(field: &'static str, problem: impl ToString) -> Self {
        Self::Malformed { field, problem: problem.to_string() }
    }
}

/// A status in words: its message and causes, or what its code means.
fn status_text(status: &tonic::Status) -> String {
    let text = status_message(status);
    if text.is_empty() { status.code().to_string() } else { text }
}

/// A status's message with what caused it, for those who get no more than the text.
pub(crate) fn status_message(status: &tonic::Status) -> String {
    let mut cause = status.source();
    // Says "transport error", whatever happened.
    while let Some(wrapper) = cause.filter(|cause| cause.is::<tonic::transport::Error>()) {
        cause = wrapper.source();
    }
    let mut text = status.message().to_owned();
    append_causes(&mut text, cause);
    // What rustls says of an answer that is none of TLS.
    if text.contains("InvalidContentType") {
        text.push_str(" (the port does not speak TLS: use http://)");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn an_unreachable_service_is_told_in_words() {
        let text = |status| TransportError::Unreachable(Box::new(status)).to_string();
        let mut refused = Status::unavailable("tcp connect error");
        refused.set_source(Arc::new(io::Error::other("connection refused")));
        let told = "service unreachable: tcp connect error: connection refused";
        assert_eq!(text(refused), told);
        let silent = Status::new(Code::DeadlineExceeded, "");
        assert_eq!(
            text(silent),
            "service unreachable: Deadline expired before operation could complete"
        );
    }
}
