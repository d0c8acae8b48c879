//! The builder: opens blocks, gives them frames, seals them on their clock. The only one that writes to the log.
//!
//! ```text
//!  pool ──frame──┬─> log thread (one fsync for all that waits) ──> ACCEPTED
//!                └─> executor (beside it)
//!  at the block's deadline, or when it is full: close ──> BlockSealed, next block
//!                                                 └─frames on disk─> store ──> SEQUENCED, pool, heads
//! ```

mod adopt;
mod frame;
mod open;
mod overdue;
mod persist;
mod seal;
mod unwind;

use std::{pin::pin, sync::Arc, time::Duration};

use millrace_proto::{
    BlockBuild, ErrorChain, ErrorClass, ExecutorError, FrameStart, Noting, Outage, PastOutage,
    QueueMark, SealedHeader,
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{adopt::Behind, overdue::Owed, seal::Storing};
use crate::{
    SequencerRunError,
    deposits::DepositFeed,
    log::LogWriter,
    pool::Closed,
    replay::{Included, LeftOut, LoggedBlock},
    shared::Shared,
};

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// How long a stop waits for an executor that does not answer.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The block that is being built.
#[derive(Debug)]
struct OpenBlock {
    /// Its inputs so far, to build it again if the executor loses it.
    block: LoggedBlock,
    build: Box<dyn BlockBuild>,
    /// Wei per gas.
    base_fee: u64,
    gas_left: u64,
    /// Of what one block may bring into a batch; what was framed counts, included or not.
    bytes_left: usize,
    txs_left: usize,
    /// When it is sealed: once it is full, as soon as it may be.
    deadline: Instant,
    left_out: LeftOut,
    place: Place,
    /// What is noted of it.
    noting: Noting,
}

/// Where the next frame of a block begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Its number among those of which something is in the block.
    frame: u64,
    start: FrameStart,
}

impl Place {
    /// The place after one more frame.
    fn after(self, frame: &Included) -> Self {
        if frame.transactions.is_empty() {
            return self;
        }
        Self { frame: self.frame + 1, start: self.start.after(&frame.receipts) }
    }
}

impl OpenBlock {
    /// Whoever waits need not wait for the end of a block that has no room for them, but for so long after the last block's.
    fn close_early(&mut self, last_deadline: Instant, min_block_time: Duration) {
        self.deadline =
            early_deadline(Instant::now(), self.deadline, last_deadline + min_block_time);
    }
}

fn early_deadline(now: Instant, deadline: Instant, earliest: Instant) -> Instant {
    // From now on, so that blocks that are late are not followed by others all the sooner.
    deadline.min(earliest.max(now))
}

/// The loop that makes blocks.
#[derive(Debug)]
pub(crate) struct Builder {
    shared: Arc<Shared>,
    writer: LogWriter,
    deposits: Option<Arc<DepositFeed>>,
    head: SealedHeader,
    /// How far the chain has consumed L1's queue.
    queue: QueueMark,
    open: Option<OpenBlock>,
    /// The block before it.
    storing: Option<Storing>,
    last_frame: Instant,
    last_sealed: Instant,
    /// The last block's deadline.
    last_deadline: Instant,
    next_expiry: Instant,
    /// Whether the last frame left transactions that may fit into the next one.
    more: bool,
    sealed_any: bool,
    /// The executor's, while it lasts.
    outage: Outage,
    /// Whether L1 holds more blocks than the chain here.
    behind: Option<Behind>,
    /// What blocks have to take of L1's queue before anything else.
    owed: Option<Owed>,
}

