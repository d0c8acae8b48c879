//! Deposits and forced transactions on their way from L1 to the next block.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_proto::{
    ErrorChain, L1Inbox, L1InboxError, QueueEntry, QueueMark, QueuedTxs, Standing,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::shared::Shared;

/// How many blocks' worth of deposits are read ahead.
const READ_AHEAD: usize = 4;
/// Between two complaints about an L1 that does not answer.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Buffer {
    /// How far blocks have taken the queue.
    taken: QueueMark,
    /// The timestamp of the block that took the last of these; Unix seconds.
    taken_at: u64,
    /// Whether L1 does not have what was taken any more.
    vanished: bool,
    /// The entries from there on, without gaps.
    entries: Vec<QueueEntry>,
}

/// Reads the queue in the background. While L1 does not answer there is just nothing in it.
#[derive(Debug)]
pub(crate) struct DepositFeed {
    inbox: Arc<dyn L1Inbox>,
    buffer: Mutex<Buffer>,
    taken: Notify,
}

impl DepositFeed {
    /// Reads from the first entry that the chain has not consumed, which had consumed the last at `taken_at`, or before.
    pub(crate) fn new(inbox: Arc<dyn L1Inbox>, taken: QueueMark, taken_at: u64) -> Self {
        let entries = Vec::new();
        let buffer = Mutex::new(Buffer { taken, taken_at, vanished: false, entries });
        Self { inbox, buffer, taken: Notify::new() }
    }

    /// Whether an entry waits.
    pub(crate) fn has_some(&self) -> bool {
        !self.buffer.lock().entries.is_empty()
    }

    /// Whether a reorg took entries that the chain has taken.
    pub(crate) fn has_vanished(&self) -> bool {
        self.buffer.lock().vanished
    }

    /// The timestamp of the block that took the last entries; Unix seconds.
    pub(crate) fn taken_at(&self) -> u64 {
        self.buffer.lock().taken_at
    }

    /// What L1 has of what was taken up to a mark.
    pub(crate) async fn standing(&self, mark: QueueMark) -> Result<Standing, L1InboxError> {
        self.inbox.standing(mark).await
    }

    /// It is not known after all what L1 has: the next read tells.
    pub(crate) fn look_again(&self) {
        self.buffer.lock().vanished = false;
    }

    /// Reads from another place, since the blocks after it were taken back.
    pub(crate) fn unwind(&self, taken: QueueMark, taken_at: u64) {
        let entries = Vec::new();
        let mut buffer = self.buffer.lock();
        let taken_at = buffer.taken_at.max(taken_at);
        *buffer = Buffer { taken, taken_at, vanished: false, entries };
        drop(buffer);
        self.taken.notify_one();
    }

    /// Takes the next entries for a block with this timestamp, as transactions: at most `max`, and at most `gas` together, though always
    /// one.
    pub(crate) fn take(&self, max: usize, gas: u64, timestamp: u64) -> QueuedTxs {
        let mut buffer = self.buffer.lock();
        let most = buffer.entries.len().min(max);
        let count = QueueEntry::fitting(&buffer.entries[..most], gas);
        let entries: Vec<_> = buffer.entries.drain(..count).collect();
        let queued = QueuedTxs::new(buffer.taken, &entries, self.inbox.rollup());
        buffer.taken = queued.mark;
        if count > 0 {
            buffer.taken_at = timestamp;
        }
        drop(buffer);
        self.taken.notify_one();
        queued
    }

    /// Reads until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>, stop: CancellationToken) {
        let interval = shared.config.deposit_poll_interval;
        let most = shared.config.max_deposits_per_block.saturating_mul(READ_AHEAD);
        let mut complained: Option<Instant> = None;
        loop {
            let taken = self.buffer.lock().taken;
            let from = taken.end;
            let read = tokio::select! {
                read = self.inbox.entries(taken, most) => read,
                () = stop.cancelled() => return,
            };
            match read {
                Ok(entries) => {
                    if complained.take().is_some() {
                        info!(target: "millrace::sequencer", next = from, "L1's deposit queue answers again");
                    }
                    if self.replace(taken, entries) {
                        shared.work.notify_one();
                    }
                }
                Err(L1InboxError::Vanished { end, missing_at }) => {
                    let patience = shared.config.deposit_patience;
                    if self.vanished(taken, missing_at, patience) {
                        warn!(target: "millrace::sequencer", end, "an L1 reorg took deposits or forced transactions that blocks hold");
                        shared.work.notify_one();
                    } else if complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
                        complained = Some(Instant::now());
                        warn!(target: "millrace::sequencer", end, ?patience, "L1 does not have all deposits and forced transactions that blocks hold: it lags behind, or a reorg took them and may bring them again");
                    }
                }
                Err(error) => {
                    shared.metrics.inbox_errors.increment(1);
                    if complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
                        complained = Some(Instant::now());
                        let error = ErrorChain::new(&error);
                        warn!(target: "millrace::sequencer", %error, next = from, "cannot read L1's deposit queue; sequencing goes on without deposits");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.taken.notified(), if complained.is_none() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// L1 does not have what was taken up to a mark. Notes that for good once it cannot come back as it was, or has not for long. `missing_at` is
    /// the time of an L1 block that has nothing in its place.
    fn vanished(&self, taken: QueueMark, missing_at: Option<u64>, patience: Duration) -> bool {
        let mut buffer = self.buffer.lock();
        // An L1 node that lags behind has not had them yet.
        let due = buffer.taken_at.saturating_add(patience.as_secs());
        let gone = missing_at.is_none_or(|at| at >= due);
        let first = gone && buffer.taken == taken && !buffer.vanished;
        buffer.vanished |= first;
        first
    }

    /// Takes over what L1 says comes behind a mark. What was read before and not taken may have changed: it is replaced.
    fn replace(&self, after: QueueMark, entries: Vec<QueueEntry>) -> bool {
        let from = after.end;
        let sound = entries.iter().zip(from..).take_while(|(entry, at)| entry.index() == *at);
        let sound = sound.count();
        if sound < entries.len() {
            warn!(target: "millrace::sequencer", from, sound, got = entries.len(), "L1's queue was read with a gap; the rest is ignored");
        }
        let mut buffer = self.buffer.lock();
        let Some(taken) = buffer.taken.end.checked_sub(from) else { return false };
        let skip = usize::try_from(taken).unwrap_or(usize::MAX);
        buffer.entries = entries.into_iter().take(sound).skip(skip).collect();
        !buffer.entries.is_empty()
    }
}
