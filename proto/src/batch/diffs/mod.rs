//! Batches of state diffs: what their blocks changed together, instead of the transactions that changed it.
//!
//! ```text
//!  blocks + diffs ─> one delta ─> columns ─> zstd ─> header ‖ frame
//!                ├─> hints: of what the keys of mappings' entries were computed
//!                └─> names: accounts of the state before them, by how their addresses begin
//! ```

mod decode;
mod encode;
mod form;
mod hints;
mod named;
mod names;
mod words;

use std::sync::Arc;

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes},
};

pub use self::{
    hints::KeyHints,
    named::NamedDelta,
    names::{AccountNames, NameError},
};
use super::{BatchDecodeError, BatchEncodeError, BatchLimits, header::BatchPreamble};
use crate::types::{BatchPayload, ExecutedBlock, QueueMark, StateDelta, StateDiff, message_ids};

/// A stretch of the chain as what it changed: as it was executed, or (with a [`NamedDelta`]) as a batch's bytes alone say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffBatch<D = StateDelta> {
    /// The rollup's EIP-155 chain id.
    pub chain_id: u64,
    /// Number of the first block, from 1.
    pub first_block: u64,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Deposits that the chain consumed before the first block.
    pub deposits_start: u64,
    /// How many signed transactions the blocks hold: what the batcher says.
    pub transactions: u64,
    /// The last block's header.
    pub header: Header,
    /// The ids of the messages to L1 that the blocks sent, in order.
    pub messages: Vec<B256>,
    /// What the blocks changed together.
    pub delta: D,
}

impl DiffBatch {
    /// A batch of consecutive blocks of the rollup `chain_id`, each with what it changed. `deposits_start` and `parent_hash` belong to the
    /// block before the first.
    ///
    /// # Errors
    /// As [`Batch::from_blocks`](super::Batch::from_blocks).
    pub fn from_blocks(
        chain_id: u64,
        deposits_start: u64,
        parent_hash: B256,
        blocks: &[(Arc<ExecutedBlock>, Arc<StateDiff>)],
    ) -> Result<Self, BatchEncodeError> {
        let (Some((first, _)), Some((last, _))) = (blocks.first(), blocks.last()) else {
            return Err(BatchEncodeError::Empty);
        };
        let executed = blocks.iter().map(|(block, _)| &**block);
        super::from_blocks::check(deposits_start, parent_hash, executed)?;
        let mut diff = StateDiff::default();
        let mut transactions = 0;
        let mut messages = Vec::new();
        for (block, changed) in blocks {
            let number = block.number();
            let problem = "what it changed does not follow what the blocks before it changed";
            diff.extend(StateDiff::clone(changed))
                .map_err(|_| BatchEncodeError::Block { number, problem })?;
            transactions += block.signed().len() as u64;
            messages.extend(message_ids(&block.receipts));
        }
        Ok(Self {
            chain_id,
            first_block: first.number(),
            parent_hash,
            deposits_start,
            transactions,
            header: last.header.clone_inner(),
            messages,
            delta: StateDelta::from(&diff),
        })
    }

    /// The batch's bytes; see [`Batch::encode`](super::Batch::encode). What `hints` does not know the origin of takes 32 bytes a key, and an account that is not
    /// among the `names` 20 bytes.
    ///
    /// # Errors
    /// When a field breaks the rules stated on it, or the batch is over [`BatchLimits::default`].
    pub fn encode(
        &self,
        level: i32,
        hints: &KeyHints,
        names: &AccountNames,
    ) -> Result<Bytes, BatchEncodeError> {
        encode::encode(self, level, hints, names)
    }
}

impl DiffBatch<NamedDelta> {
    /// Reads a batch. Total, as [`Batch::decode`](super::Batch::decode) is.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch within the limits.
    pub fn decode(encoded: &[u8], limits: &BatchLimits) -> Result<Self, BatchDecodeError> {
        decode::decode(encoded, limits)
    }

    /// The batch with its accounts by their addresses; see [`NamedDelta::resolve`].
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn resolve(self, found: &[Option<Address>]) -> Result<DiffBatch, NameError> {
        let delta = self.delta.resolve(found, &self.messages)?;
        Ok(DiffBatch {
            chain_id: self.chain_id,
            first_block: self.first_block,
            parent_hash: self.parent_hash,
            deposits_start: self.deposits_start,
            transactions: self.transactions,
            header: self.header,
            messages: self.messages,
            delta,
        })
    }
}

impl<D> DiffBatch<D> {
    /// Number of the last block.
    pub const fn last_block(&self) -> u64 {
        self.header.number
    }

    /// Deposits that the chain has consumed through the last block; none more if the header is no rollup's, which no batch that was read has.
    pub fn deposits_end(&self) -> u64 {
        QueueMark::of(&self.header).map_or(self.deposits_start, |mark| mark.end)
    }

    fn preamble(&self) -> BatchPreamble {
        BatchPreamble {
            payload: BatchPayload::StateDiffs,
            chain_id: self.chain_id,
            first_block: self.first_block,
            parent_hash: self.parent_hash,
            deposits_start: self.deposits_start,
            last_block_hash: self.header.hash_slow(),
            block_count: self.header.number.saturating_sub(self.first_block).saturating_add(1),
            transaction_count: self.transactions,
        }
    }
}
