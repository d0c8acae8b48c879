//! The stages of a transaction as JSON.

use alloy::primitives::{B256, BlockHash, TxHash, U64};
use millrace_proto::{Stage, TxStatus};
use serde::Serialize;

/// What `millrace_getTransactionStatus` returns.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcStages {
    transaction_hash: TxHash,
    /// The last that is reached.
    stage: Stage,
    /// All that are reached, in order.
    stages: Vec<RpcStage>,
}

/// A stage: what is not known, or not of it, is null or left out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RpcStage {
    stage: Stage,
    /// Unix time at which it was reached, milliseconds, as far as the sequencer saw it.
    timestamp_millis: Option<U64>,
    #[serde(flatten)]
    block: Option<RpcPlace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<U64>,
    #[serde(flatten)]
    l1: Option<RpcL1>,
    #[serde(flatten)]
    dropped: Option<RpcDropped>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RpcPlace {
    block_number: U64,
    block_hash: BlockHash,
    transaction_index: U64,
}

/// The L1 transaction that brought it to the stage.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RpcL1 {
    l1_transaction_hash: TxHash,
    l1_block_number: U64,
    l1_block_hash: B256,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RpcDropped {
    /// As in the error of a transaction that is refused for it.
    reason: &'static str,
    message: String,
}

impl RpcStages {
    /// `None` of a transaction that has reached no stage.
    pub(crate) fn new(hash: TxHash, stages: &[TxStatus]) -> Option<Self> {
        let stage = stages.last()?.stage;
        Some(Self {
            transaction_hash: hash,
            stage,
            stages: stages.iter().map(RpcStage::from).collect(),
        })
    }
}

impl From<&TxStatus> for RpcStage {
    fn from(status: &TxStatus) -> Self {
        Self {
            stage: status.stage,
            timestamp_millis: status.reached_at.map(|at| U64::from(at.as_millis())),
            block: status.inclusion.as_ref().map(|inclusion| RpcPlace {
                block_number: U64::from(inclusion.block.number),
                block_hash: inclusion.block.hash,
                transaction_index: U64::from(inclusion.index),
            }),
            batch: status.batch.map(U64::from),
            l1: status.l1.map(|l1| RpcL1 {
                l1_transaction_hash: l1.tx_hash,
                l1_block_number: U64::from(l1.block.number),
                l1_block_hash: l1.block.hash,
            }),
            dropped: status
                .reason
                .as_ref()
                .map(|reason| RpcDropped { reason: reason.code(), message: reason.to_string() }),
        }
    }
}
