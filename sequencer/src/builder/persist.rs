//! What goes to the log, and what follows once it is on disk.

use std::{sync::Arc, time::Duration};

use alloy::primitives::TxHash;
use millrace_proto::RecoveredTx;
use tracing::{debug, warn};

use super::Builder;
use crate::{
    SequencerRunError,
    log::{AcceptTimes, DroppedTx, LogError, OrderLog, Position, Record},
    pool::{Acks, Closed, Pool},
    preconfirmations::Ticket,
    shared::Shared,
};

/// Blocks between two moves of the cursor.
const CHECKPOINT_EVERY: u64 = 64;
/// Blocks that the cursor stays behind the head.
const KEPT_BLOCKS: u64 = 64;

/// Everything that one append writes for the pool.
#[derive(Debug, Default)]
pub(super) struct Batch {
    drops: Vec<DroppedTx>,
    frame: Option<TakenFrame>,
    pooled: Vec<Arc<RecoveredTx>>,
    /// When each of those was accepted.
    pooled_at: AcceptTimes,
    /// Nothing is written of these; those who wait for them are woken.
    gone: Vec<TxHash>,
}

/// A frame that was taken from the pool.
#[derive(Debug)]
pub(super) struct TakenFrame {
    pub(super) block: u64,
    pub(super) ticket: Ticket,
    pub(super) txs: Vec<Arc<RecoveredTx>>,
    pub(super) accepted_at: AcceptTimes,
}

impl Batch {
    /// Takes what the pool has not written yet, beside a frame that was taken from it. `wall` is the time now, since the Unix epoch.
    pub(super) fn take(pool: &mut Pool, frame: Option<TakenFrame>, wall: Duration) -> Self {
        let frame = frame.filter(|frame| !frame.txs.is_empty());
        let gone = pool.take_gone();
        let pooled = pool.take_fresh(wall);
        let pooled_at = vec![Some(wall); pooled.len()];
        Self { drops: pool.take_drops(), frame, pooled, pooled_at, gone }
    }

    /// The frame's transactions.
    pub(super) fn framed(&self) -> &[Arc<RecoveredTx>] {
        self.frame.as_ref().map_or(&[], |frame| &frame.txs)
    }

    /// The records, in an order in which a drop comes before a transaction that took the dropped one's place.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::with_capacity(3);
        if !self.drops.is_empty() {
            records.push(Record::Dropped { txs: self.drops.clone() });
        }
        if let Some(TakenFrame { block, txs, accepted_at, .. }) = &self.frame {
            let (txs, accepted_at) = (txs.clone(), accepted_at.clone());
            records.push(Record::Frame { block: *block, txs, accepted_at });
        }
        if !self.pooled.is_empty() {
            let (txs, accepted_at) = (self.pooled.clone(), self.pooled_at.clone());
            records.push(Record::Pooled { txs, accepted_at });
        }
        records
    }

    /// Acknowledges. `last` is the position of the last record: no transaction's record is after it.
    fn durable(self, shared: &Shared, first: Position, count: u64) {
        let now = shared.now();
        let mut acks = Acks::default();
        {
            let mut pool = shared.ledger.pool.lock();
            pool.drops_written(&self.drops);
            let frame_at = first.plus(u64::from(!self.drops.is_empty()));
            pool.written(self.framed(), frame_at, now, &mut acks);
            pool.written(&self.pooled, first.plus(count.saturating_sub(1)), now, &mut acks);
        }
        let drops = self.drops.iter().map(|dropped| dropped.tx.hash());
        shared.waiters.wake(acks.accepted.iter().copied().chain(drops));
        acks.send();
        if let Some(frame) = &self.frame {
            shared.preconfirmer.written(frame.ticket);
        }
    }
}

impl Builder {
    /// Writes what is not written yet.
    pub(super) async fn flush(&mut self) -> Result<(), SequencerRunError> {
        let batch = {
            let mut pool = self.shared.ledger.pool.lock();
            if !pool.has_unwritten() {
                return Ok(());
            }
            Batch::take(&mut pool, None, self.shared.wall())
        };
        self.write(batch).await;
        Ok(())
    }

    /// Queues a batch for the disk; its transactions are acknowledged once they are there.
    pub(super) async fn write(&mut self, batch: Batch) {
        self.write_after(Vec::new(), batch).await;
    }

    /// Queues records and, in the same write, a batch.
    pub(super) async fn write_after(&mut self, mut records: Vec<Record>, batch: Batch) {
        self.shared.waiters.wake(batch.gone.iter().copied());
        let before = records.len() as u64;
        records.extend(batch.records());
        if records.is_empty() {
            return;
        }
        let count = records.len() as u64 - before;
        let shared = self.shared.clone();
        let done = move |result: Result<Position, Arc<LogError>>| match result {
            Ok(first) => batch.durable(&shared, first.plus(before), count),
            Err(error) => {
                shared.ledger.pool.lock().fail(Closed::LogFailed(error));
                shared.work.notify_one();
            }
        };
        self.writer.append(records, Box::new(done)).await;
    }

    /// Asks the log. `name` is of what is done with the answer, for the error.
    pub(super) async fn ask_log<T: Send + 'static>(
        &mut self,
        name: &'static str,
        ask: impl FnOnce(&dyn OrderLog) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, SequencerRunError> {
        match self.shared.read_log(ask).await {
            Ok(answer) => answer.map_err(|error| SequencerRunError::Log(Arc::new(error))),
            Err(source) => Err(SequencerRunError::Task { name, source }),
        }
    }

    /// Moves the log's cursor forward now and then, so that a start reads only the last blocks. What still waits from before
    /// is written again first.
    pub(super) async fn checkpoint(&mut self, sealed: u64) -> Result<(), SequencerRunError> {
        if !sealed.is_multiple_of(CHECKPOINT_EVERY) || sealed <= KEPT_BLOCKS {
            return Ok(());
        }
        self.move_cursor(sealed).await
    }

    /// Moves the log's cursor to so many blocks before the last.
    pub(super) async fn move_cursor(&mut self, last: u64) -> Result<(), SequencerRunError> {
        let Some(to) = last.checked_sub(KEPT_BLOCKS) else { return Ok(()) };
        let found = self.ask_log("checkpoint", move |log| log.block_position(to)).await?;
        let Some(cursor) = found else { return Ok(()) };
        let (old, pooled_at) = self.shared.ledger.pool.lock().older_than(cursor);
        if !old.is_empty() {
            if old.len() > 10_000 {
                warn!(target: "millrace::sequencer", transactions = old.len(), "many transactions wait for long; each checkpoint writes them again");
            }
            self.write(Batch { pooled: old, pooled_at, ..Batch::default() }).await;
        }
        debug!(target: "millrace::sequencer", %cursor, last, "moved the log's cursor");
        self.writer.set_cursor(cursor).await;
        Ok(())
    }
}
