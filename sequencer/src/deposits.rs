//! Deposits on their way from L1 to the next block.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_proto::{Deposit, ErrorChain, L1Inbox, RecoveredTx, TxEnvelope};
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
    /// Index of the first deposit that no block took.
    next: u64,
    /// From `next` on, without gaps.
    deposits: Vec<Deposit>,
}

/// Reads the queue in the background. While L1 does not answer there are just no deposits.
#[derive(Debug)]
pub(crate) struct DepositFeed {
    inbox: Arc<dyn L1Inbox>,
    buffer: Mutex<Buffer>,
    taken: Notify,
}

impl DepositFeed {
    /// Reads from the first deposit that the chain has not consumed.
    pub(crate) fn new(inbox: Arc<dyn L1Inbox>, next: u64) -> Self {
        let buffer = Mutex::new(Buffer { next, deposits: Vec::new() });
        Self { inbox, buffer, taken: Notify::new() }
    }

    /// Whether a deposit waits.
    pub(crate) fn has_some(&self) -> bool {
        !self.buffer.lock().deposits.is_empty()
    }

    /// Takes the next deposits, as transactions: at most `max`, and at most `gas` together, though always one.
    pub(crate) fn take(&self, max: usize, gas: u64) -> Vec<Arc<RecoveredTx>> {
        let mut buffer = self.buffer.lock();
        let mut left = gas;
        let count = buffer
            .deposits
            .iter()
            .take(max)
            .enumerate()
            .take_while(|(index, deposit)| {
                let fits = left.checked_sub(deposit.gas_limit);
                left = fits.unwrap_or(0);
                fits.is_some() || *index == 0
            })
            .count();
        buffer.next += count as u64;
        let taken = buffer.deposits.drain(..count);
        let rollup = self.inbox.rollup();
        let txs = taken
            .map(|deposit| {
                let tx = TxEnvelope::from(deposit.to_tx(rollup));
                Arc::new(RecoveredTx::new_unchecked(tx, deposit.from))
            })
            .collect();
        drop(buffer);
        self.taken.notify_one();
        txs
    }

    /// Reads until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>, stop: CancellationToken) {
        let interval = shared.config.deposit_poll_interval;
        let most = shared.config.max_deposits_per_block.saturating_mul(READ_AHEAD);
        let mut complained: Option<Instant> = None;
        loop {
            let from = self.buffer.lock().next;
            let read = tokio::select! {
                read = self.inbox.deposits(from, most) => read,
                () = stop.cancelled() => return,
            };
            match read {
                Ok(deposits) => {
                    if complained.take().is_some() {
                        info!(target: "millrace::sequencer", next = from, "L1's deposit queue answers again");
                    }
                    if self.replace(from, deposits) {
                        shared.work.notify_one();
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

    /// Takes over what L1 says comes from `from` on. What was read before and not taken may have changed: it is replaced.
    fn replace(&self, from: u64, deposits: Vec<Deposit>) -> bool {
        let sound = deposits.iter().zip(from..).take_while(|(deposit, at)| deposit.index == *at);
        let sound = sound.count();
        if sound < deposits.len() {
            warn!(target: "millrace::sequencer", from, sound, got = deposits.len(), "the deposit queue was read with a gap; the rest is ignored");
        }
        let mut buffer = self.buffer.lock();
        let Some(taken) = buffer.next.checked_sub(from) else { return false };
        let skip = usize::try_from(taken).unwrap_or(usize::MAX);
        buffer.deposits = deposits.into_iter().take(sound).skip(skip).collect();
        !buffer.deposits.is_empty()
    }
}
