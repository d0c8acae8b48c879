//! Events that do not fit what is known, and how far back L1 has to be read again for what is missing.

use std::fmt;

use alloy::primitives::B256;
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
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Deposit => "deposit",
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
}

impl Store {
    /// The L1 block through which everything fits that is here, if an update did not: what was left out is in a later one. Zero
    /// if it may be anywhere.
    ///
    /// That is the block before the last record of its kind that came in order: the same block may hold the missing one too.
    pub(crate) fn fits_through(&self, misfit: &ApplyError) -> Result<u64, StoreError> {
        // The record that came in order, counted from 1 as batches are.
        let (kind, good) = match misfit {
            ApplyError::Store(_) => return Ok(0),
            ApplyError::Inconsistent { what: RecordKind::Batch, found, last } => {
                (RecordKind::Batch, found.saturating_sub(1).min(*last))
            }
            ApplyError::BatchHash { batch, .. } => (RecordKind::Batch, batch.saturating_sub(1)),
            ApplyError::Inconsistent { what: RecordKind::Deposit, found, .. } => {
                (RecordKind::Deposit, *found)
            }
            ApplyError::Accumulator { index, .. } => (RecordKind::Deposit, *index),
            ApplyError::DepositsMissing { read, .. } => (RecordKind::Deposit, *read),
        };
        let before = match (kind, good.checked_sub(1)) {
            (_, None) => None,
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
