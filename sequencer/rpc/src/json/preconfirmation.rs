//! Frames of the open block as JSON.

use alloy::primitives::{B256, TxHash, U64};
use millrace_proto::Preconfirmation;
use serde::Serialize;

use super::receipt::{RpcReceipt, preconfirmed};

/// A frame as `newPreconfirmations` sends it. Receipts and logs are those of the block to come, whose hash is null.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcPreconfirmation {
    block_number: U64,
    parent_hash: B256,
    timestamp: U64,
    base_fee_per_gas: U64,
    frame: U64,
    transactions: Vec<TxHash>,
    receipts: Vec<RpcReceipt>,
}

impl From<&Preconfirmation> for RpcPreconfirmation {
    fn from(frame: &Preconfirmation) -> Self {
        Self {
            block_number: U64::from(frame.block),
            parent_hash: frame.parent_hash,
            timestamp: U64::from(frame.timestamp),
            base_fee_per_gas: U64::from(frame.base_fee),
            frame: U64::from(frame.frame),
            transactions: frame.transactions.iter().map(|tx| tx.hash()).collect(),
            receipts: preconfirmed(frame),
        }
    }
}
