//! What callers branch on.

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
    /// No reply.
    #[error("service unreachable: {0}")]
    Unreachable(#[source] Box<tonic::Status>),
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
