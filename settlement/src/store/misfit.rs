//! Events that do not fit what is known, and how far back L1 has to be read again for what is missing.

use std::fmt;

use alloy::primitives::B256;
use millrace_l1::RollupState;
use rocksdb::Direction;

use super::{
    Store, StoreError,
    records::{DepositRecord, PostedRecord},
    tables::Table,
};

/// What is recorded one after another, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Batch,
    Deposit,
    Commitment,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Deposit => "deposit",
            Self::Commitment => "commitment",
        })
    }
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
        what: RecordKind,
        /// The one that came.
        found: u64,
        /// The last one of its kind before.
        last: u64,
    },
    /// A batch over deposits of which no event came.
    #[error("the L1 node's batch {batch} takes {needed} deposits, and it has shown {read}")]
    DepositsMissing {
        /// The batch.
        batch: u64,
        /// Deposits that the contract had when it took the batch, at least.
        needed: u64,
        /// Deposits read.
        read: u64,
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
    /// What the events add up to is not what the contract holds.
    #[error(
        "the last {what} that the rollup contract has at L1 block {block} is {held} ({held_hash}), by that block's state root, and the L1 node has shown {read} ({read_hash}): it leaves events out, or changes them"
    )]
    Held {
        /// What differs.
        what: RecordKind,
        /// The L1 block.
        block: u64,
        /// The number of the last one that the contract has; of commitments that of its batch.
        held: u64,
        /// The hash over all up to that; of commitments its own.
        held_hash: B256,
        /// The same of the events.
        read: u64,
        /// The same of the events.
        read_hash: B256,
    },
}

/// The last of each kind of record, with its number and hash; zeros if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) batches: (u64, B256),
    pub(super) deposits: (u64, B256),
    pub(super) commitments: (u64, B256),
}

impl Totals {
    /// The first kind of record of which the contract holds something else.
    pub(super) fn compare(&self, state: &RollupState) -> Result<(), ApplyError> {
        let counters = &state.counters;
        for (what, held, read) in [
            (RecordKind::Batch, (counters.batches, state.batch_hash), self.batches),
            (RecordKind::Deposit, (counters.deposits, state.accumulator), self.deposits),
            (
                RecordKind::Commitment,
                (counters.committed_batch, state.commitment),
                self.commitments,
            ),
        ] {
            if held != read {
                let (block, (held, held_hash), (read, read_hash)) = (state.block, held, read);
                return Err(ApplyError::Held { what, block, held, held_hash, read, read_hash });
            }
        }
        Ok(())
    }
}

impl Store {
    /// The L1 block through which everything fits that is here, if an update did not: what was left out is in a later one. Zero
    /// if it may be anywhere.
    ///
    /// That is the block before the last record of its kind that came in order: the same block may hold the missing one too.
    pub(crate) fn fits_through(&self, misfit: &ApplyError) -> Result<u64, StoreError> {
        // The record that came in order, counted from 1 as batches are.
        let (kind, good) = match misfit {
            ApplyError::Store(_)
            | ApplyError::Inconsistent { what: RecordKind::Commitment, .. } => return Ok(0),
            ApplyError::Inconsistent { what: RecordKind::Batch, found, last } => {
                (RecordKind::Batch, found.saturating_sub(1).min(*last))
            }
            ApplyError::BatchHash { batch, .. } => (RecordKind::Batch, batch.saturating_sub(1)),
            ApplyError::Inconsistent { what: RecordKind::Deposit, found, .. } => {
                (RecordKind::Deposit, *found)
            }
            ApplyError::Accumulator { index, .. } => (RecordKind::Deposit, *index),
            ApplyError::DepositsMissing { read, .. } => (RecordKind::Deposit, *read),
            ApplyError::Held { what, held, read, .. } if held != read => (*what, *read.min(held)),
            ApplyError::Held { .. } => return Ok(0),
        };
        let before = match (kind, good.checked_sub(1)) {
            (_, None) | (RecordKind::Commitment, _) => None,
            (RecordKind::Batch, _) => self
                .tables
                .scan::<PostedRecord>(Table::Posted, Some(good), Direction::Reverse)
                .next()
                .transpose()?
                .map(|(_, record)| record.l1Block),
            (RecordKind::Deposit, index) => self
                .tables
                .scan::<DepositRecord>(Table::Deposits, index, Direction::Reverse)
                .next()
                .transpose()?
                .map(|(_, record)| record.l1Block),
        };
        Ok(before.map_or(0, |block| block.saturating_sub(1)))
    }
}
