//! Where a new outbox begins: at genesis, or after the last valid batch that the contract holds.
//!
//! The contract takes what its batcher posts; whether a posted batch is a part of the chain is for derivation to say
//! (`docs/derivation.md`), and the next batch has to join the last one that is. So the batches are judged here by the same
//! rules, from the last commitment on: what is committed was derived, executed and found right. A batch that is skipped by
//! everyone is skipped here too.

mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_l1::{BeaconError, L1Error, TxManagerError};
use millrace_proto::{
    BlockSelector, DaReadError, DaReader, ErrorClass, Executor, ExecutorError, PostedBatch,
    QueueMark,
};
use tracing::{info, warn};

use self::rules::Head;
use crate::{chain::BatchedChain, outbox::Cursor, poster::PostTarget};

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
    #[error("cannot tell whether a posted batch is valid: {0}")]
    Da(#[from] DaReadError),
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
    #[error("worker: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl ResumeError {
    /// What to tell an operator, if waiting alone does not help.
    pub(crate) fn halt(&self) -> Option<String> {
        let advice = match self {
            Self::L1(error) if error.is_retryable() => return None,
            Self::L1(_) => "Check the L1 node and the contract's address",
            Self::Da(DaReadError::NoReader { .. }) => "Or wait until the batch is committed",
            Self::Da(DaReadError::Unavailable { source, .. }) => {
                let beacon = source.downcast_ref::<BeaconError>()?;
                if beacon.class() == ErrorClass::Retryable {
                    return None;
                }
                "Check the beacon URL in [l1]"
            }
            Self::OtherChain { .. } | Self::NoRollup(_) => "Mend the executor",
            Self::Epoch(error) if matches!(**error, TxManagerError::InsufficientBalance { .. }) => {
                "Fund the batcher's account on L1"
            }
            Self::Da(_)
            | Self::Executor(_)
            | Self::Behind(_)
            | Self::Epoch(_)
            | Self::DepositsMissing(_)
            | Self::Worker(_) => return None,
        };
        Some(format!("{self}. {advice}"))
    }
}

/// What decides where the chain on L1 ends.
#[derive(Debug)]
pub(crate) struct Resume<'a> {
    pub(crate) chain: BatchedChain,
    pub(crate) executor: &'a Arc<dyn Executor>,
    pub(crate) target: &'a dyn PostTarget,
    pub(crate) reader: &'a dyn DaReader,
}

impl Resume<'_> {
    /// The end of what is on L1 already: the last number that is taken, and the last block of the last valid batch.
    pub(crate) async fn find_cursor(&self) -> Result<Cursor, ResumeError> {
        let count = self.target.batch_count().await?;
        let (first, mut head) = match self.target.last_commitment().await? {
            Some(commitment) => {
                let (batch, block) = (commitment.batch, commitment.last_block);
                (batch + 1, self.head(batch, block, Some(commitment.last_block_hash)).await?)
            }
            None => (1, self.head(0, 0, None).await?),
        };
        if first <= count {
            for posted in self.target.records(first, count).await? {
                match self.judge(head, &posted).await? {
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
        Ok(Cursor {
            batch: count,
            block: BlockNumHash { number: head.number, hash: head.hash },
            deposits_end: head.deposits_end,
            deposits_hash,
        })
    }

    /// The head after a batch, or why derivation skips it.
    async fn judge(
        &self,
        head: Head,
        posted: &PostedBatch,
    ) -> Result<Result<Head, String>, ResumeError> {
        let (header, chain) = (posted.header, self.chain);
        if let Err(reason) = rules::join(&head, &header) {
            return Ok(Err(reason));
        }
        let bytes = match self.reader.read(posted).await {
            Ok(bytes) => bytes,
            Err(DaReadError::Invalid { problem, .. }) => return Ok(Err(problem)),
            Err(error) => return Err(error.into()),
        };
        let checked =
            tokio::task::spawn_blocking(move || rules::check(&head, &header, &bytes, chain));
        match checked.await? {
            Ok(claim) => self.head(header.number, header.last_block, Some(claim)).await.map(Ok),
            Err(reason) => Ok(Err(reason)),
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
        Ok(Head { number, hash, timestamp: header.timestamp, deposits_end: mark.end })
    }
}
