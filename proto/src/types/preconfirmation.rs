//! Preconfirmations: what transactions of the open block have come to, told before the block is sealed.

use std::sync::Arc;

use alloy::primitives::B256;

use super::{RecoveredTx, SharedReceipt, StateDiff, block::memory};

/// What one frame of the open block came to, on disk in the order log and executed.
///
/// The sealed block holds the same at the same places, also after a crash, unless blocks are taken back or replaced meanwhile: an L1 reorg took deposits or
/// forced transactions that they hold, or L1 holds other blocks. A frame with the number 0 begins its block anew, then; and what was told of a block counts if the sealed block with
/// its number has this parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preconfirmation {
    /// Number of the block.
    pub block: u64,
    /// Hash of the block before it.
    pub parent_hash: B256,
    /// The block's, Unix seconds.
    pub timestamp: u64,
    /// The block's, wei per gas.
    pub base_fee: u64,
    /// Counts a block's frames from 0. What a block takes of L1's queue is a frame of its own, the first. Frames of which nothing is in the block are not told,
    /// and do not count.
    pub frame: u64,
    /// Where the frame begins in its block.
    pub start: FrameStart,
    /// The transactions that are in the block, in order. Those that it has no place for are not here.
    pub transactions: Vec<Arc<RecoveredTx>>,
    /// One receipt a transaction, as the block will have it.
    pub receipts: Vec<SharedReceipt>,
    /// What the frame changed in the state, if somebody asked for it: relative to the frame before it, and to the block before in a block's first, which also has what
    /// the protocol does at a block's start. What it does at a block's end is in no frame.
    pub diff: Option<Arc<StateDiff>>,
}

/// What a block holds before a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameStart {
    /// Transactions: the index of the frame's first.
    pub index: u64,
    /// Logs: the index of the frame's first.
    pub log_index: u64,
    /// Gas used.
    pub gas_used: u64,
}

impl Preconfirmation {
    /// About what it takes in memory, in bytes.
    pub fn memory(&self) -> usize {
        let diff = self.diff.as_ref().map_or(0, |diff| diff.memory());
        memory(&self.transactions, self.receipts.iter().map(|receipt| &**receipt)) + diff
    }

    /// Gas that the transaction at `index` of the frame used alone; `None` past the end.
    pub fn gas_used_by(&self, index: usize) -> Option<u64> {
        let cumulative = self.receipts.get(index)?.cumulative_gas_used;
        let before = match index.checked_sub(1) {
            Some(previous) => self.receipts.get(previous)?.cumulative_gas_used,
            None => self.start.gas_used,
        };
        cumulative.checked_sub(before)
    }
}

impl FrameStart {
    /// What the block holds after a frame that gave these receipts.
    #[must_use]
    pub fn after(self, receipts: &[SharedReceipt]) -> Self {
        let logs: usize = receipts.iter().map(|receipt| receipt.logs.len()).sum();
        Self {
            index: self.index + receipts.len() as u64,
            log_index: self.log_index + logs as u64,
            gas_used: receipts.last().map_or(self.gas_used, |last| last.cumulative_gas_used),
        }
    }
}
