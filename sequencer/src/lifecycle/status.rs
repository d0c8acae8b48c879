//! What is known of a transaction, as a status.

use std::{sync::Arc, time::Duration};

use alloy::{consensus::Transaction, primitives::TxHash};
use millrace_proto::{BatchRecord, ExecutedBlock, Inclusion, RecoveredTx, Stage, TxStatus};

use super::Heads;
use crate::log::DroppedTx;

/// What is known of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// In the pool.
    Pooled {
        /// The transaction.
        tx: Arc<RecoveredTx>,
        /// When it was acknowledged.
        accepted_at: Option<Duration>,
    },
    /// In a sealed block.
    Included {
        /// The block.
        block: Arc<ExecutedBlock>,
        /// The index there.
        index: usize,
        /// When it was acknowledged, if that is known.
        accepted_at: Option<Duration>,
        /// When the block was sealed, where that was read from the log.
        sealed_at: Option<Duration>,
    },
    /// Dropped, and on disk as such.
    Dropped(DroppedTx),
}

impl Known {
    /// The transaction, or `None` if the executor named a place that its block does not have.
    pub(crate) fn tx(&self) -> Option<Arc<RecoveredTx>> {
        match self {
            Self::Pooled { tx, .. } => Some(tx.clone()),
            Self::Included { block, index, .. } => block.transactions.get(*index).cloned(),
            Self::Dropped(dropped) => Some(dropped.tx.clone()),
        }
    }

    /// The stage reached.
    pub(crate) fn stage(&self, heads: &Heads) -> Stage {
        match self {
            Self::Pooled { .. } => Stage::Accepted,
            Self::Included { block, .. } => heads.now().stage_of(block.number()),
            Self::Dropped(_) => Stage::Dropped,
        }
    }

    /// The number of the block that holds it.
    pub(crate) fn block_number(&self) -> Option<u64> {
        match self {
            Self::Included { block, .. } => Some(block.number()),
            Self::Pooled { .. } | Self::Dropped(_) => None,
        }
    }
}

/// Whether a transaction at `stage` has come as far as `wanted`, or can go no further.
pub(crate) fn reached(stage: Stage, wanted: Stage) -> bool {
    stage >= wanted || stage.is_last()
}

/// The status of a transaction at a stage that it has reached, and when that was. `batch` is its block's batch, where that is known.
pub(crate) fn status_at(
    hash: TxHash,
    known: &Known,
    stage: Stage,
    batch: Option<&BatchRecord>,
    reached_at: Option<Duration>,
) -> TxStatus {
    let mut status =
        TxStatus { hash, stage, reached_at, inclusion: None, batch: None, l1: None, reason: None };
    match known {
        Known::Dropped(dropped) if stage > Stage::Accepted => {
            status.stage = Stage::Dropped;
            status.reason = Some(dropped.reason.clone());
        }
        Known::Included { block, index, .. } if stage >= Stage::Sequenced => {
            status.inclusion = inclusion(block, *index);
            if stage >= Stage::Posted
                && let Some(batch) = batch
            {
                status.batch = Some(batch.number);
                status.l1 = match stage {
                    Stage::Posted => Some(batch.posted),
                    _ => batch.committed,
                };
            }
        }
        // As it was accepted.
        Known::Pooled { .. } | Known::Included { .. } | Known::Dropped(_) => {}
    }
    status
}

fn inclusion(block: &ExecutedBlock, index: usize) -> Option<Inclusion> {
    let tx = block.transactions.get(index)?;
    let contract_address = tx.tx().is_create().then(|| tx.sender().create(tx.tx().nonce()));
    Some(Inclusion {
        block: block.num_hash(),
        index: index as u64,
        gas_used: block.gas_used_by(index)?,
        receipt: block.receipts.get(index)?.clone(),
        contract_address,
    })
}
