//! The last sealed blocks, so that a transaction's result is at hand when it is asked for.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use alloy::primitives::{TxHash, map::B256Map};
use millrace_proto::ExecutedBlock;

/// Transactions kept at most; the last block is kept whatever its size.
const MAX_TRANSACTIONS: usize = 65_536;
/// Blocks kept at most.
const MAX_BLOCKS: usize = 1024;
/// Memory that the blocks may take, about. What is not kept any more is read from the executor.
const MAX_BYTES: usize = 128 << 20;

/// The last sealed blocks and an index of their transactions.
#[derive(Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: VecDeque<Kept>,
    index: B256Map<(u64, usize)>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    block: Arc<ExecutedBlock>,
    /// When each transaction was acknowledged, if it was, since the Unix epoch.
    accepted_at: Vec<Option<Duration>>,
    bytes: usize,
}

/// A transaction's place in a block that is kept.
#[derive(Debug, Clone)]
pub(crate) struct RecentTx {
    pub(crate) block: Arc<ExecutedBlock>,
    /// In the block.
    pub(crate) index: usize,
    /// When it was acknowledged, since the Unix epoch.
    pub(crate) accepted_at: Option<Duration>,
}

impl RecentBlocks {
    /// Adds the block after the last one. `accepted_at`: when each of its transactions was acknowledged, as far as they were.
    pub(crate) fn push(&mut self, block: Arc<ExecutedBlock>, accepted_at: Vec<Option<Duration>>) {
        for (position, tx) in block.transactions.iter().enumerate() {
            self.index.insert(tx.hash(), (block.number(), position));
        }
        let bytes = block.memory();
        self.bytes += bytes;
        self.blocks.push_back(Kept { block, accepted_at, bytes });
        while self.blocks.len() > 1 && self.are_too_many() {
            let Some(oldest) = self.blocks.pop_front() else { return };
            self.bytes -= oldest.bytes;
            for tx in &oldest.block.transactions {
                self.index.remove(&tx.hash());
            }
        }
    }

    /// Forgets the blocks after `number`.
    pub(crate) fn unwind(&mut self, number: u64) {
        while let Some(last) = self.blocks.pop_back_if(|last| last.block.number() > number) {
            self.bytes -= last.bytes;
            for tx in &last.block.transactions {
                self.index.remove(&tx.hash());
            }
        }
    }

    /// When the transactions of a block were acknowledged, in its order; `None` if the block is not kept.
    pub(crate) fn accepted_at(&self, number: u64) -> Option<Vec<Option<Duration>>> {
        let first = self.blocks.front()?.block.number();
        let kept = self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)?;
        Some(kept.accepted_at.clone())
    }

    fn are_too_many(&self) -> bool {
        self.blocks.len() > MAX_BLOCKS
            || self.index.len() > MAX_TRANSACTIONS
            || self.bytes > MAX_BYTES
    }

    /// The block that holds a transaction, and its place there.
    pub(crate) fn find(&self, hash: TxHash) -> Option<RecentTx> {
        let (number, index) = *self.index.get(&hash)?;
        let first = self.blocks.front()?.block.number();
        let kept = self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)?;
        let accepted_at = kept.accepted_at.get(index).copied().flatten();
        Some(RecentTx { block: kept.block.clone(), index, accepted_at })
    }

    /// Whether one of the blocks holds a transaction.
    pub(crate) fn contains(&self, hash: TxHash) -> bool {
        self.index.contains_key(&hash)
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::Header,
        primitives::{Address, Bytes, Log, Sealable, U256},
    };
    use millrace_proto::{Deposit, Receipt, RecoveredTx, TxEnvelope, TxType};

    use super::*;

    /// A block with one transaction, which logs `data`.
    fn block(number: u64, data: Bytes) -> Arc<ExecutedBlock> {
        let deposit = Deposit {
            index: number,
            from: Address::ZERO,
            to: Address::ZERO,
            value: U256::ZERO,
            gas_limit: 21_000,
            data: Bytes::new(),
        };
        let tx = TxEnvelope::from(deposit.to_tx(Address::ZERO));
        let log = Log::new_unchecked(Address::ZERO, Vec::new(), data);
        Arc::new(ExecutedBlock {
            header: Header { number, ..Header::default() }.seal_slow(),
            transactions: vec![Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO))],
            receipts: vec![Receipt {
                tx_type: TxType::Deposit,
                success: true,
                cumulative_gas_used: 21_000,
                logs: vec![log],
            }],
        })
    }

    /// Adds a block whose transaction was acknowledged at the second of its number.
    fn push(recent: &mut RecentBlocks, block: &Arc<ExecutedBlock>) {
        recent.push(block.clone(), vec![Some(Duration::from_secs(block.number()))]);
    }

    fn kept(recent: &RecentBlocks, blocks: &[Arc<ExecutedBlock>]) -> Vec<u64> {
        let found = blocks.iter().filter(|block| {
            let hash = block.transactions[0].hash();
            let found = recent.find(hash);
            assert_eq!(found.is_some(), recent.contains(hash));
            found.is_some_and(|found| {
                let at = Some(Duration::from_secs(block.number()));
                (found.block.number(), found.index, found.accepted_at) == (block.number(), 0, at)
            })
        });
        found.map(|block| block.number()).collect()
    }

    #[test]
    fn large_blocks_are_kept_up_to_so_many_bytes() {
        // One buffer, shared: the bound counts what the blocks would take.
        let data = Bytes::from(vec![0; MAX_BYTES / 4]);
        let blocks: Vec<_> = (1..=9).map(|number| block(number, data.clone())).collect();
        let mut recent = RecentBlocks::default();
        for block in &blocks {
            push(&mut recent, block);
            assert!(recent.bytes <= MAX_BYTES);
        }
        assert_eq!(kept(&recent, &blocks), [7, 8, 9]);

        // The last block is kept whatever its size, and makes no trouble for the next ones.
        let huge = block(10, Bytes::from(vec![0; 2 * MAX_BYTES]));
        push(&mut recent, &huge);
        assert_eq!(kept(&recent, &[blocks, vec![huge]].concat()), [10]);
        let small: Vec<_> = (11..=20).map(|number| block(number, Bytes::new())).collect();
        small.iter().for_each(|block| push(&mut recent, block));
        assert_eq!(kept(&recent, &small), (11..=20).collect::<Vec<_>>());
    }

    #[test]
    fn small_blocks_are_kept_up_to_so_many() {
        let count = MAX_BLOCKS as u64 + 5;
        let blocks: Vec<_> = (1..=count).map(|number| block(number, Bytes::new())).collect();
        let mut recent = RecentBlocks::default();
        blocks.iter().for_each(|block| push(&mut recent, block));
        assert_eq!(kept(&recent, &blocks), (6..=count).collect::<Vec<_>>());
    }
}
