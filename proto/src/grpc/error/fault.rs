//! What is sent of an error: a code, a reason, a text, and facts by name.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Write},
    str::FromStr,
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

use crate::grpc::{error::ERROR_DOMAIN, pb};

/// Longest text, bytes. A status travels in HTTP headers, of which clients take 8 KiB or a little more.
const MAX_TEXT: usize = 1024;

/// An error on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(code: Code, reason: &'static str, message: impl fmt::Display) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: bounded(message),
            metadata: HashMap::new(),
            retry_after: None,
        }
    }

    /// Adds a fact.
    pub(crate) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), bounded(value));
        self
    }

    /// A fact's text; empty if it is missing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// A fact; `None` if it is missing or does not parse.
    pub(crate) fn get<T: FromStr>(&self, key: &str) -> Option<T> {
        self.metadata.get(key)?.parse().ok()
    }

    pub(crate) fn into_status(self) -> Status {
        if self.code == Code::Internal {
            error!(target: "millrace::grpc", reason = %self.reason, problem = %self.message, "call failed");
        }
        let mut details =
            ErrorDetails::with_error_info(self.reason.into_owned(), ERROR_DOMAIN, self.metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, self.message, details)
    }

    /// `None` if the status is none of a Millrace service.
    pub(crate) fn from_status(status: &Status) -> Option<Self> {
        let details = status.check_error_details().ok()?;
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
        Some(Self {
            code: status.code(),
            reason: info.reason.clone().into(),
            message: status.message().to_owned(),
            metadata: info.metadata.clone(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        })
    }

    pub(crate) fn into_rejection(self) -> pb::Rejection {
        pb::Rejection {
            code: self.code.into(),
            reason: self.reason.into_owned(),
            message: self.message,
            metadata: self.metadata,
            retry_after_ms: self
                .retry_after
                .map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn from_rejection(rejection: pb::Rejection) -> Self {
        Self {
            code: rejection.code.into(),
            reason: rejection.reason.into(),
            message: rejection.message,
            metadata: rejection.metadata,
            retry_after: (rejection.retry_after_ms > 0)
                .then(|| Duration::from_millis(rejection.retry_after_ms)),
        }
    }
}

/// The text, cut to [`MAX_TEXT`] bytes at a character's border.
fn bounded(value: impl fmt::Display) -> String {
    let mut text = String::new();
    // Writing to a string fails only if `Display` itself does; then what was written so far stands.
    let _ = write!(text, "{value}");
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}
