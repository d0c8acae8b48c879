//! Applying what L1 shows: new events, and the events that a reorg took back. One update is one atomic write.

use std::collections::BTreeMap;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_l1::{L1Block, L1Update, RollupEvent};
use millrace_proto::{Commitment, Deposit, PostedBatch};
use rocksdb::Direction;

use crate::derivation::batch_hash;

use super::{
    Store, StoreError, posted,
    records::{
        BlockRecord, CommitmentRecord, DepositRecord, JournalRecord, OutcomeRecord, PostedRecord,
    },
    tables::{Change, MetaKey, Table, Tables},
};

/// An L1 block, as far as finality needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L1Point {
    pub(crate) block: BlockNumHash,
    /// Unix seconds.
    pub(crate) timestamp: u64,
}

impl From<L1Block> for L1Point {
    fn from(block: L1Block) -> Self {
        Self { block: block.id(), timestamp: block.timestamp }
    }
}

/// L1 blocks that are remembered, to find back after a reorg that happened while the service was down.
const REMEMBERED: usize = 256;

/// What an update changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Batches that a reorg took back.
    pub(crate) reverted_batches: u64,
    /// Deposits that a reorg took back.
    pub(crate) reverted_deposits: u64,
    /// Commitments that are new.
    pub(crate) committed: Vec<Commitment>,
}

/// Why an update could not be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The events do not fit together, though the contract makes sure that they do: the L1 node left some out, or lies.
    #[error("the L1 node's events do not fit together: {what} {found} came after {last}")]
    Inconsistent {
        /// What is out of order.
        what: &'static str,
        /// The one that came.
        found: u64,
        /// The last one of its kind before.
        last: u64,
    },
    /// A batch's event does not continue the contract's chain of batches.
    #[error("the L1 node's batch {batch} gives batch hash {computed}, its event says {stated}")]
    BatchHash {
        /// The batch.
        batch: u64,
        /// Over the batches read.
        computed: B256,
        /// What the event says.
        stated: B256,
    },
    /// A deposit's event does not continue the contract's accumulator.
    #[error("the L1 node's deposit {index} gives accumulator {computed}, its event says {stated}")]
    Accumulator {
        /// The deposit.
        index: u64,
        /// Over the deposits read.
        computed: B256,
        /// What the event says.
        stated: B256,
    },
}

/// The end of the chain of joined batches: batch and last block, zeros before the first.
type Tip = (u64, u64);

impl Store {
    /// Applies an update.
    pub(crate) fn apply(&self, update: &L1Update) -> Result<Applied, ApplyError> {
        let _writing = self.writing.lock();
        let mut applying = Applying::start(&self.tables)?;
        if let Some(block) = update.reverted_to {
            applying.revert_to(block.number)?;
        }
        for event in &update.events {
            match event {
                RollupEvent::Deposit { deposit, accumulator, l1 } => {
                    applying.deposit(deposit, *accumulator, l1.block.number)?;
                }
                RollupEvent::Posted(batch) => applying.posted(batch)?,
                RollupEvent::Committed(commitment) => applying.committed(*commitment),
                RollupEvent::CommitmentsReverted { from, l1 } => {
                    applying.commitments_reverted(*from, l1.block.number)?;
                }
            }
        }
        applying.finish(update)
    }
}

/// An update in the making. The tails run ahead of the tables, which change only at the end.
struct Applying<'a> {
    tables: &'a Tables,
    change: Change<'a>,
    /// The last posted batch and its hash.
    last_posted: Option<(u64, B256)>,
    /// Deposits, and the accumulator over them.
    deposits: (u64, B256),
    tip: Tip,
    /// The next number in the journal.
    next_journal: u64,
    /// Commitments that this update changes: `None` for one that stands no more.
    commitments: BTreeMap<u64, Option<Commitment>>,
    applied: Applied,
}

