//! Applying what L1 shows: new events, and the events that a reorg took back. One update is one atomic write.

use std::collections::BTreeMap;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_l1::{L1Block, L1Update, RollupEvent, commitment_hash};
use millrace_proto::{Commitment, PostedBatch, QueueEntry};
use rocksdb::Direction;

use crate::derivation::batch_hash;

use super::{
    Outcome, Store, StoreError,
    joined::{Tip, join, remove_joined_from},
    misfit::{ApplyError, RecordKind, Totals},
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

impl Store {
    /// Applies an update.
    pub(crate) fn apply(&self, update: &L1Update) -> Result<Applied, ApplyError> {
        self.apply_after(update, Revert::Reorg)
    }

    /// Applies an update that goes back to read again what an L1 node gave incompletely. Outcomes stay: they are of the batches
    /// with their hashes, and fall only if L1 has other ones.
    pub(crate) fn apply_again(&self, update: &L1Update) -> Result<Applied, ApplyError> {
        self.apply_after(update, Revert::Reread)
    }

    fn apply_after(&self, update: &L1Update, revert: Revert) -> Result<Applied, ApplyError> {
        let _writing = self.writing.lock();
        let mut applying = Applying::start(&self.tables)?;
        if let Some(block) = update.reverted_to {
            applying.revert_to(block.number, revert)?;
        }
        for event in &update.events {
            match event {
                RollupEvent::Queued { entry, accumulator, l1 } => {
                    applying.queued(entry, *accumulator, l1.block.number)?;
                }
                RollupEvent::Posted(batch) => applying.posted(batch)?,
                RollupEvent::Committed(commitment) => applying.committed(*commitment),
                RollupEvent::CommitmentsReverted { from, l1 } => {
                    applying.commitments_reverted(*from, l1.block.number)?;
                }
            }
        }
        if let Some(state) = &update.state {
            applying.totals()?.compare(state)?;
        }
        applying.finish(update)
    }
}

/// Why an update goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revert {
    /// L1 has taken blocks back.
    Reorg,
    /// They are read again.
    Reread,
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
    /// Batches whose outcomes stand, if they have one: all up to this one.
    outcomes: u64,
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
            outcomes: u64::MAX,
            next_journal: tables
                .last::<JournalRecord>(Table::Journal)?
                .map_or(0, |(number, _)| number + 1),
            commitments: BTreeMap::new(),
            applied: Applied::default(),
        })
    }

    /// Forgets everything that L1 blocks after `block` brought.
    fn revert_to(&mut self, block: u64, revert: Revert) -> Result<(), StoreError> {
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
        if revert == Revert::Reorg {
            self.forget_outcomes_after(kept)?;
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

    fn queued(
        &mut self,
        entry: &QueueEntry,
        stated: B256,
        l1_block: u64,
    ) -> Result<(), ApplyError> {
        let (count, accumulator) = self.deposits;
        let index = entry.index();
        if index != count {
            return Err(ApplyError::Inconsistent {
                what: RecordKind::Deposit,
                found: index,
                last: count.saturating_sub(1),
            });
        }
        let computed = entry.accumulate(accumulator);
        if computed != stated {
            return Err(ApplyError::Accumulator { index, computed, stated });
        }
        self.change.put(Table::Deposits, index, &DepositRecord::new(entry, computed, l1_block));
        self.deposits = (count + 1, computed);
        Ok(())
    }

    fn posted(&mut self, batch: &PostedBatch) -> Result<(), ApplyError> {
        let number = batch.header.number;
        let (last, previous) = self.last_posted.unwrap_or_default();
        if number != last + 1 {
            return Err(ApplyError::Inconsistent { what: RecordKind::Batch, found: number, last });
        }
        // The contract takes no batch over deposits that it does not have.
        let (needed, read) = (batch.header.deposits_end, self.deposits.0);
        if needed > read {
            return Err(ApplyError::DepositsMissing { batch: number, needed, read });
        }
        let computed = batch_hash(previous, batch);
        if computed != batch.batch_hash {
            let stated = batch.batch_hash;
            return Err(ApplyError::BatchHash { batch: number, computed, stated });
        }
        self.change.put(Table::Posted, number, &PostedRecord::from(batch));
        self.last_posted = Some((number, batch.batch_hash));
        if !self.is_skipped(batch)? {
            self.tip = join(&mut self.change, self.tip, batch);
        }
        Ok(())
    }

    /// Whether it is known that derivation skips the batch. If L1 had another one under its number before, the outcomes from there
    /// on fall.
    fn is_skipped(&mut self, batch: &PostedBatch) -> Result<bool, StoreError> {
        let number = batch.header.number;
        if number > self.outcomes {
            return Ok(false);
        }
        match self.tables.get::<OutcomeRecord>(Table::Outcomes, number)? {
            Some(record) if record.batchHash == batch.batch_hash => {
                Ok(matches!(record.into_outcome(number), Outcome::Skipped(_)))
            }
            Some(_) => self.forget_outcomes_after(number - 1).map(|()| false),
            None => Ok(false),
        }
    }

    fn forget_outcomes_after(&mut self, batch: u64) -> Result<(), StoreError> {
        let outcomes = self.tables.scan::<OutcomeRecord>(Table::Outcomes, None, Direction::Reverse);
        for entry in outcomes {
            let (number, _) = entry?;
            if number <= batch {
                break;
            }
            self.change.delete(Table::Outcomes, number);
        }
        self.outcomes = self.outcomes.min(batch);
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

    /// What all records add up to, those of this update included.
    fn totals(&self) -> Result<Totals, ApplyError> {
        let mut standing = BTreeMap::new();
        let known =
            self.tables.scan::<CommitmentRecord>(Table::Commitments, None, Direction::Forward);
        for entry in known {
            let (batch, record) = entry?;
            standing.insert(batch, Commitment::from(record));
        }
        for (batch, changed) in &self.commitments {
            match changed {
                Some(commitment) => standing.insert(*batch, *commitment),
                None => standing.remove(batch),
            };
        }
        // The contract takes them without gaps.
        let (mut last, mut last_block) = (0, 0_u64);
        for (batch, commitment) in &standing {
            if last_block.checked_add(1) != Some(commitment.first_block) {
                let (what, found) = (RecordKind::Commitment, *batch);
                return Err(ApplyError::Inconsistent { what, found, last });
            }
            (last, last_block) = (*batch, commitment.last_block);
        }
        let hash = standing.last_key_value().map(|(_, commitment)| commitment_hash(commitment));
        Ok(Totals {
            batches: self.last_posted.unwrap_or_default(),
            deposits: self.deposits,
            commitments: (last, hash.unwrap_or_default()),
        })
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

fn block_record(point: L1Point) -> BlockRecord {
    BlockRecord { number: point.block.number, hash: point.block.hash, timestamp: point.timestamp }
}
