//! Blocks, transactions and receipts in the form that Ethereum clients expect.

mod block;
mod pool;
mod preconfirmation;
mod receipt;
mod slot;
mod stages;
mod transaction;

pub(crate) use self::{
    block::{AnyBlock, RpcBlock, any_block, block, header},
    pool::PoolCounts,
    preconfirmation::RpcPreconfirmation,
    receipt::{RpcReceipt, logs, logs_at, receipt_at, receipts},
    slot::SlotKey,
    stages::RpcStages,
    transaction::RpcTransaction,
};
