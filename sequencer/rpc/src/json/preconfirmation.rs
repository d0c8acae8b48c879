//! Frames of the open block as JSON.

use alloy::primitives::{B256, TxHash, U64};
use millrace_proto::{FrameDetail, Preconfirmation, StateDiff};
use serde::Serialize;

use super::receipt::{RpcReceipt, preconfirmed};

/// A frame as `newPreconfirmations` sends it. Receipts and logs are those of the block to come, whose hash is null.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcPreconfirmation<'a> {
    block_number: U64,
    parent_hash: B256,
    timestamp: U64,
    base_fee_per_gas: U64,
    frame: U64,
    transactions: Vec<TxHash>,
    receipts: Vec<RpcReceipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_diff: Option<&'a StateDiff>,
}

impl<'a> RpcPreconfirmation<'a> {
    /// A frame with what was asked for.
    pub(crate) fn new(frame: &'a Preconfirmation, detail: FrameDetail) -> Self {
        Self {
            block_number: U64::from(frame.block),
            parent_hash: frame.parent_hash,
            timestamp: U64::from(frame.timestamp),
            base_fee_per_gas: U64::from(frame.base_fee),
            frame: U64::from(frame.frame),
            transactions: frame.transactions.iter().map(|tx| tx.hash()).collect(),
            receipts: preconfirmed(frame),
            state_diff: frame.diff.as_deref().filter(|_| detail == FrameDetail::StateDiffs),
        }
    }
}
