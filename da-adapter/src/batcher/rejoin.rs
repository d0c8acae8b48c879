//! Going on after the sequencer has taken blocks back: closed batches that hold them are taken back too.
//!
//! An executor that lacks blocks has not taken them back: it may have lost them with its machine, and gets the same ones again from the order log.
//! Only another block in the place of one that was batched counts.

use std::{sync::Arc, time::Duration};

use alloy::{consensus::transaction::TxHashRef, eips::BlockNumHash};
use millrace_proto::{
    BlockSelector, DecodedBatch, ExecutedBlock, ExecutorError, QueueMark, RecoveredTx, TxEnvelope,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Batcher, Ended, ended};
use crate::{
    error::DaAdapterRunError,
    outbox::{BatchEntry, Cursor},
};

/// How often an executor is looked at whose chain is shorter than what was taken from it.
const MEET_EVERY: Duration = Duration::from_secs(1);

/// Why it is not known where to go on.
enum NotFound {
    Executor(ExecutorError),
    Run(DaAdapterRunError),
}

impl From<ExecutorError> for NotFound {
    fn from(error: ExecutorError) -> Self {
        Self::Executor(error)
    }
}

impl From<DaAdapterRunError> for NotFound {
    fn from(error: DaAdapterRunError) -> Self {
        Self::Run(error)
    }
}

/// Where the outbox and the executor's chain part.
enum Common {
    /// The outbox's last block is in it, or may be.
    All,
    /// They part after this.
    Upto(Cursor),
    /// They part further back than batches are kept.
    Nothing,
}

impl Batcher {
    /// Whether a block follows the last one.
    pub(super) fn joins(&self, block: &ExecutedBlock) -> bool {
        let last = self.last_block();
        block.number() == last.number + 1 && block.header.parent_hash == last.hash
    }

    /// Waits until the executor's chain is as long as what was taken from it, and goes back where it has other blocks. `None` when there is
    /// nothing to go back for.
    pub(super) async fn meet(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<Option<Ended>, DaAdapterRunError> {
        loop {
            match self.newest_upto(self.last_block()).await {
                Ok(None) => return Ok(None),
                Ok(Some(block)) => match self.rejoin(&block).await? {
                    Ended::Waiting => {}
                    other => return Ok(Some(other)),
                },
                Err(error) => return ended(Some(error)).map(Some),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Some(Ended::Stopped)),
                () = tokio::time::sleep(MEET_EVERY) => {}
            }
            if self.has_moved()? {
                return Ok(Some(Ended::Rejoined));
            }
        }
    }

