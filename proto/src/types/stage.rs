//! A transaction's life.

use std::{fmt, time::Duration};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, TxHash},
};
use serde::{Deserialize, Serialize};

use crate::types::{L1Ref, Receipt, RejectReason};

/// How far a transaction has come. Stages only move forward; `Dropped` and `Finalized` are the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// Validated, and on the sequencer's disk.
    Accepted,
    /// Has its block, index and receipt; durable.
    Sequenced,
    /// In a batch that the L1 contract has recorded.
    Posted,
    /// Its batch's state root is committed on L1.
    Committed,
    /// The commitment is past its challenge window, in a finalized L1 block.
    Finalized,
    /// Will not be included.
    Dropped,
}

impl Stage {
    /// The name used in gRPC, JSON-RPC, metrics and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Sequenced => "SEQUENCED",
            Self::Posted => "POSTED",
            Self::Committed => "COMMITTED",
            Self::Finalized => "FINALIZED",
            Self::Dropped => "DROPPED",
        }
    }

    /// Whether no other stage can follow.
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Finalized | Self::Dropped)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a transaction is in its life.
#[derive(Debug, Clone, PartialEq)]
pub struct TxStatus {
    /// The transaction.
    pub hash: TxHash,
    /// The stage reached.
    pub stage: Stage,
    /// When this stage was reached, since the Unix epoch, as far as the sequencer saw it.
    pub reached_at: Option<Duration>,
    /// From `Sequenced` on.
    pub inclusion: Option<Inclusion>,
    /// From `Posted` on: the batch.
    pub batch: Option<u64>,
    /// From `Posted` on: the L1 transaction that brought it to this stage.
    pub l1: Option<L1Ref>,
    /// With `Dropped`: why.
    pub reason: Option<RejectReason>,
}

/// A transaction's place in a block, and what it did there.
#[derive(Debug, Clone, PartialEq)]
pub struct Inclusion {
    /// The block.
    pub block: BlockNumHash,
    /// Index in the block.
    pub index: u64,
    /// Gas that this transaction used.
    pub gas_used: u64,
    /// The receipt.
    pub receipt: Receipt,
    /// The created contract, if the transaction is a creation.
    pub contract_address: Option<Address>,
}
