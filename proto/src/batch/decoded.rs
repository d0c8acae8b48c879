//! A batch whatever it holds: what the rules of derivation ask of both payloads.

use alloy::primitives::B256;

use super::{Batch, BatchDecodeError, BatchLimits, DiffBatch, NamedDelta, header::payload_of};
use crate::types::BatchPayload;

/// A decoded batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedBatch {
    /// Of signed transactions.
    Transactions(Batch),
    /// Of state diffs.
    StateDiffs(Box<DiffBatch<NamedDelta>>),
}

/// What a batch says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOutline {
    /// The rollup's EIP-155 chain id.
    pub chain_id: u64,
    /// Number of the first block.
    pub first_block: u64,
    /// Number of the last block.
    pub last_block: u64,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Hash of the last block.
    pub last_block_hash: B256,
    /// Deposits that the chain consumed before the first block.
    pub deposits_start: u64,
    /// Deposits that the chain has consumed through the last block.
    pub deposits_end: u64,
}

/// What a batch says about one of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMark {
    /// Its number.
    pub number: u64,
    /// Unix seconds.
    pub timestamp: u64,
    /// Deposits that the chain has consumed through it.
    pub deposits_end: u64,
}

impl DecodedBatch {
    /// Reads a batch of a chain whose batches hold `payload`. Total, as [`Batch::decode`] is.
    ///
    /// # Errors
    /// When the bytes are not exactly one such batch within the limits.
    pub fn decode(
        encoded: &[u8],
        payload: BatchPayload,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        Ok(match payload {
            BatchPayload::Transactions => Self::Transactions(Batch::decode(encoded, limits)?),
            BatchPayload::StateDiffs => {
                Self::StateDiffs(Box::new(DiffBatch::decode(encoded, limits)?))
            }
        })
    }

    /// Reads a batch of whatever chain: what it holds, it says itself. For those who do not know the chain's genesis. Total, as [`Batch::decode`] is.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch within the limits.
    pub fn decode_any(encoded: &[u8], limits: &BatchLimits) -> Result<Self, BatchDecodeError> {
        Self::decode(encoded, payload_of(encoded), limits)
    }

    /// What it says about itself.
    pub fn outline(&self) -> BatchOutline {
        match self {
            Self::Transactions(batch) => BatchOutline {
                chain_id: batch.chain_id,
                first_block: batch.first_block,
                last_block: batch.last_block(),
                parent_hash: batch.parent_hash,
                last_block_hash: batch.last_block_hash,
                deposits_start: batch.deposits_start,
                deposits_end: batch.deposits_end(),
            },
            Self::StateDiffs(batch) => BatchOutline {
                chain_id: batch.chain_id,
                first_block: batch.first_block,
                last_block: batch.last_block(),
                parent_hash: batch.parent_hash,
                last_block_hash: batch.header.hash_slow(),
                deposits_start: batch.deposits_start,
                deposits_end: batch.deposits_end(),
            },
        }
    }

    /// What it says about its blocks, in order: about all of them, or of state diffs about the last.
    pub fn marks(&self) -> Vec<BlockMark> {
        match self {
            Self::Transactions(batch) => (batch.first_block..)
                .zip(&batch.blocks)
                .map(|(number, block)| BlockMark {
                    number,
                    timestamp: block.timestamp,
                    deposits_end: block.deposits_end,
                })
                .collect(),
            Self::StateDiffs(batch) => vec![BlockMark {
                number: batch.last_block(),
                timestamp: batch.header.timestamp,
                deposits_end: batch.deposits_end(),
            }],
        }
    }
}
