//! Encoding the open batch; if it is too large, as much of it as fits.

use std::sync::Arc;

use alloy::primitives::{B256, Bytes};
use millrace_proto::{Batch, BatchEncodeError, ExecutedBlock};

use crate::{deposits::accumulate, outbox::Cursor};

/// A batch ready for the outbox.
#[derive(Debug)]
pub(super) struct EncodedBatch {
    pub(super) data: Bytes,
    /// How many of the blocks it holds, from the front.
    pub(super) blocks: usize,
    pub(super) transactions: usize,
    /// EIP-2718 bytes of the transactions.
    pub(super) raw_bytes: usize,
    pub(super) deposits_end: u64,
    pub(super) deposits_hash: B256,
}

/// Why no batch could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloseError {
    /// Not even the first block fits.
    #[error("block {number} alone takes more than the {max} bytes of a batch")]
    BlockTooLarge { number: u64, max: usize },
    /// A block that no batch can hold.
    #[error(transparent)]
    Encode(#[from] BatchEncodeError),
}

/// Encodes as many blocks from the front as fit `max_size` and the format's limits. `blocks` is not
/// empty. Uses a core for a while: call it off the async threads.
pub(super) fn encode(
    chain_id: u64,
    cursor: &Cursor,
    blocks: &[Arc<ExecutedBlock>],
    max_size: usize,
    level: i32,
) -> Result<EncodedBatch, CloseError> {
    let mut count = blocks.len();
    loop {
        let taken = &blocks[..count];
        let batch = Batch::from_blocks(chain_id, cursor.deposits_end, cursor.block.hash, taken)?;
        let (size, limit) = match batch.encode(level) {
            Ok(data) if data.len() <= max_size => {
                let (deposits_end, deposits_hash) = taken.iter().fold(
                    (cursor.deposits_end, cursor.deposits_hash),
                    |(start, before), block| {
                        let hash = accumulate(block, start, before);
                        (start + block.deposit_count() as u64, hash)
                    },
                );
                return Ok(EncodedBatch {
                    data,
                    blocks: count,
                    transactions: batch.transaction_count(),
                    raw_bytes: raw_bytes(taken),
                    deposits_end,
                    deposits_hash,
                });
            }
            Ok(data) => (data.len(), max_size),
            Err(BatchEncodeError::OverLimit { size, limit, .. }) => (size, limit),
            Err(error) => return Err(error.into()),
        };
        let fewer = (count as u128 * limit as u128 * 95 / (size as u128 * 100)) as usize;
        count = fewer.clamp(count / 2, count - 1);
        if count == 0 {
            return Err(CloseError::BlockTooLarge { number: blocks[0].number(), max: max_size });
        }
    }
}

fn raw_bytes(blocks: &[Arc<ExecutedBlock>]) -> usize {
    let transactions = blocks.iter().flat_map(|block| &block.transactions);
    transactions.filter(|tx| !tx.tx().is_deposit()).map(|tx| tx.encoded().len()).sum()
}
