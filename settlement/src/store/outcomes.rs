//! What derivation and execution made of the posted batches.

use alloy::primitives::B256;
use millrace_proto::{BatchOutcome, BatchPoint, Commitment, PostedBatch};
use rocksdb::Direction;

use super::{
    Store, StoreError,
    joined::{extend_joined, remove_joined_from},
    records::{JournalRecord, OutcomeRecord},
    tables::Table,
};
use crate::{derivation::DerivationHead, execution::ExecutedBatch};

/// What became of a posted batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Derived, executed, and found right.
    Verified(VerifiedBatch),
    /// Invalid, and why.
    Skipped(String),
}

/// A batch that was derived, executed, and found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifiedBatch {
    pub(crate) batch: u64,
    /// The contract's hash of it.
    pub(crate) batch_hash: B256,
    pub(crate) first_block: u64,
    pub(crate) last_block: u64,
    pub(crate) last_block_hash: B256,
    /// Unix seconds.
    pub(crate) last_timestamp: u64,
    pub(crate) deposits_end: u64,
    pub(crate) state_root: B256,
    pub(crate) message_root: B256,
    pub(crate) transactions: u64,
}

impl VerifiedBatch {
    /// What executing a posted batch gave.
    pub(crate) fn new(posted: &PostedBatch, executed: &ExecutedBatch) -> Self {
        Self {
            batch: posted.header.number,
            batch_hash: posted.batch_hash,
            first_block: executed.first_block,
            last_block: executed.head.number,
            last_block_hash: executed.head.hash,
            last_timestamp: executed.head.timestamp,
            deposits_end: executed.head.deposits_end,
            state_root: executed.state_root,
            message_root: executed.message_root,
            transactions: executed.transactions,
        }
    }

    /// The head of the chain after the batch.
    pub(crate) const fn head(&self) -> DerivationHead {
        DerivationHead {
            number: self.last_block,
            hash: self.last_block_hash,
            timestamp: self.last_timestamp,
            deposits_end: self.deposits_end,
        }
    }

    /// What is committed of it.
    pub(crate) const fn outcome(&self) -> BatchOutcome {
        BatchOutcome {
            batch: self.batch,
            batch_hash: self.batch_hash,
            first_block: self.first_block,
            last_block: self.last_block,
            last_block_hash: self.last_block_hash,
            state_root: self.state_root,
            message_root: self.message_root,
        }
    }

    /// The end of the batch.
    pub(crate) const fn point(&self) -> BatchPoint {
        BatchPoint {
            batch: self.batch,
            last_block: self.last_block,
            last_block_hash: Some(self.last_block_hash),
        }
    }

    /// The first field in which a commitment differs, with what was expected and what L1 holds.
    pub(crate) fn difference(
        &self,
        commitment: &Commitment,
    ) -> Option<(&'static str, String, String)> {
        fn field<T: PartialEq + ToString>(
            name: &'static str,
            expected: T,
            got: T,
        ) -> Option<(&'static str, String, String)> {
            (expected != got).then(|| (name, expected.to_string(), got.to_string()))
        }
        field("batch hash", self.batch_hash, commitment.batch_hash)
            .or_else(|| field("first block", self.first_block, commitment.first_block))
            .or_else(|| field("last block", self.last_block, commitment.last_block))
            .or_else(|| field("last block hash", self.last_block_hash, commitment.last_block_hash))
            .or_else(|| field("state root", self.state_root, commitment.state_root))
            .or_else(|| field("message root", self.message_root, commitment.message_root))
    }
}

/// What became of an attempt to record an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Recorded.
    Yes,
    /// An L1 reorg took the batch away meanwhile, or replaced it; the work is to be done again on what L1 shows now.
    Outdated,
}

impl Store {
    /// What became of a batch, if that is known.
    pub(crate) fn outcome(&self, batch: u64) -> Result<Option<Outcome>, StoreError> {
        Ok(self
            .tables
            .get::<OutcomeRecord>(Table::Outcomes, batch)?
            .map(|record| record.into_outcome(batch)))
    }

    /// The last batch with an outcome; 0 before the first.
    pub(crate) fn last_outcome(&self) -> Result<u64, StoreError> {
        Ok(self.tables.last::<OutcomeRecord>(Table::Outcomes)?.map_or(0, |(batch, _)| batch))
    }

    /// The last verified batch at or before `upto` (or at all).
    pub(crate) fn last_verified(
        &self,
        upto: Option<u64>,
    ) -> Result<Option<VerifiedBatch>, StoreError> {
        for entry in self.tables.scan::<OutcomeRecord>(Table::Outcomes, upto, Direction::Reverse) {
            let (batch, record) = entry?;
            if let Outcome::Verified(verified) = record.into_outcome(batch) {
                return Ok(Some(verified));
            }
        }
        Ok(None)
    }

    /// The first verified batch after a number.
    pub(crate) fn verified_after(&self, batch: u64) -> Result<Option<VerifiedBatch>, StoreError> {
        let Some(start) = batch.checked_add(1) else { return Ok(None) };
        for entry in
            self.tables.scan::<OutcomeRecord>(Table::Outcomes, Some(start), Direction::Forward)
        {
            let (batch, record) = entry?;
            if let Outcome::Verified(verified) = record.into_outcome(batch) {
                return Ok(Some(verified));
            }
        }
        Ok(None)
    }

    /// Whether the guardian has reverted a commitment of this batch that was right.
    pub(crate) fn was_reverted(&self, batch: &VerifiedBatch) -> Result<bool, StoreError> {
        let Some(posted) = self.posted(batch.batch)? else { return Ok(false) };
        for entry in self.tables.scan::<JournalRecord>(Table::Journal, None, Direction::Reverse) {
            let (_, record) = entry?;
            // Nothing is committed before it is posted.
            if record.l1Block < posted.l1.block.number {
                break;
            }
            if record
                .removed
                .into_iter()
                .map(Commitment::from)
                .any(|removed| removed.batch == batch.batch && batch.difference(&removed).is_none())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Records what became of the next batch, provided that it is the next one still and has `batch_hash` still.
    pub(crate) fn record(
        &self,
        batch: u64,
        batch_hash: B256,
        outcome: &Outcome,
    ) -> Result<Recorded, StoreError> {
        let _writing = self.writing.lock();
        let current = self.posted(batch)?.map(|posted| posted.batch_hash);
        if self.last_outcome()? + 1 != batch || current != Some(batch_hash) {
            return Ok(Recorded::Outdated);
        }
        let mut change = self.tables.change();
        change.put(Table::Outcomes, batch, &OutcomeRecord::new(batch_hash, outcome));
        // What was taken for a part of the chain by its header alone is none: the batches behind it join elsewhere.
        if matches!(outcome, Outcome::Skipped(_)) {
            let tip = remove_joined_from(&self.tables, &mut change, batch)?;
            extend_joined(&self.tables, &mut change, tip, batch + 1)?;
        }
        change.commit()?;
        Ok(Recorded::Yes)
    }

    /// Forgets the outcomes of all batches after `batch`.
    pub(crate) fn forget_outcomes_after(&self, batch: u64) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let mut change = self.tables.change();
        for entry in self.tables.scan::<OutcomeRecord>(Table::Outcomes, None, Direction::Reverse) {
            let (number, _) = entry?;
            if number <= batch {
                break;
            }
            change.delete(Table::Outcomes, number);
        }
        change.commit()
    }
}