impl<'a> Applying<'a> {
    fn start(tables: &'a Tables) -> Result<Self, StoreError> {
        let last_posted = tables.last::<PostedRecord>(Table::Posted)?;
        let last_deposit = tables.last::<DepositRecord>(Table::Deposits)?;
        Ok(Self {
            tables,
            change: tables.change(),
            last_posted: last_posted.map(|(number, record)| (number, record.batchHash)),
            deposits: last_deposit
                .map_or((0, B256::ZERO), |(index, record)| (index + 1, record.accumulator)),
            tip: tables
                .last::<u64>(Table::Joined)?
                .map_or((0, 0), |(last_block, batch)| (batch, last_block)),
            next_journal: tables
                .last::<JournalRecord>(Table::Journal)?
                .map_or(0, |(number, _)| number + 1),
            commitments: BTreeMap::new(),
            applied: Applied::default(),
        })
    }

    /// Forgets everything that L1 blocks after `block` brought.
    fn revert_to(&mut self, block: u64) -> Result<(), StoreError> {
        let tables = self.tables;
        self.last_posted = None;
        for entry in tables.scan::<PostedRecord>(Table::Posted, None, Direction::Reverse) {
            let (number, record) = entry?;
            if record.l1Block <= block {
                self.last_posted = Some((number, record.batchHash));
                break;
            }
            self.change.delete(Table::Posted, number);
            self.applied.reverted_batches += 1;
        }
        let kept = self.last_posted.map_or(0, |(number, _)| number);
        for entry in tables.scan::<OutcomeRecord>(Table::Outcomes, None, Direction::Reverse) {
            let (number, _) = entry?;
            if number <= kept {
                break;
            }
            self.change.delete(Table::Outcomes, number);
        }
        self.tip = remove_joined_from(tables, &mut self.change, kept + 1)?;

        self.deposits = (0, B256::ZERO);
        for entry in tables.scan::<DepositRecord>(Table::Deposits, None, Direction::Reverse) {
            let (index, record) = entry?;
            if record.l1Block <= block {
                self.deposits = (index + 1, record.accumulator);
                break;
            }
            self.change.delete(Table::Deposits, index);
            self.applied.reverted_deposits += 1;
        }

        for entry in tables.scan::<JournalRecord>(Table::Journal, None, Direction::Reverse) {
            let (number, record) = entry?;
            if record.l1Block <= block {
                break;
            }
            for added in record.added {
                self.commitments.insert(added.batch, None);
            }
            for removed in record.removed {
                self.commitments.insert(removed.batch, Some(removed.into()));
            }
            self.change.delete(Table::Journal, number);
            self.next_journal = number;
        }
        Ok(())
    }

    fn deposit(
        &mut self,
        deposit: &Deposit,
        stated: B256,
        l1_block: u64,
    ) -> Result<(), ApplyError> {
        let (count, accumulator) = self.deposits;
        if deposit.index != count {
            return Err(ApplyError::Inconsistent {
                what: "deposit",
                found: deposit.index,
                last: count.saturating_sub(1),
            });
        }
        let computed = deposit.accumulate(accumulator);
        if computed != stated {
            return Err(ApplyError::Accumulator { index: deposit.index, computed, stated });
        }
        self.change.put(
            Table::Deposits,
            deposit.index,
            &DepositRecord::new(deposit, computed, l1_block),
        );
        self.deposits = (count + 1, computed);
        Ok(())
    }

    fn posted(&mut self, batch: &PostedBatch) -> Result<(), ApplyError> {
        let number = batch.header.number;
        let (last, previous) = self.last_posted.unwrap_or_default();
        if number != last + 1 {
            return Err(ApplyError::Inconsistent { what: "batch", found: number, last });
        }
        let computed = batch_hash(previous, batch);
        if computed != batch.batch_hash {
            let stated = batch.batch_hash;
            return Err(ApplyError::BatchHash { batch: number, computed, stated });
        }
        self.change.put(Table::Posted, number, &PostedRecord::from(batch));
        self.last_posted = Some((number, batch.batch_hash));
        self.tip = join(&mut self.change, self.tip, batch);
        Ok(())
    }

