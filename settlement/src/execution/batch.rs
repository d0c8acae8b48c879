//! Executing one batch.

use std::sync::Arc;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_proto::{
    DerivedBlock, DerivedStretch, ExecutedBlock, ExecutorError, Replay, ReplayError, SealedHeader,
    message_ids, message_root,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::derivation::{DerivationHead, DerivedBatch, DerivedContent};

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
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// Its blocks in order, as far as they are known: all of them, or of state diffs the last one.
    pub(crate) known: Vec<BlockNumHash>,
    /// Transactions in it, deposits included.
    pub(crate) transactions: u64,
}

/// Why a derived batch did not execute to what it claims.
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
    /// The state diffs of the batch lead to another state than it claims.
    #[error(
        "batch {batch} claims state root {claimed} after block {block}; its state diffs give {computed}"
    )]
    StateRoot {
        /// The batch.
        batch: u64,
        /// Its last block.
        block: u64,
        /// The root that it claims.
        claimed: B256,
        /// The root that its diffs give.
        computed: B256,
    },
    /// L1 has replaced more than can be taken back.
    #[error(
        "batch {batch}: L1 has replaced what was derived before, further back than history is kept ({source}): the replayed chain has to be made again, so delete its folder too"
    )]
    TooDeep {
        /// The batch.
        batch: u64,
        /// How far back it goes.
        #[source]
        source: ReplayError,
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

impl ExecutionError {
    /// Whether the batch is to blame, so that it is invalid for everyone. The replayed chain is as it was before it then.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::Claim { .. } | Self::StateRoot { .. })
    }
}

/// Takes the replayed chain to the end of a batch: executes its blocks one by one, or applies what they changed. What the chain holds already
/// (by a run that was killed, or for a batch that an L1 reorg moved) is not done again. Where it holds other blocks, since an L1 reorg
/// replaced what they were derived from, those are taken back.
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
    match batch.content {
        DerivedContent::Blocks { blocks, claimed_hash } => {
            let before = blocks.first().map_or(0, |block| block.number.saturating_sub(1));
            let executed = execute_blocks(replay, number, blocks, claimed_hash, stop);
            if executed.as_ref().is_err_and(ExecutionError::is_verdict) {
                take_back(replay, number, before)?;
            }
            executed
        }
        DerivedContent::Stretch { stretch, transactions } => {
            apply_stretch(replay, number, *stretch, transactions)
        }
    }
}

fn execute_blocks(
    replay: &mut dyn Replay,
    batch: u64,
    blocks: Vec<DerivedBlock>,
    claimed: B256,
    stop: &CancellationToken,
) -> Result<ExecutedBatch, ExecutionError> {
    let first_block = blocks.first().map_or(0, |block| block.number);
    let mut message_hashes = Vec::new();
    let mut known = Vec::with_capacity(blocks.len());
    let mut transactions = 0;
    let mut last = None;
    for block in blocks {
        if stop.is_cancelled() {
            return Err(ExecutionError::Stopped { batch });
        }
        let executed = execute_block(replay, batch, block)?;
        message_hashes.extend(message_ids(&executed.receipts));
        known.push(executed.num_hash());
        transactions += executed.transactions.len() as u64;
        last = Some(executed);
    }
    let Some(last) = last else {
        return Err(ExecutionError::Chain { batch, block: 0, problem: "an empty batch" });
    };
    let head = head(batch, &last.header)?;
    if claimed != head.hash {
        return Err(ExecutionError::Claim {
            batch,
            block: head.number,
            claimed,
            computed: head.hash,
        });
    }
    Ok(ExecutedBatch {
        head,
        first_block,
        state_root: last.header.state_root,
        message_root: message_root(&message_hashes),
        blocks: known.len() as u64,
        known,
        transactions,
    })
}

fn apply_stretch(
    replay: &mut dyn Replay,
    batch: u64,
    stretch: DerivedStretch,
    transactions: u64,
) -> Result<ExecutedBatch, ExecutionError> {
    let DerivedStretch { first_block, header, digest, .. } = &stretch;
    let (first_block, header, digest) = (*first_block, header.clone(), *digest);
    let message_root = message_root(&stretch.messages);
    let block = header.number;
    let head = head(batch, &header)?;
    let known = replay.applied(block).map_err(|source| ExecutionError::Failed { batch, source })?;
    // The same again, or what L1 has now instead, with the same header at its end or not.
    if known != Some(digest) {
        if replay.head().number >= first_block {
            warn!(target: "millrace::settlement", batch, first_block, block, "L1 has replaced the state diffs that were applied; taking them back");
            take_back(replay, batch, first_block.saturating_sub(1))?;
        }
        replay.apply(stretch).map_err(|source| match source {
            ReplayError::Executor(_) => ExecutionError::Failed { batch, source },
            ReplayError::StateRoot { number, claimed, computed } => {
                ExecutionError::StateRoot { batch, block: number, claimed, computed }
            }
            _ => ExecutionError::Invalid { batch, source },
        })?;
    }
    Ok(ExecutedBatch {
        head,
        first_block,
        state_root: header.state_root,
        message_root,
        blocks: block.saturating_sub(first_block).saturating_add(1),
        known: vec![BlockNumHash::new(block, header.seal())],
        transactions,
    })
}

fn head(batch: u64, header: &SealedHeader) -> Result<DerivationHead, ExecutionError> {
    DerivationHead::of(header).ok_or(ExecutionError::Chain {
        batch,
        block: header.number,
        problem: "its extra data is not a rollup's",
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
    if replay.is_made_of(&executed, &block) {
        return Ok(executed);
    }
    warn!(target: "millrace::settlement", batch, block = number, "L1 has replaced what this block was derived from; taking it back");
    take_back(replay, batch, number.saturating_sub(1))?;
    execute_block(replay, batch, block)
}

/// Takes back the blocks after `number`.
fn take_back(replay: &mut dyn Replay, batch: u64, number: u64) -> Result<(), ExecutionError> {
    replay.unwind(number).map_err(|source| match source {
        ReplayError::Executor(ExecutorError::StatePruned { .. }) => {
            ExecutionError::TooDeep { batch, source }
        }
        source => ExecutionError::Failed { batch, source },
    })
}
