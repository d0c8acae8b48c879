//! Where a new outbox begins: at genesis, or after the last valid batch that the contract holds.
//!
//! The contract takes what its batcher posts; whether a posted batch is a part of the chain is for derivation to say
//! (`docs/derivation.md`), and the next batch has to join the last one that is. What is committed was derived, executed and found right; of the batches after that,
//! the settlement service tells what it has found. A batch that is skipped by everyone is skipped here too.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_l1::{L1Error, TxManagerError};
use millrace_proto::{
    BlockSelector, Executor, ExecutorError, PostedBatch, QueueMark, Settlement, SettlementError,
};
use tracing::{info, warn};

use crate::{outbox::Cursor, poster::PostTarget};

/// Why the beginning is not known yet. Worth another try, whatever it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    #[error("L1: {0}")]
    L1(#[from] L1Error),
    #[error("cannot begin an epoch of posts: {0}")]
    Epoch(#[from] Box<TxManagerError>),
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    #[error("the executor does not have block {0} yet, which L1 holds")]
    Behind(u64),
    #[error("settlement: {0}")]
    Settlement(#[from] SettlementError),
    #[error("settlement has not judged batch {batch} yet")]
    Unjudged {
        batch: u64,
        /// Why it does not, if it has halted.
        halted: Option<String>,
    },
    #[error(
        "L1 does not hold the {0} deposits that the chain has taken: it lags behind, or a reorg removed some"
    )]
    DepositsMissing(u64),
    #[error(
        "batch {batch} ends with block {block} ({posted}), and the executor's is {executor}: its \
         chain is another one than L1 holds"
    )]
    OtherChain { batch: u64, block: u64, posted: B256, executor: B256 },
    #[error("the executor's block {0} is no rollup's")]
    NoRollup(u64),
}

impl ResumeError {
    /// What to tell an operator, if waiting alone does not help.
    pub(crate) fn halt(&self) -> Option<String> {
        let advice = match self {
            Self::L1(error) if error.is_retryable() => return None,
            Self::L1(_) => "Check the L1 node and the contract's address",
            Self::Unjudged { batch, halted: Some(reason) } => {
                return Some(format!(
                    "whether batch {batch} is valid is not known, as settlement has halted: {reason}"
                ));
            }
            Self::OtherChain { .. } | Self::NoRollup(_) => "Mend the executor",
            Self::Epoch(error) if matches!(**error, TxManagerError::InsufficientBalance { .. }) => {
                "Fund the batcher's account on L1"
            }
            Self::Settlement(_)
            | Self::Unjudged { halted: None, .. }
            | Self::Executor(_)
            | Self::Behind(_)
            | Self::Epoch(_)
            | Self::DepositsMissing(_) => return None,
        };
        Some(format!("{self}. {advice}"))
    }
}

/// What decides where the chain on L1 ends.
#[derive(Debug)]
pub(crate) struct Resume<'a> {
    pub(crate) executor: &'a Arc<dyn Executor>,
    pub(crate) target: &'a dyn PostTarget,
    pub(crate) settlement: &'a Arc<dyn Settlement>,
}

/// The end of the chain that L1 holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    number: u64,
    hash: B256,
    deposits_end: u64,
}

impl Resume<'_> {
    /// The end of what is on L1 already: the last number that is taken, and the last block of the last valid batch.
    pub(crate) async fn find_cursor(&self) -> Result<Cursor, ResumeError> {
        self.find().await.map(|(cursor, _)| cursor)
    }

    /// The same, with the contract's hash of the last batch, by which it was judged.
    pub(crate) async fn find(&self) -> Result<(Cursor, B256), ResumeError> {
        let count = self.target.batch_count().await?;
        let mut last = None;
        let (first, mut head) = match self.target.last_commitment().await? {
            Some(commitment) => {
                let (batch, block) = (commitment.batch, commitment.last_block);
                (batch + 1, self.head(batch, block, Some(commitment.last_block_hash)).await?)
            }
            None => (1, self.head(0, 0, None).await?),
        };
        if first <= count {
            for posted in self.target.records(first, count).await? {
                last = Some(posted.batch_hash);
                match self.judge(&posted).await? {
                    Ok(next) => head = next,
                    Err(reason) => {
                        let batch = posted.header.number;
                        warn!(target: "millrace::da_adapter", batch, reason, "a posted batch is invalid; the chain goes on without it");
                    }
                }
            }
            info!(target: "millrace::da_adapter", first, last = count, head = head.number, "judged the batches that are not committed");
        }
        let deposits_hash = self.target.deposit_accumulator(head.deposits_end).await?;
        if deposits_hash.is_zero() && head.deposits_end > 0 {
            return Err(ResumeError::DepositsMissing(head.deposits_end));
        }
        let hash = match last {
            Some(hash) => hash,
            None if count == 0 => B256::ZERO,
            // All of them are committed.
            None => self.target.batch_hash(count).await?,
        };
        let cursor = Cursor {
            batch: count,
            block: BlockNumHash { number: head.number, hash: head.hash },
            deposits_end: head.deposits_end,
            deposits_hash,
        };
        Ok((cursor, hash))
    }

    /// The head after a batch, or why derivation skips it.
    async fn judge(&self, posted: &PostedBatch) -> Result<Result<Head, String>, ResumeError> {
        let batch = posted.header.number;
        match self.settlement.verdict(batch).await? {
            Some(verdict) if verdict.batch_hash == posted.batch_hash => match verdict.end {
                Ok(end) => self.head(batch, end.number, Some(end.hash)).await.map(Ok),
                Err(reason) => Ok(Err(reason)),
            },
            _ => {
                let halted = self.settlement.settlement_status().await?.halted;
                Err(ResumeError::Unjudged { batch, halted })
            }
        }
    }

    /// The executor's block at the end of a batch, which has to be the posted one.
    async fn head(
        &self,
        batch: u64,
        number: u64,
        posted: Option<B256>,
    ) -> Result<Head, ResumeError> {
        let header = self.executor.header(BlockSelector::Number(number)).await?;
        let header = header.ok_or(ResumeError::Behind(number))?;
        let hash = header.seal();
        if let Some(posted) = posted.filter(|posted| *posted != hash) {
            return Err(ResumeError::OtherChain { batch, block: number, posted, executor: hash });
        }
        let mark = QueueMark::of(&header).ok_or(ResumeError::NoRollup(number))?;
        Ok(Head { number, hash, deposits_end: mark.end })
    }
}
