//! The batcher: follows the chain from the cursor, collects blocks, and closes batches into the
//! outbox.

mod close;
mod effort;
mod estimate;
mod names;
mod open_batch;
mod rejoin;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use alloy::eips::BlockNumHash;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use millrace_proto::{
    BatchLimits, BatchPayload, BoxStream, DaKind, ErrorClass, ExecutedBlock, Executor,
    ExecutorError, batch_digest,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use self::open_batch::CloseReason;
use self::{
    close::{CloseError, EncodedBatch, Sizes, Source},
    effort::Effort,
    open_batch::{CloseRules, Collected, OpenBatch},
};
use crate::{
    blob,
    chain::BatchedChain,
    config::DaAdapterConfig,
    error::DaAdapterRunError,
    halt::{Halts, Part},
    metrics::{ClosedStats, DaMetrics},
    outbox::{BatchEntry, Cursor, Outbox},
    window::Window,
};

/// What the batcher works with.
#[derive(Debug)]
pub(crate) struct BatcherParts {
    pub(crate) chain: BatchedChain,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) halts: Arc<Halts>,
    pub(crate) metrics: DaMetrics,
    /// Bytes of the largest batch that the backend takes.
    pub(crate) max_size: usize,
    /// Where batches go now.
    pub(crate) in_use: watch::Receiver<DaKind>,
    /// How long the contract still takes what waits, as last seen.
    pub(crate) window: watch::Receiver<Option<Window>>,
}

/// Closes batches.
#[derive(Debug)]
pub(crate) struct Batcher {
    parts: BatcherParts,
    rules: CloseRules,
    effort: Effort,
    max_backlog: u64,
    max_retry_interval: Duration,
    /// Where the next batch begins.
    cursor: Cursor,
    open: OpenBatch,
    correction: f64,
}

/// What the batcher does next.
enum Event {
    Stop,
    Block(Arc<ExecutedBlock>),
    /// The stream ended, with an error or without.
    StreamEnded(Option<ExecutorError>),
    /// The open batch has to close.
    Due(CloseReason),
    OutboxChanged,
}

impl Batcher {
    /// A batcher that goes on after `cursor`.
    pub(crate) fn new(
        config: &DaAdapterConfig,
        parts: BatcherParts,
        cursor: Cursor,
    ) -> Result<Self, DaAdapterRunError> {
        let rules = CloseRules {
            target_size: config.target(parts.max_size),
            max_blocks: config.max_blocks,
            max_age: config.max_batch_age,
            max_empty_age: config.max_empty_batch_age,
            window_margin: config.window_margin,
        };
        parts.metrics.batched(cursor.batch, cursor.block.number);
        Ok(Self {
            rules,
            effort: Effort::new(config.zstd_level),
            max_backlog: config.max_backlog_batches as u64,
            max_retry_interval: config.max_retry_interval,
            cursor,
            open: OpenBatch::new(1.0).map_err(DaAdapterRunError::Compression)?,
            correction: 1.0,
            parts,
        })
    }

