//! The way in: bytes to checked transactions with their senders.

mod check;
mod intrinsic;
mod workers;

pub(crate) use self::{
    check::{Checker, Known, most_cost},
    workers::RecoveryPool,
};
