//! The way in: bytes to checked transactions with their senders.

mod check;
mod intrinsic;
mod workers;

use std::sync::Arc;

use millrace_proto::{RecoveredTx, RejectReason};

/// What became of each transaction of a submission, in its order.
pub(crate) type Checked = Vec<Result<Arc<RecoveredTx>, RejectReason>>;

pub(crate) use self::{
    check::{Checker, Known, most_cost},
    workers::RecoveryPool,
};