    /// Runs until it is told to stop. Blocks of the open batch are collected again after a restart.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DaAdapterRunError> {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(self.max_retry_interval)
            .with_jitter()
            .without_max_times();
        let mut pauses = backoff.build();
        loop {
            let before = self.next_block();
            match self.follow(&stop).await? {
                Ended::Stopped => return Ok(()),
                Ended::Stream(error) => {
                    self.parts.metrics.source_retried();
                    warn!(
                        target: "millrace::da_adapter",
                        error = error.as_ref().map(tracing::field::display),
                        next_block = self.next_block(),
                        "the block stream ended; opening it again"
                    );
                }
                Ended::Rejoined => continue,
                Ended::Waiting => {}
                Ended::Halted(reason) => self.parts.halts.set(Part::Batching, Some(reason)),
            }
            if self.next_block() != before {
                pauses = backoff.build();
            }
            let pause = pauses.next().unwrap_or(self.max_retry_interval);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The block that has to come next.
    fn next_block(&self) -> u64 {
        self.last_block().number + 1
    }

    fn last_block(&self) -> BlockNumHash {
        self.open.blocks().last().map_or(self.cursor.block, |last| last.block.num_hash())
    }

    /// Collects blocks from one stream until it ends.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<Ended, DaAdapterRunError> {
        let mut changed = self.parts.outbox.watch();
        self.has_moved()?;
        if let Some(ended) = self.meet(stop).await? {
            return Ok(ended);
        }
        let subscribed = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            subscribed = self.parts.executor.subscribe(self.next_block()) => subscribed,
        };
        let mut blocks = match subscribed {
            Ok(blocks) => blocks,
            Err(error) => return ended(Some(error)),
        };
        loop {
            match self.next_event(stop, &mut blocks, &mut changed).await {
                Event::Stop => return Ok(Ended::Stopped),
                Event::StreamEnded(error) => return ended(error),
                Event::OutboxChanged => {
                    if self.has_moved()? {
                        return Ok(Ended::Rejoined);
                    }
                }
                Event::Due(reason) => {
                    if let Some(reason) = self.close(reason).await? {
                        return Ok(Ended::Halted(reason));
                    }
                }
                Event::Block(block) => {
                    if !self.joins(&block) {
                        return self.rejoin(&block).await;
                    }
                    let block = match self.collect(block).await {
                        Ok(block) => block,
                        Err(NotCollected::Executor(error)) => return ended(Some(error)),
                        Err(NotCollected::Forgotten(reason)) => return Ok(Ended::Halted(reason)),
                    };
                    if let Some(reason) = self.take(block).await? {
                        return Ok(Ended::Halted(reason));
                    }
                }
            }
        }
    }

    async fn next_event(
        &self,
        stop: &CancellationToken,
        blocks: &mut BoxStream<Arc<ExecutedBlock>, ExecutorError>,
        changed: &mut tokio::sync::watch::Receiver<()>,
    ) -> Event {
        let mut window = self.parts.window.clone();
        let seen = *window.borrow_and_update();
        let is_short = self.is_short();
        // While L1 is behind, only size closes a batch: fewer and fuller batches catch up faster.
        let aged = self.open.deadline(&self.rules).filter(|_| !is_short && !self.is_behind());
        // What waits before it would go first, and moves the end itself.
        let alone = self.parts.outbox.summary().backlog_batches == 0;
        let late = seen
            .filter(|_| alone && !is_short)
            .and_then(|window| self.open.window_deadline(&self.rules, &window));
        let due = [(aged, CloseReason::Age), (late, CloseReason::Window)];
        let due =
            due.into_iter().filter_map(|(at, reason)| Some((at?, reason))).min_by_key(|due| due.0);
        let due = async {
            match due {
                Some((at, reason)) => {
                    tokio::time::sleep_until(at).await;
                    reason
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            reason = due => Event::Due(reason),
            block = blocks.next() => match block {
                Some(Ok(block)) => Event::Block(block),
                Some(Err(error)) => Event::StreamEnded(Some(error)),
                None => Event::StreamEnded(None),
            },
            _ = changed.changed() => Event::OutboxChanged,
            Ok(()) = window.changed() => Event::OutboxChanged,
        }
    }

    /// Whether the open batch does not reach what is overdue: only blocks that come can bring it where the contract takes it.
    fn is_short(&self) -> bool {
        self.parts.window.borrow().is_some_and(|window| self.open.is_short(&window))
    }

    /// When the open batch closes. One that has to reach what is due has as much room as there is.
    fn limits(&self) -> CloseRules {
        if self.parts.window.borrow().is_none_or(|window| self.cursor.deposits_end >= window.due) {
            return self.rules;
        }
        let target_size = self.parts.max_size.max(self.rules.target_size);
        CloseRules { target_size, max_blocks: BatchLimits::default().max_blocks, ..self.rules }
    }

    /// Whether closed batches wait for L1.
    fn is_behind(&self) -> bool {
        self.parts.outbox.summary().backlog_batches >= self.max_backlog
    }

    /// Adds what a batch holds of a block beside it.
    async fn collect(&self, block: Arc<ExecutedBlock>) -> Result<Collected, NotCollected> {
        let number = block.number();
        let diff = match self.parts.chain.payload {
            BatchPayload::Transactions => None,
            BatchPayload::StateDiffs => {
                let diff = self.parts.executor.state_diff(number).await?;
                Some(diff.ok_or_else(|| {
                    NotCollected::Forgotten(format!(
                        "the executor has block {number}, but not what it changed, which batches hold: its store was made by another \
                         version or for another genesis; rebuild it"
                    ))
                })?)
            }
        };
        Ok(Collected { block, diff, arrived: Instant::now() })
    }

    /// Adds a block, and closes the batch if that fills it. Returns why batching has to halt, if it
    /// has to.
    async fn take(&mut self, collected: Collected) -> Result<Option<String>, DaAdapterRunError> {
        self.open.push(collected).map_err(DaAdapterRunError::Compression)?;
        self.parts.metrics.open(self.open.size(), self.open.blocks().len());
        while let Some(reason) = self.open.is_full(&self.limits()) {
            if let Some(halt) = self.close(reason).await? {
                return Ok(Some(halt));
            }
        }
        Ok(None)
    }

    /// Closes the open batch, or as much of it as fits into one; the rest stays open.
    async fn close(&mut self, reason: CloseReason) -> Result<Option<String>, DaAdapterRunError> {
        let blocks = self.open.blocks().to_vec();
        let (chain_id, cursor) = (self.parts.chain.id, self.cursor);
        let sizes = Sizes { target: self.limits().target_size, max: self.parts.max_size };
        let level = self.effort.level();
        let collecting = self.open.age(Instant::now());
        let preparing = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let source = Source::new(&blocks);
            let addresses = source.addresses();
            (source, addresses, blocks, started.elapsed())
        });
        let (source, addresses, blocks, prepare_time) =
            preparing.await.map_err(DaAdapterRunError::Worker)?;
        let names = self.names(&addresses).await;
        let started = Instant::now();
        let encoding = tokio::task::spawn_blocking(move || {
            close::encode(chain_id, &cursor, &source, &names, sizes, level)
        });
        let encoded = match encoding.await.map_err(DaAdapterRunError::Worker)? {
            Ok(encoded) => encoded,
            Err(CloseError::Encode(error)) => return Err(DaAdapterRunError::Encode(error)),
            Err(error @ CloseError::BlockTooLarge { .. }) => {
                // Taken again from the executor.
                self.open = self.fresh()?;
                return Ok(Some(format!("{error}: choose a backend that takes larger batches")));
            }
        };
        let encode_time = prepare_time + started.elapsed();
        if let Some(whole) = encoded.whole {
            self.correction = self.open.measured(whole);
        }
        if encoded.blocks == blocks.len()
            && reason == CloseReason::Size
            && sizes.has_room(encoded.data.len())
        {
            // It was estimated to have more bytes than it has.
            return Ok(None);
        }
        self.effort.adapt(encode_time, collecting, self.is_behind());
        let Some(number) = self.store(&blocks, &encoded).await? else {
            self.has_moved()?;
            return Ok(None);
        };
        self.parts.halts.set(Part::Batching, None);
        let in_blobs = *self.parts.in_use.borrow() == DaKind::L1Blob;
        let blob_capacity =
            in_blobs.then(|| blob::capacity(blob::blobs_needed(encoded.data.len())) as u64);
        let stats = ClosedStats {
            number,
            last_block: self.cursor.block.number,
            transactions: encoded.transactions as u64,
            raw_bytes: encoded.raw_bytes as u64,
            bytes: encoded.data.len() as u64,
            blob_capacity,
            encode_time,
            level,
        };
        self.parts.metrics.closed(reason, stats);
        info!(
            target: "millrace::da_adapter",
            batch = number,
            reason = reason.as_str(),
            blocks = encoded.blocks,
            last_block = self.cursor.block.number,
            transactions = encoded.transactions,
            bytes = encoded.data.len(),
            "batch closed"
        );
        self.reopen(&blocks[encoded.blocks..])?;
        Ok(None)
    }

    /// Writes the batch and the new cursor, and returns the batch's number; `None` if the next one begins elsewhere by now.
    async fn store(
        &mut self,
        blocks: &[Collected],
        encoded: &EncodedBatch,
    ) -> Result<Option<u64>, DaAdapterRunError> {
        let taken = &blocks[..encoded.blocks];
        let last = taken.last().map_or(self.cursor.block, |last| last.block.num_hash());
        let number = self.cursor.batch + 1;
        let entry = BatchEntry {
            number,
            first_block: self.cursor.block.number + 1,
            last_block: last.number,
            deposits_end: encoded.deposits_end,
            deposits_hash: encoded.deposits_hash,
            digest: batch_digest(&encoded.data),
            size: encoded.data.len() as u64,
            transactions: encoded.transactions as u64,
            closed_at: unix_millis(),
            post: None,
        };
        let cursor = Cursor {
            batch: number,
            block: last,
            deposits_end: encoded.deposits_end,
            deposits_hash: encoded.deposits_hash,
        };
        let (outbox, data) = (self.parts.outbox.clone(), encoded.data.clone());
        let before = self.cursor;
        let closed =
            tokio::task::spawn_blocking(move || outbox.close(entry, &data, before, cursor))
                .await
                .map_err(DaAdapterRunError::Worker)??;
        if !closed {
            return Ok(None);
        }
        self.cursor = cursor;
        Ok(Some(number))
    }

    /// Opens the next batch with the blocks that did not fit.
    fn reopen(&mut self, rest: &[Collected]) -> Result<(), DaAdapterRunError> {
        self.open = self.fresh()?;
        for block in rest {
            self.open.push(block.clone()).map_err(DaAdapterRunError::Compression)?;
        }
        if !rest.is_empty() {
            debug!(target: "millrace::da_adapter", blocks = rest.len(), "left for the next batch");
        }
        self.parts.metrics.open(self.open.size(), rest.len());
        Ok(())
    }

    fn fresh(&self) -> Result<OpenBatch, DaAdapterRunError> {
        OpenBatch::new(self.correction).map_err(DaAdapterRunError::Compression)
    }
}

/// Why a block cannot be taken.
enum NotCollected {
    Executor(ExecutorError),
    /// Nobody has what it changed any more.
    Forgotten(String),
}

impl From<ExecutorError> for NotCollected {
    fn from(error: ExecutorError) -> Self {
        Self::Executor(error)
    }
}

/// Why following one stream ended.
enum Ended {
    Stopped,
    /// The executor's chain was left, and is joined again further back.
    Rejoined,
    /// The executor lacks blocks that were taken from it, and gets them again.
    Waiting,
    Stream(Option<ExecutorError>),
    Halted(String),
}

fn ended(error: Option<ExecutorError>) -> Result<Ended, DaAdapterRunError> {
    match error {
        Some(error) if error.class() == ErrorClass::Fatal => {
            Err(DaAdapterRunError::Executor(Box::new(error)))
        }
        error => Ok(Ended::Stream(error)),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
