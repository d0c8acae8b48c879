//! Blocks, transactions and receipts in the form that Ethereum clients expect.

mod block;
mod pool;
mod receipt;
mod transaction;

pub(crate) use self::{
    block::{RpcBlock, block, header},
    pool::PoolCounts,
    receipt::{RpcReceipt, logs, receipt_at, receipts},
    transaction::RpcTransaction,
};
