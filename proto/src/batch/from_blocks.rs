//! Batches from executed blocks.

use std::sync::Arc;

use alloy::primitives::B256;

use super::{Batch, BatchBlock, BatchEncodeError};
use crate::types::{ExecutedBlock, HeaderExtra};

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
        let mut number = first.number();
        let mut parent = parent_hash;
        let mut deposits = deposits_start;
        let mut out = Vec::with_capacity(blocks.len());
        for block in blocks {
            let error = |problem| BatchEncodeError::Block { number: block.number(), problem };
            if block.number() != number {
                return Err(error("its number does not follow the block before it"));
            }
            if block.header.parent_hash != parent {
                return Err(error("its parent is not the block before it"));
            }
            let extra = HeaderExtra::of(&block.header)
                .ok_or_else(|| error("its extra data is not a rollup's"))?;
            let consumed = block.deposit_count();
            if deposits.checked_add(consumed as u64) != Some(extra.deposits_end) {
                return Err(error("its header counts other deposits than it holds"));
            }
            out.push(BatchBlock {
                timestamp: block.header.timestamp,
                deposits_end: extra.deposits_end,
                transactions: block.transactions[consumed..]
                    .iter()
                    .map(|tx| tx.tx().clone())
                    .collect(),
            });
            number = number.saturating_add(1);
            parent = block.hash();
            deposits = extra.deposits_end;
        }
        Ok(Self {
            chain_id,
            first_block: first.number(),
            parent_hash,
            deposits_start,
            last_block_hash: last.hash(),
            blocks: out,
        })
    }
}
