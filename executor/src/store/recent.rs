//! The last blocks, in memory.

use std::{collections::VecDeque, sync::Arc};

use millrace_proto::{BlockSelector, ExecutedBlock};

/// Blocks that are kept at most.
const BLOCKS: usize = 128;

/// Transactions that the kept blocks hold at most, together; the last block is kept however large it is.
const TRANSACTIONS: usize = 100_000;

/// The last blocks, without gaps.
#[derive(Debug, Default)]
pub(super) struct RecentBlocks {
    blocks: VecDeque<Arc<ExecutedBlock>>,
    transactions: usize,
}

impl RecentBlocks {
    /// Adds the block after the last one.
    pub(super) fn push(&mut self, block: Arc<ExecutedBlock>) {
        self.transactions += block.transactions.len();
        self.blocks.push_back(block);
        while self.blocks.len() > BLOCKS
            || self.blocks.len() > 1 && self.transactions > TRANSACTIONS
        {
            if let Some(block) = self.blocks.pop_front() {
                self.transactions -= block.transactions.len();
            }
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&Arc<ExecutedBlock>> {
        self.blocks.back()
    }

    /// Removes the last one.
    pub(super) fn pop(&mut self) {
        if let Some(block) = self.blocks.pop_back() {
            self.transactions -= block.transactions.len();
        }
    }

    /// A block, if it is kept.
    pub(super) fn get(&self, at: BlockSelector) -> Option<&Arc<ExecutedBlock>> {
        match at {
            BlockSelector::Latest => self.blocks.back(),
            BlockSelector::Number(number) => {
                let index = number.checked_sub(self.blocks.front()?.number())?;
                self.blocks.get(usize::try_from(index).ok()?)
            }
            BlockSelector::Hash(hash) => {
                self.blocks.iter().rev().find(|block| block.hash() == hash)
            }
            BlockSelector::Open(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::consensus::Sealed;
    use millrace_proto::Header;

    use super::*;

    #[test]
    fn old_blocks_leave() {
        let mut recent = RecentBlocks::default();
        let last = 2 * BLOCKS as u64;
        for number in 0..=last {
            let header = Sealed::new(Header { number, ..Header::default() });
            let block = ExecutedBlock { header, transactions: Vec::new(), receipts: Vec::new() };
            recent.push(Arc::new(block));
        }
        let number = |at| recent.get(at).map(|block| block.number());
        assert_eq!(number(BlockSelector::Latest), Some(last));
        assert_eq!(number(BlockSelector::Number(last)), Some(last));
        assert_eq!(number(BlockSelector::Number(last + 1)), None);
        let first = last + 1 - BLOCKS as u64;
        assert_eq!(number(BlockSelector::Number(first)), Some(first));
        assert_eq!(number(BlockSelector::Number(first - 1)), None);
        let hash = recent.get(BlockSelector::Number(first)).expect("kept").hash();
        assert_eq!(number(BlockSelector::Hash(hash)), Some(first));
    }
}
