//! Batches from executed blocks.

use std::sync::Arc;

use alloy::primitives::B256;

use super::{Batch, BatchBlock, BatchEncodeError};
use crate::types::{ExecutedBlock, QueueMark};

impl Batch {
    /// A batch of consecutive blocks of the rollup `chain_id`. `deposits_start` and `parent_hash`
    /// belong to the block before the first.
    ///
    /// # Errors
    /// When there is no block, or a block does not follow the one before it, or its deposits do not
    /// fit its header.
    pub fn from_blocks(
        chain_id: u64,
        deposits_start: u64,
        parent_hash: B256,
        blocks: &[Arc<ExecutedBlock>],
    ) -> Result<Self, BatchEncodeError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Err(BatchEncodeError::Empty);
        };
        let ends = check(deposits_start, parent_hash, blocks.iter().map(|block| &**block))?;
        let blocks = blocks.iter().zip(ends).map(|(block, deposits_end)| BatchBlock {
            timestamp: block.header.timestamp,
            deposits_end,
            transactions: block.signed().iter().map(|tx| tx.tx().clone()).collect(),
        });
        Ok(Self {
            chain_id,
            first_block: first.number(),
            parent_hash,
            deposits_start,
            last_block_hash: last.hash(),
            blocks: blocks.collect(),
        })
    }
}

/// Checks that blocks follow each other, the first one the block with the hash `parent` after which `deposits` were consumed. Returns
/// how many were after each.
pub(super) fn check<'a>(
    mut deposits: u64,
    mut parent: B256,
    blocks: impl Iterator<Item = &'a ExecutedBlock>,
) -> Result<Vec<u64>, BatchEncodeError> {
    let mut next = None;
    let mut ends = Vec::new();
    for block in blocks {
        let number = block.number();
        let error = |problem| BatchEncodeError::Block { number, problem };
        if next.is_some_and(|next| next != number) {
            return Err(error("its number does not follow the block before it"));
        }
        if block.header.parent_hash != parent {
            return Err(error("its parent is not the block before it"));
        }
        let mark = QueueMark::of(&block.header)
            .ok_or_else(|| error("its extra data is not a rollup's"))?;
        // What is no transaction, or not a valid one, is consumed and not held.
        let consumed = mark.end.checked_sub(deposits);
        if consumed.is_none_or(|consumed| consumed < block.queued_count() as u64) {
            return Err(error("its header counts fewer of L1's entries than it holds"));
        }
        next = Some(number.saturating_add(1));
        parent = block.hash();
        deposits = mark.end;
        ends.push(deposits);
    }
    Ok(ends)
}
