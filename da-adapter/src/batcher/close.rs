//! Encoding the open batch; if it is too large, as much of it as fits.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes};
use millrace_proto::{
    AccountNames, Batch, BatchEncodeError, BatchLimits, DiffBatch, ExecutedBlock, KeyHints,
    QueueMark, StateDiff,
};

use super::open_batch::Collected;
use crate::outbox::Cursor;

/// A batch is filled to at least so many hundredths of its target, if single blocks are small enough for that.
const FULL: usize = 99;
/// How often a batch is encoded at most to find how many blocks fill it.
const TRIES: usize = 8;

/// What a batch may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes that it is to be filled to.
    pub(super) target: usize,
    /// Bytes that a single block may take, if it is larger than the target.
    pub(super) max: usize,
}

impl Sizes {
    /// Whether another block should be waited for.
    pub(super) const fn has_room(self, size: usize) -> bool {
        size * 100 < self.target * FULL
    }
}

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
    /// Bytes that all of the blocks would have taken, where that is known.
    pub(super) whole: Option<usize>,
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

/// Encodes as many blocks from the front as fit the target size and the format's limits, at least one. There is at least one block. Uses a core for a while: call
/// it off the async threads.
pub(super) fn encode(
    chain_id: u64,
    cursor: &Cursor,
    source: &Source,
    names: &AccountNames,
    sizes: Sizes,
    level: i32,
) -> Result<EncodedBatch, CloseError> {
    let first = cursor.block.number + 1;
    // The most that are known to fit and how much they take, and the fewest that are known not to.
    let mut fits: Option<(EncodedBatch, usize)> = None;
    let mut over: Option<(usize, usize)> = None;
    let all = source.blocks();
    let mut count = all;
    let mut whole = None;
    for attempt in 1.. {
        let max = if count == 1 { sizes.max } else { sizes.target };
        let encoded = source.encode(chain_id, cursor, names, count, level);
        if let (true, Ok(encoded)) = (count == all, &encoded) {
            whole = Some(encoded.data.len());
        }
        match encoded {
            Ok(encoded) if encoded.data.len() <= max => {
                let size = encoded.data.len();
                fits = Some((encoded, size));
            }
            Ok(encoded) => over = Some((count, encoded.data.len())),
            // As if it had as many times the bytes as it has of what there is too much of.
            Err(CloseError::Encode(BatchEncodeError::OverLimit { size, limit, .. })) => {
                let size = sizes.target as u128 * size as u128 / limit.max(1) as u128;
                over = Some((count, usize::try_from(size).unwrap_or(usize::MAX)));
            }
            Err(error) => return Err(error),
        }
        let low = fits.as_ref().map_or((0, 0), |(encoded, size)| (encoded.blocks, *size));
        let Some(high) = over else { break };
        let enough = fits.is_some() && (attempt >= TRIES || !sizes.has_room(low.1));
        if enough || high.0 - low.0 <= 1 {
            break;
        }
        // Where the target lies between the two, if sizes grow evenly.
        let wanted = sizes.target.saturating_sub(low.1) as u128 * (high.0 - low.0) as u128;
        let step = wanted / high.1.saturating_sub(low.1).max(1) as u128;
        let even = low.0 + usize::try_from(step).unwrap_or(usize::MAX);
        // A guess that was over is not repeated in small steps.
        let most = if attempt > TRIES / 2 { low.0 + (high.0 - low.0) / 2 } else { high.0 - 1 };
        count = even.min(most).max(low.0 + 1);
    }
    let (encoded, _) = fits.ok_or(CloseError::BlockTooLarge { number: first, max: sizes.max })?;
    source.check(chain_id, cursor, names, &encoded)?;
    Ok(EncodedBatch { whole, ..encoded })
}

/// What batches are made of.
#[derive(Debug)]
pub(super) enum Source {
    Transactions(Vec<Arc<ExecutedBlock>>),
    StateDiffs { blocks: Vec<(Arc<ExecutedBlock>, Arc<StateDiff>)>, hints: KeyHints },
}

impl Source {
    /// Of blocks with what they changed, or of all without. Uses a core for a while.
    pub(super) fn new(collected: &[Collected]) -> Self {
        let with_diff = |block: &Collected| Some((block.block.clone(), block.diff.clone()?));
        match collected.iter().map(with_diff).collect::<Option<Vec<_>>>() {
            Some(blocks) => {
                let hints = KeyHints::of(&blocks);
                Self::StateDiffs { blocks, hints }
            }
            None => Self::Transactions(collected.iter().map(|block| block.block.clone()).collect()),
        }
    }

    /// The addresses that are to be named, if they can be.
    pub(super) fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Transactions(_) => Vec::new(),
            Self::StateDiffs { blocks, hints } => AccountNames::wanted(blocks, hints),
        }
    }

    fn blocks(&self) -> usize {
        match self {
            Self::Transactions(blocks) => blocks.len(),
            Self::StateDiffs { blocks, .. } => blocks.len(),
        }
    }

    /// Encodes the first `count` blocks.
    fn encode(
        &self,
        chain_id: u64,
        cursor: &Cursor,
        names: &AccountNames,
        count: usize,
        level: i32,
    ) -> Result<EncodedBatch, CloseError> {
        let (start, parent) = (cursor.deposits_end, cursor.block.hash);
        let (data, blocks) = match self {
            Self::Transactions(blocks) => {
                let blocks = &blocks[..count];
                let batch = Batch::from_blocks(chain_id, start, parent, blocks)?;
                (batch.encode(level)?, blocks.to_vec())
            }
            Self::StateDiffs { blocks, hints } => {
                let blocks = &blocks[..count];
                let batch = DiffBatch::from_blocks(chain_id, start, parent, blocks)?;
                let blocks = blocks.iter().map(|(block, _)| block.clone());
                (batch.encode(level, hints, names)?, blocks.collect())
            }
        };
        let last = blocks.last().and_then(|block| QueueMark::of(&block.header));
        let (deposits_end, deposits_hash) =
            last.map_or((cursor.deposits_end, cursor.deposits_hash), |mark| (mark.end, mark.hash));
        Ok(EncodedBatch {
            data,
            blocks: count,
            transactions: blocks.iter().map(|block| block.signed().len()).sum(),
            raw_bytes: raw_bytes(&blocks),
            deposits_end,
            deposits_hash,
            whole: None,
        })
    }

    /// Whether a batch of state diffs reads back as what it was made of.
    fn check(
        &self,
        chain_id: u64,
        cursor: &Cursor,
        names: &AccountNames,
        encoded: &EncodedBatch,
    ) -> Result<(), BatchEncodeError> {
        let Self::StateDiffs { blocks, .. } = self else { return Ok(()) };
        let blocks = &blocks[..encoded.blocks];
        let (start, parent) = (cursor.deposits_end, cursor.block.hash);
        let batch = DiffBatch::from_blocks(chain_id, start, parent, blocks)?;
        let read = DiffBatch::decode(&encoded.data, &BatchLimits::default()).ok();
        let read = read.and_then(|read| {
            let found = names.find(read.delta.names());
            read.resolve(&found).ok()
        });
        if read.as_ref() == Some(&batch) {
            return Ok(());
        }
        let (number, problem) =
            (batch.last_block(), "the batch that ends with it does not read back");
        Err(BatchEncodeError::Block { number, problem })
    }
}

fn raw_bytes(blocks: &[Arc<ExecutedBlock>]) -> usize {
    let signed = |block: &Arc<ExecutedBlock>| -> usize {
        block.signed().iter().map(|tx| tx.encoded().len()).sum()
    };
    blocks.iter().map(signed).sum()
}
