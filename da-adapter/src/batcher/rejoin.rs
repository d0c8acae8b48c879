//! Going on after the sequencer has taken blocks back: closed batches that hold them are taken back too.

use alloy::eips::BlockNumHash;
use millrace_proto::{
    BatchLimits, BlockSelector, DecodedBatch, ExecutedBlock, ExecutorError, QueueMark,
};
use tracing::warn;

use super::{Batcher, Ended, ended};
use crate::{error::DaAdapterRunError, outbox::Cursor};

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

impl Batcher {
    /// Whether a block follows the last one.
    pub(super) fn joins(&self, block: &ExecutedBlock) -> bool {
        let last = self.last_block();
        block.number() == last.number + 1 && block.header.parent_hash == last.hash
    }

    /// A block came that does not follow the last one: goes back to the last closed batch that ends in the executor's chain.
    pub(super) async fn rejoin(
        &mut self,
        block: &ExecutedBlock,
    ) -> Result<Ended, DaAdapterRunError> {
        let last = self.last_block();
        // What is open only may be taken again from the executor.
        let open = self.open.blocks().len();
        self.open = self.fresh()?;
        match self.common_end().await {
            Ok(Some(cursor)) if cursor != self.cursor || open > 0 => {
                self.go_back(cursor, open).await?;
                Ok(Ended::Rejoined)
            }
            Ok(_) => Ok(Ended::Halted(format!(
                "the executor's block {} ({}) does not follow block {} ({}): its chain is another \
                 one than the outbox holds, further back than blocks can be taken back. If the \
                 executor was rebuilt on purpose, give the da-adapter an empty data folder, which \
                 makes it go on after the contract's last batch; otherwise mend the executor",
                block.number(),
                block.hash(),
                last.number,
                last.hash
            ))),
            Err(NotFound::Executor(error)) => ended(Some(error)),
            Err(NotFound::Run(error)) => Err(error),
        }
    }

    async fn go_back(&mut self, cursor: Cursor, open: usize) -> Result<(), DaAdapterRunError> {
        let batches = self.cursor.batch - cursor.batch;
        warn!(target: "millrace::da_adapter", batches, open, block = cursor.block.number, next_batch = cursor.batch + 1, "the sequencer took blocks back; so are the batches that hold them");
        if cursor != self.cursor {
            let outbox = self.parts.outbox.clone();
            tokio::task::spawn_blocking(move || outbox.unwind(cursor))
                .await
                .map_err(DaAdapterRunError::Worker)??;
            self.cursor = cursor;
        }
        self.parts.metrics.unwound(batches);
        self.parts.metrics.batched(cursor.batch, cursor.block.number);
        Ok(())
    }

    /// The last end of a closed batch that is in the executor's chain, unless that is a final one's: each batch says where it begins.
    async fn common_end(&self) -> Result<Option<Cursor>, NotFound> {
        if self.queue_at(self.cursor.block).await?.is_some() {
            return Ok(Some(self.cursor));
        }
        for entry in self.parts.outbox.entries().into_iter().rev() {
            let (outbox, payload) = (self.parts.outbox.clone(), self.parts.chain.payload);
            let number = entry.number;
            let beginning = tokio::task::spawn_blocking(move || {
                let Some(data) = outbox.data(number)? else { return Ok(None) };
                let batch = DecodedBatch::decode(&data, payload, &BatchLimits::default())
                    .map_err(|source| DaAdapterRunError::Undecodable { number, source })?;
                Ok::<_, DaAdapterRunError>(Some(batch.outline().parent_hash))
            });
            let Some(hash) = beginning.await.map_err(DaAdapterRunError::Worker)?? else {
                return Ok(None);
            };
            let block = BlockNumHash { number: entry.first_block - 1, hash };
            if let Some(queue) = self.queue_at(block).await? {
                let (deposits_end, deposits_hash) = (queue.end, queue.hash);
                let batch = number - 1;
                return Ok(Some(Cursor { batch, block, deposits_end, deposits_hash }));
            }
        }
        Ok(None)
    }

    /// How far the executor's chain had taken L1's queue at a block; `None` if that is not in it.
    async fn queue_at(&self, block: BlockNumHash) -> Result<Option<QueueMark>, ExecutorError> {
        let at = BlockSelector::Number(block.number);
        let header = self.parts.executor.header(at).await?;
        let header = header.filter(|header| header.seal() == block.hash);
        Ok(header.map(|header| QueueMark::of(&header).unwrap_or_default()))
    }
}
