//! Why blobs could not be read.

use alloy::primitives::B256;
use millrace_proto::ErrorClass;

use crate::error::is_transient_status;

/// Why blobs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BeaconError {
    /// No connection, a timeout, or a reply that was cut short.
    #[error("beacon API {path}: {source}")]
    Transport {
        /// The path.
        path: String,
        /// What failed.
        #[source]
        source: reqwest::Error,
    },
    /// An HTTP status that is no success.
    #[error("beacon API {path}: status {status}: {body}")]
    Status {
        /// The path.
        path: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// A reply that is not what the API says.
    #[error("beacon API {path}: malformed reply: {problem}")]
    Malformed {
        /// The path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The node does not have a blob: not yet, or it has pruned it.
    #[error("the beacon node does not have blob {hash} of L1 block {block}")]
    BlobMissing {
        /// The versioned hash.
        hash: B256,
        /// The L1 block.
        block: u64,
    },
    /// As many blobs came as were asked for, but none has this versioned hash: the node serves wrong data.
    #[error(
        "the beacon node's blobs of L1 block {block} do not include {hash}: it serves other data than L1 recorded"
    )]
    Mismatch {
        /// The versioned hash.
        hash: B256,
        /// The L1 block.
        block: u64,
    },
    /// The endpoint cannot be used.
    #[error("beacon API endpoint: {0}")]
    Endpoint(String),
}

impl BeaconError {
    /// What the caller can do. A mismatch may be mended by another node, so it is retryable.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Status { status, .. } if !is_transient_status(*status) && *status != 404 => {
                ErrorClass::Fatal
            }
            Self::Endpoint(_) => ErrorClass::Fatal,
            _ => ErrorClass::Retryable,
        }
    }

    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }
}
