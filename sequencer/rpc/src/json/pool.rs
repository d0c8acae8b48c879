//! The pool's status as JSON.

use alloy::primitives::U64;
use millrace_proto::PoolStatus;
use serde::Serialize;

/// What `txpool_status` returns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PoolCounts {
    pending: U64,
    queued: U64,
}

impl From<PoolStatus> for PoolCounts {
    fn from(status: PoolStatus) -> Self {
        Self { pending: U64::from(status.pending), queued: U64::from(status.queued) }
    }
}
