//! The way in: bytes to checked transactions with their senders.

mod check;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod intrinsic;
mod queue;
mod source;
mod workers;

use std::sync::Arc;

use alloy::primitives::Bytes;
use millrace_proto::{RecoveredTx, RejectReason};

/// A transaction as it came.
#[derive(Debug, Clone)]
pub(crate) struct Submitted {
    /// EIP-2718 bytes, if it is one.
    pub(crate) raw: Bytes,
    /// Who sent it.
    pub(crate) source: Option<Source>,
}

/// What became of each transaction of a submission, in its order.
pub(crate) type Checked = Vec<Result<Arc<RecoveredTx>, RejectReason>>;

pub(crate) use self::{
    check::{Checker, Known, most_cost},
    source::Source,
    workers::RecoveryPool,
};
