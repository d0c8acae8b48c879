//! The last sealed blocks, so that a transaction's result is at hand when it is asked for.

use std::{collections::VecDeque, sync::Arc};

use alloy::primitives::{TxHash, map::B256Map};
use millrace_proto::ExecutedBlock;

/// Transactions kept at most; the last block is kept whatever its size.
const MAX_TRANSACTIONS: usize = 65_536;
/// Blocks kept at most.
const MAX_BLOCKS: usize = 1024;

/// The last sealed blocks and an index of their transactions.
#[derive(Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: VecDeque<Arc<ExecutedBlock>>,
    index: B256Map<(u64, usize)>,
}

impl RecentBlocks {
    /// Adds the block after the last one.
    pub(crate) fn push(&mut self, block: Arc<ExecutedBlock>) {
        for (position, tx) in block.transactions.iter().enumerate() {
            self.index.insert(tx.hash(), (block.number(), position));
        }
        self.blocks.push_back(block);
        while self.blocks.len() > 1
            && (self.blocks.len() > MAX_BLOCKS || self.index.len() > MAX_TRANSACTIONS)
        {
            let Some(oldest) = self.blocks.pop_front() else { return };
            for tx in &oldest.transactions {
                self.index.remove(&tx.hash());
            }
        }
    }

    /// The block that holds a transaction, and its index there.
    pub(crate) fn find(&self, hash: TxHash) -> Option<(Arc<ExecutedBlock>, usize)> {
        let (number, position) = *self.index.get(&hash)?;
        let first = self.blocks.front()?.number();
        let block = self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)?;
        Some((block.clone(), position))
    }

    /// Whether one of the blocks holds a transaction.
    pub(crate) fn contains(&self, hash: TxHash) -> bool {
        self.index.contains_key(&hash)
    }
}
