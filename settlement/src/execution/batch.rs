//! Executing one batch.

use std::sync::Arc;

use alloy::primitives::B256;
use millrace_proto::{
    DerivedBlock, ExecutedBlock, HeaderExtra, Replay, ReplayError, message_ids, message_root,
};
use tokio_util::sync::CancellationToken;

use crate::derivation::{DerivationHead, DerivedBatch};

/// What executing a batch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecutedBatch {
    /// The head after the batch.
    pub(crate) head: DerivationHead,
    /// First block of the batch.
    pub(crate) first_block: u64,
    /// State root after the batch.
    pub(crate) state_root: B256,
    /// Root over the L2-to-L1 messages that the batch sent.
    pub(crate) message_root: B256,
    /// Hashes of its blocks, in order.
    pub(crate) block_hashes: Vec<B256>,
    /// Transactions in it, deposits included.
    pub(crate) transactions: u64,
}

/// Why a derived batch did not execute to what it claims. Its blocks may be in the replayed chain by then, and cannot be taken
/// out again: whoever meets this halts.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// A block of the batch cannot be executed.
    #[error("batch {batch}: {source}")]
    Invalid {
        /// The batch.
        batch: u64,
        /// Why not.
        #[source]
        source: ReplayError,
    },
    /// The batch was built on another result than executing it gives.
    #[error("batch {batch} claims hash {claimed} for block {block}; executing gives {computed}")]
    Claim {
        /// The batch.
        batch: u64,
        /// Its last block.
        block: u64,
        /// The hash that it claims.
        claimed: B256,
        /// What executing gives.
        computed: B256,
    },
    /// L1 shows another block now than the one that was executed under this number before.
    #[error(
        "batch {batch}: block {block} was executed before with another {what}; L1 has replaced what it was derived from"
    )]
    Replaced {
        /// The batch.
        batch: u64,
        /// The block.
        block: u64,
        /// What differs.
        what: &'static str,
    },
    /// The replayed chain lacks a block that it should hold, or holds one that is no rollup's.
    #[error("batch {batch}: the replayed chain's block {block} is not usable: {problem}")]
    Chain {
        /// The batch.
        batch: u64,
        /// The block.
        block: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The service stops. What was executed stays; the batch is taken up again at the next start.
    #[error("batch {batch}: stopped before the end")]
    Stopped {
        /// The batch.
        batch: u64,
    },
    /// The executor failed; the batch is not to blame.
    #[error("batch {batch}: {source}")]
    Failed {
        /// The batch.
        batch: u64,
        /// Why.
        #[source]
        source: ReplayError,
    },
}

/// Executes a batch block by block. A block that was executed before (by a run that was killed, or for a batch that an L1
/// reorg moved) is not executed again; it has to be the same one.
///
/// Looks at `stop` between blocks.
///
/// # Errors
/// See [`ExecutionError`].
pub(crate) fn execute_batch(
    replay: &mut dyn Replay,
    batch: DerivedBatch,
    stop: &CancellationToken,
) -> Result<ExecutedBatch, ExecutionError> {
    let number = batch.number;
    let first_block = batch.blocks.first().map_or(0, |block| block.number);
    let mut message_hashes = Vec::new();
    let mut block_hashes = Vec::with_capacity(batch.blocks.len());
    let mut transactions = 0;
    let mut last = None;
    for block in batch.blocks {
        if stop.is_cancelled() {
            return Err(ExecutionError::Stopped { batch: number });
        }
        let executed = execute_block(replay, number, block)?;
        message_hashes.extend(message_ids(&executed.receipts));
        block_hashes.push(executed.hash());
        transactions += executed.transactions.len() as u64;
        last = Some(executed);
    }
    let Some(last) = last else {
        return Err(ExecutionError::Chain { batch: number, block: 0, problem: "an empty batch" });
    };
    let head = DerivationHead::of(&last).ok_or(ExecutionError::Chain {
        batch: number,
        block: last.number(),
        problem: "its extra data is not a rollup's",
    })?;
    if batch.claimed_hash != head.hash {
        return Err(ExecutionError::Claim {
            batch: number,
            block: head.number,
            claimed: batch.claimed_hash,
            computed: head.hash,
        });
    }
    Ok(ExecutedBatch {
        head,
        first_block,
        state_root: last.header.state_root,
        message_root: message_root(&message_hashes),
        block_hashes,
        transactions,
    })
}

fn execute_block(
    replay: &mut dyn Replay,
    batch: u64,
    block: DerivedBlock,
) -> Result<Arc<ExecutedBlock>, ExecutionError> {
    let number = block.number;
    if number > replay.head().number {
        return replay.replay(block).map_err(|source| match source {
            ReplayError::Executor(_) => ExecutionError::Failed { batch, source },
            _ => ExecutionError::Invalid { batch, source },
        });
    }
    let executed = replay
        .block(number)
        .map_err(|source| ExecutionError::Failed { batch, source })?
        .ok_or(ExecutionError::Chain {
            batch,
            block: number,
            problem: "it was executed before and is gone",
        })?;
    match difference(&executed, &block) {
        Some(what) => Err(ExecutionError::Replaced { batch, block: number, what }),
        None => Ok(executed),
    }
}

/// In what an executed block differs from a derived one.
fn difference(executed: &ExecutedBlock, derived: &DerivedBlock) -> Option<&'static str> {
    let deposits_end = HeaderExtra::of(&executed.header).map(|extra| extra.deposits_end);
    if executed.header.timestamp != derived.timestamp {
        Some("timestamp")
    } else if deposits_end != Some(derived.deposits_end) {
        Some("deposits end")
    } else if executed.transactions.len() != derived.transactions.len()
        || executed
            .transactions
            .iter()
            .zip(&derived.transactions)
            .any(|(executed, derived)| executed.hash() != derived.hash())
    {
        Some("transactions")
    } else {
        None
    }
}