    /// The executor's block in the place of one, or its head where it does not come so far; `None` if it has that one.
    async fn newest_upto(
        &self,
        last: BlockNumHash,
    ) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        let executor = &self.parts.executor;
        let head = executor.head().await?;
        let at = BlockSelector::Number(last.number.min(head.number));
        let unknown = || ExecutorError::UnknownBlock(at);
        if executor.header(at).await?.ok_or_else(unknown)?.seal() == last.hash {
            return Ok(None);
        }
        executor.block(at).await?.ok_or_else(unknown).map(Some)
    }

    /// A block came that does not follow the last one: goes back to the last closed batch that ends in the executor's chain, if the block is another
    /// one than was batched.
    pub(super) async fn rejoin(
        &mut self,
        came: &ExecutedBlock,
    ) -> Result<Ended, DaAdapterRunError> {
        let last = self.last_block();
        let common = match self.common(came).await {
            Ok(common) => common,
            Err(NotFound::Executor(error)) => return ended(Some(error)),
            Err(NotFound::Run(error)) => return Err(error),
        };
        let cursor = match common {
            Common::All => return Ok(Ended::Waiting),
            Common::Upto(cursor) => cursor,
            Common::Nothing => {
                return Ok(Ended::Halted(format!(
                    "the executor's block {} ({}) does not follow block {} ({}): its chain is another \
                     one than the outbox holds, further back than blocks can be taken back. If the \
                     executor was rebuilt on purpose, give the da-adapter an empty data folder, which \
                     makes it go on after the contract's last batch; otherwise mend the executor",
                    came.number(),
                    came.hash(),
                    last.number,
                    last.hash
                )));
            }
        };
        self.go_back(cursor).await?;
        Ok(Ended::Rejoined)
    }

    /// Whether the next batch begins elsewhere than was known: L1 holds batches that were not closed here. Its blocks are collected from there then.
    pub(super) fn has_moved(&mut self) -> Result<bool, DaAdapterRunError> {
        let Some(cursor) = self.parts.outbox.cursor().filter(|cursor| *cursor != self.cursor)
        else {
            return Ok(false);
        };
        self.cursor = cursor;
        self.open = self.fresh()?;
        self.parts.metrics.batched(cursor.batch, cursor.block.number);
        Ok(true)
    }

    async fn go_back(&mut self, cursor: Cursor) -> Result<(), DaAdapterRunError> {
        let (batches, open) = (self.cursor.batch - cursor.batch, self.open.blocks().len());
        // What is open only may be taken again from the executor.
        self.open = self.fresh()?;
        warn!(target: "millrace::da_adapter", batches, open, block = cursor.block.number, next_batch = cursor.batch + 1, "the sequencer took blocks back; so are the batches that hold them");
        if cursor != self.cursor {
            let (outbox, before) = (self.parts.outbox.clone(), self.cursor);
            tokio::task::spawn_blocking(move || outbox.unwind(before, cursor))
                .await
                .map_err(DaAdapterRunError::Worker)??;
            self.cursor = cursor;
        }
        self.parts.metrics.unwound(batches);
        self.parts.metrics.batched(cursor.batch, cursor.block.number);
        Ok(())
    }

    /// Where the executor's chain, which has the block that came, parts from what was taken from it.
    async fn common(&self, came: &ExecutedBlock) -> Result<Common, NotFound> {
        let mut parts = false;
        for collected in self.open.blocks() {
            parts |=
                collected.block.number() == came.number() && collected.block.hash() != came.hash();
        }
        match self.queue_at(self.cursor.block).await? {
            Has::It(_) => {
                let is_open = !self.open.blocks().is_empty();
                parts |= is_open && came.number() > self.last_block().number;
                return Ok(if parts { Common::Upto(self.cursor) } else { Common::All });
            }
            Has::Another => parts = true,
            Has::Nothing => {}
        }
        for entry in self.parts.outbox.entries().into_iter().rev() {
            let Some(batch) = self.decoded(&entry).await? else {
                // It is final on L1.
                return Ok(if parts { Common::Nothing } else { Common::All });
            };
            parts |= differs(&batch, came);
            let outline = batch.outline();
            // Batches of others may lie behind this one.
            let end = BlockNumHash { number: entry.last_block, hash: outline.last_block_hash };
            let before = BlockNumHash { number: entry.first_block - 1, hash: outline.parent_hash };
            for (batch, block) in [(entry.number, end), (entry.number - 1, before)] {
                match self.queue_at(block).await? {
                    Has::It(_) if !parts => return Ok(Common::All),
                    Has::It(queue) => {
                        return Ok(Common::Upto(Cursor::new(batch, block, queue)));
                    }
                    Has::Another => parts = true,
                    Has::Nothing => {}
                }
            }
        }
        Ok(if parts { Common::Nothing } else { Common::All })
    }

    /// A closed batch, as long as its bytes are kept.
    async fn decoded(&self, entry: &BatchEntry) -> Result<Option<DecodedBatch>, NotFound> {
        let (outbox, chain, number) = (self.parts.outbox.clone(), self.parts.chain, entry.number);
        let decoded = tokio::task::spawn_blocking(move || {
            let Some(data) = outbox.data(number)? else { return Ok(None) };
            chain.decode(number, &data).map(Some)
        });
        Ok(decoded.await.map_err(DaAdapterRunError::Worker)??)
    }

    /// What the executor has at the place of a block, and how far it had taken L1's queue there.
    async fn queue_at(&self, block: BlockNumHash) -> Result<Has, ExecutorError> {
        let at = BlockSelector::Number(block.number);
        Ok(match self.parts.executor.header(at).await? {
            None => Has::Nothing,
            Some(header) if header.seal() == block.hash => {
                Has::It(QueueMark::of(&header).unwrap_or_default())
            }
            Some(_) => Has::Another,
        })
    }
}

/// What an executor has at the place of a block.
enum Has {
    /// Nothing yet, or any more.
    Nothing,
    It(QueueMark),
    Another,
}

/// Whether a batch holds another block in the place of this one, as far as it tells.
fn differs(batch: &DecodedBatch, block: &ExecutedBlock) -> bool {
    let DecodedBatch::Transactions(batch) = batch else { return false };
    let index = block.number().checked_sub(batch.first_block);
    let index = index.and_then(|index| usize::try_from(index).ok());
    let Some(batched) = index.and_then(|index| batch.blocks.get(index)) else { return false };
    let consumed = QueueMark::of(&block.header).unwrap_or_default().end;
    let signed = block.signed();
    let same = |(batched, tx): (&TxEnvelope, &Arc<RecoveredTx>)| *batched.tx_hash() == tx.hash();
    batched.timestamp != block.header.timestamp
        || batched.deposits_end != consumed
        || batched.transactions.len() != signed.len()
        || !batched.transactions.iter().zip(signed).all(same)
}