impl Builder {
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: LogWriter,
        deposits: Option<Arc<DepositFeed>>,
        head: SealedHeader,
        queue: QueueMark,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            writer,
            deposits,
            head,
            queue,
            open: None,
            storing: None,
            last_frame: now,
            last_sealed: now,
            last_deadline: now,
            next_expiry: now,
            more: false,
            sealed_any: false,
            outage: Outage::new(),
            behind: None,
            owed: None,
        }
    }

    /// Makes blocks until it is told to stop, then seals the open one and brings everything to disk.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), SequencerRunError> {
        let result = self.run_until(&stop).await;
        let closed = match &result {
            Ok(()) => Closed::Stopping,
            Err(SequencerRunError::Log(error)) => Closed::LogFailed(error.clone()),
            Err(_) => Closed::Halted,
        };
        self.shared.ledger.pool.lock().fail(closed);
        result
    }

    async fn run_until(&mut self, stop: &CancellationToken) -> Result<(), SequencerRunError> {
        let overdue = async {
            stop.cancelled().await;
            sleep(STOP_LIMIT).await;
        };
        tokio::select! {
            result = self.work(stop) => return result,
            () = overdue => {}
        }
        self.abandon().await
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), SequencerRunError> {
        while !stop.is_cancelled() {
            self.check_log()?;
            self.expire();
            if self.has_stored() {
                self.stored().await?;
            }
            self.look_back().await?;
            let deadline = self.open.as_ref().map(|open| open.deadline);
            match deadline {
                Some(deadline) if Instant::now() >= deadline => {
                    self.seal().await?;
                    continue;
                }
                Some(_) => {
                    self.note().await?;
                    self.frame().await?;
                }
                None if self.should_open() => {
                    self.open().await?;
                    self.frame().await?;
                }
                None => self.flush().await?,
            }
            self.wait(stop).await;
        }
        self.drain().await
    }

    /// Takes blocks back, or others over, where L1 has something else than was sequenced.
    async fn look_back(&mut self) -> Result<(), SequencerRunError> {
        if self.deposits.as_ref().is_some_and(|deposits| deposits.has_vanished()) {
            self.stored().await?;
            self.unwind().await?;
        }
        if let Some(end) = self.shared.derived.take() {
            self.stored().await?;
            self.adopt(end).await?;
        }
        // It is told again for as long as it is so.
        let refused = self.shared.refused.lock().take();
        if let Some(refused) = refused {
            self.stored().await?;
            self.take_overdue(refused).await?;
        }
        Ok(())
    }

    /// Takes no more, puts everything that was taken on disk, and seals the open block.
    async fn drain(&mut self) -> Result<(), SequencerRunError> {
        self.shared.ledger.pool.lock().close(Closed::Stopping);
        self.flush().await?;
        if self.open.is_some() {
            self.seal().await?;
        }
        self.stored().await?;
        self.writer.durable().await.map_err(SequencerRunError::Log)?;
        debug!(target: "millrace::sequencer", head = self.head.number, "drained");
        Ok(())
    }

    /// Ends without the executor, as a kill would, except that what was queued for the log is on disk. The next start seals the
    /// block that the log has as open.
    async fn abandon(&mut self) -> Result<(), SequencerRunError> {
        self.shared.ledger.pool.lock().close(Closed::Stopping);
        self.writer.durable().await.map_err(SequencerRunError::Log)?;
        warn!(target: "millrace::sequencer", head = self.head.number, "stopped without waiting for the executor; what it has not sealed is in the order log and is sealed at the next start");
        Ok(())
    }

    fn should_open(&mut self) -> bool {
        if self.is_behind() || self.waits_for_overdue() {
            return false;
        }
        let base_fee = self.shared.spec.next_base_fee(&self.head).unwrap_or(0);
        self.last_sealed.elapsed() >= self.shared.config.heartbeat
            || self.deposits.as_ref().is_some_and(|deposits| deposits.has_some())
            || self.shared.ledger.pool.lock().has_executable(base_fee)
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, stop: &CancellationToken) {
        let due = match &self.open {
            Some(open) => open.deadline,
            // Only that nobody tells of what is waited for opens a block then.
            None if self.behind.is_some() || self.owed.is_some() => {
                Instant::now() + self.shared.config.block_time
            }
            None => self.last_sealed + self.shared.config.heartbeat,
        };
        let until = due.min(self.next_expiry);
        let next_frame = self.last_frame + self.shared.config.frame_interval;
        if !std::mem::take(&mut self.more) {
            tokio::select! {
                () = self.shared.work.notified() => {}
                () = sleep_until(until) => return,
                () = stop.cancelled() => return,
            }
        }
        tokio::select! {
            () = sleep_until(next_frame.min(until)) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Awaits something while what arrives goes on being written and acknowledged.
    async fn busy<T>(&mut self, work: impl Future<Output = T>) -> Result<T, SequencerRunError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                () = sleep(self.shared.config.frame_interval) => {
                    self.check_log()?;
                    self.flush().await?;
                }
            }
        }
    }

    /// Asks the executor for something that concerns a block, however often that takes.
    async fn insist<T, F: Future<Output = Result<T, ExecutorError>>>(
        &mut self,
        block: u64,
        ask: impl Fn(Arc<Shared>) -> F,
    ) -> Result<T, SequencerRunError> {
        let mut delay = FIRST_RETRY;
        loop {
            match self.busy(ask(self.shared.clone())).await? {
                Ok(answer) => {
                    self.answered();
                    return Ok(answer);
                }
                Err(error) => self.before_retry(block, error, &mut delay).await?,
            }
        }
    }

    /// Waits before the executor is asked again, or gives up if that is no use.
    async fn before_retry(
        &mut self,
        block: u64,
        error: ExecutorError,
        delay: &mut Duration,
    ) -> Result<(), SequencerRunError> {
        if error.class() != ErrorClass::Retryable {
            return Err(SequencerRunError::Executor { block, source: error });
        }
        let told = ErrorChain::new(&error);
        if self.outage.failed() {
            warn!(target: "millrace::sequencer", block, error = %told, "the executor failed; trying again until it answers");
        } else {
            debug!(target: "millrace::sequencer", block, error = %told, ?delay, "the executor failed again");
        }
        self.busy(sleep(*delay)).await?;
        *delay = (*delay * 2).min(LONGEST_RETRY);
        Ok(())
    }

    /// The executor did what it was asked for.
    fn answered(&mut self) {
        if let Some(PastOutage { failures, lasted }) = self.outage.over() {
            info!(target: "millrace::sequencer", failures, ?lasted, "the executor answers again");
        }
    }

    fn check_log(&self) -> Result<(), SequencerRunError> {
        self.writer.failure().map_or(Ok(()), |error| Err(SequencerRunError::Log(error)))
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if now < self.next_expiry {
            return;
        }
        let lifetime = self.shared.config.pool.queued_lifetime;
        self.next_expiry =
            now + (lifetime / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let now = self.shared.now();
        let status = {
            let mut pool = self.shared.ledger.pool.lock();
            pool.expire(now);
            pool.status()
        };
        self.shared.metrics.pool(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_blocks_end_as_far_apart_as_they_have_to_and_none_later_than_it_would() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        // The last block's end was at 0, and this one would end at 250.
        assert_eq!(early_deadline(at(10), at(250), at(100)), at(100));
        assert_eq!(early_deadline(at(10), at(250), at(250)), at(250));
        assert_eq!(early_deadline(at(10), at(250), at(400)), at(250));
        // It is full only later: at once then.
        assert_eq!(early_deadline(at(180), at(250), at(100)), at(180));
        // Late already.
        assert_eq!(early_deadline(at(300), at(250), at(100)), at(250));
    }
}