    fn committed(&mut self, commitment: Commitment) {
        self.journal(commitment.l1.block.number, vec![commitment], Vec::new());
        self.commitments.insert(commitment.batch, Some(commitment));
        self.applied.committed.push(commitment);
    }

    fn commitments_reverted(&mut self, from_batch: u64, l1_block: u64) -> Result<(), StoreError> {
        let mut removed = Vec::new();
        for entry in self.tables.scan::<CommitmentRecord>(
            Table::Commitments,
            Some(from_batch),
            Direction::Forward,
        ) {
            let (batch, record) = entry?;
            self.commitments.entry(batch).or_insert_with(|| Some(record.into()));
        }
        for (_, commitment) in self.commitments.range_mut(from_batch..) {
            removed.extend(commitment.take());
        }
        self.applied.committed.retain(|commitment| commitment.batch < from_batch);
        self.journal(l1_block, Vec::new(), removed);
        Ok(())
    }

    fn journal(&mut self, l1_block: u64, added: Vec<Commitment>, removed: Vec<Commitment>) {
        let record = JournalRecord {
            l1Block: l1_block,
            added: added.iter().map(CommitmentRecord::from).collect(),
            removed: removed.iter().map(CommitmentRecord::from).collect(),
        };
        self.change.put(Table::Journal, self.next_journal, &record);
        self.next_journal += 1;
    }

    fn finish(mut self, update: &L1Update) -> Result<Applied, ApplyError> {
        for (batch, commitment) in &self.commitments {
            match commitment {
                Some(commitment) => {
                    self.change.put(Table::Commitments, *batch, &CommitmentRecord::from(commitment))
                }
                None => self.change.delete(Table::Commitments, *batch),
            }
        }
        let (head, tables) = (update.head, self.tables);
        let known = tables.scan::<BlockRecord>(Table::L1Blocks, None, Direction::Reverse);
        for (position, entry) in known.enumerate() {
            let (number, _) = entry?;
            let reverted = update.reverted_to.is_some_and(|block| number > block.number);
            if reverted || position >= REMEMBERED {
                self.change.delete(Table::L1Blocks, number);
            }
        }
        self.change.put(Table::L1Blocks, head.number, &block_record(head.into()));
        // While catching up, events between the head and L1's finalized block are still to come.
        if let Some(finalized) = update.finalized.filter(|block| block.number <= head.number) {
            self.change.put_meta(MetaKey::L1Finalized, &block_record(finalized.into()));
        }
        self.change.commit()?;
        Ok(self.applied)
    }
}

/// Takes the joined batches from `batch` on back, and returns the tip that is left.
pub(super) fn remove_joined_from(
    tables: &Tables,
    change: &mut Change<'_>,
    batch: u64,
) -> Result<Tip, StoreError> {
    for entry in tables.scan::<u64>(Table::Joined, None, Direction::Reverse) {
        let (last_block, joined) = entry?;
        if joined < batch {
            return Ok((joined, last_block));
        }
        change.delete(Table::Joined, last_block);
    }
    Ok((0, 0))
}

/// Joins the posted batches from `batch` on to the tip, as far as their headers fit.
pub(super) fn extend_joined(
    tables: &Tables,
    change: &mut Change<'_>,
    mut tip: Tip,
    batch: u64,
) -> Result<(), StoreError> {
    for entry in tables.scan::<PostedRecord>(Table::Posted, Some(batch), Direction::Forward) {
        let (number, record) = entry?;
        tip = join(change, tip, &posted(number, record)?);
    }
    Ok(())
}

fn join(change: &mut Change<'_>, tip: Tip, batch: &PostedBatch) -> Tip {
    let header = &batch.header;
    if tip.1.checked_add(1) != Some(header.first_block) || header.last_block < header.first_block {
        return tip;
    }
    change.put(Table::Joined, header.last_block, &header.number);
    (header.number, header.last_block)
}

fn block_record(point: L1Point) -> BlockRecord {
    BlockRecord { number: point.block.number, hash: point.block.hash, timestamp: point.timestamp }
}
