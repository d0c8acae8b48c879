//! The poster: brings the outbox's batches to the contract, in order. The contract is the truth of
//! which are there; the outbox only remembers what was seen.

mod follow;
mod reason;
mod submit;
mod target;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes, U256, hex, keccak256};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{StreamExt, stream::FuturesUnordered};
use millrace_l1::{L1Error, TxManagerError};
use millrace_proto::{
    BatchHeader, BatchOutline, DaKind, ErrorClass, Executor, RefusedBlocks, Settlement,
    batch_digest,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::target::{Finality, L1Target, PostTarget, Posting};
use crate::{
    backend::{DaBackend, Prepared, SubmitRequest},
    batcher::unix_millis,
    chain::BatchedChain,
    error::DaAdapterRunError,
    halt::{Halts, Part},
    metrics::DaMetrics,
    outbox::{BatchEntry, Cursor, Outbox},
    switch::Switch,
    window::Window,
};

const TARGET: &str = "millrace::da_adapter";

/// Failed posts of one batch in a row, each worth another try, after which an operator is called.
const TRIES: u32 = 3;
/// The same where one of them was paid for: a race with a reorg or with another poster costs one transaction, and what costs a second one is none.
const PAID_TRIES: u32 = 2;

/// What the poster works with.
#[derive(Debug)]
pub(crate) struct Poster {
    pub(crate) target: Arc<dyn PostTarget>,
    /// Has the chain that batches are made of.
    pub(crate) executor: Arc<dyn Executor>,
    /// Tells which posted batches are valid.
    pub(crate) settlement: Arc<dyn Settlement>,
    /// In the order of preference; at least one.
    pub(crate) backends: Vec<Arc<dyn DaBackend>>,
    pub(crate) switch: Switch,
    /// The backend in use, for others to see.
    pub(crate) in_use: watch::Sender<DaKind>,
    pub(crate) outbox: Arc<Outbox>,
    /// Wei that posting may cost in a day.
    pub(crate) max_spend: Option<U256>,
    /// Whether batches are kept until their blobs are in the archive.
    pub(crate) archives: bool,
    pub(crate) halts: Arc<Halts>,
    pub(crate) metrics: DaMetrics,
    pub(crate) chain: BatchedChain,
    pub(crate) poll_interval: Duration,
    pub(crate) max_retry_interval: Duration,
    /// The batch whose posts failed in a row, and how often.
    pub(crate) failures: Failures,
    /// Batches that may be on their way to the contract at a time.
    pub(crate) max_in_flight: usize,
    /// Wei that those on their way may cost.
    pub(crate) flying_cost: U256,
    /// How long the contract still takes what waits, for others to see.
    pub(crate) window: watch::Sender<Option<Window>>,
    /// When that was last looked at.
    pub(crate) window_seen: Option<Instant>,
    /// How long before its end batches are closed.
    pub(crate) window_margin: Duration,
    /// Blocks that the contract takes no more, for others to see.
    pub(crate) refusal: watch::Sender<Option<Refusal>>,
    /// Where batches were closed again last, since the contract took them no more.
    pub(crate) closed_again: Option<Cursor>,
    /// The last batch that L1 was seen to hold, with the contract's hash of it.
    pub(crate) known: Option<(u64, B256)>,
}

/// Failed posts in a row.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    batch: u64,
    digest: B256,
    tries: u32,
    /// Whether one of them was paid for.
    paid: bool,
}

impl Failures {
    /// Counts one more.
    fn count(&mut self, number: u64, digest: B256, paid: bool) {
        if (self.batch, self.digest) != (number, digest) {
            *self = Self { batch: number, digest, ..Self::default() };
        }
        self.tries += 1;
        self.paid |= paid;
    }

    /// Whether an operator has to look.
    const fn are_enough(&self) -> bool {
        self.tries >= if self.paid { PAID_TRIES } else { TRIES }
    }
}

/// A batch that was put where it goes.
struct Submission {
    /// The backend's position.
    at: usize,
    prepared: Prepared,
    /// Whether the backend was chosen now.
    chosen: bool,
}

/// A batch whose post has its place.
struct Begun {
    posting: Posting,
    /// The backend's position.
    at: usize,
    /// Whether the backend was chosen now.
    chosen: bool,
}

/// A batch that leaves out what is overdue.
#[derive(Debug)]
pub(crate) struct OverdueBatch {
    entry: BatchEntry,
    outline: BatchOutline,
    /// How many entries of the queue a batch has to consume.
    due: u64,
}

/// Blocks that the contract takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of the batch that it was asked to take.
    digest: B256,
    pub(crate) blocks: RefusedBlocks,
}

/// A post that is over.
struct Ended {
    number: u64,
    at: usize,
    chosen: bool,
    outcome: Result<(), TxManagerError>,
}

/// Does some work while others are under way, and returns which of them ended meanwhile.
async fn alongside<T, F: Future>(
    work: impl Future<Output = T>,
    others: &mut FuturesUnordered<F>,
) -> (T, Vec<F::Output>) {
    let mut work = std::pin::pin!(work);
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            done = &mut work => return (done, ended),
            Some(other) = others.next() => ended.push(other),
        }
    }
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Posted a batch: there may be another one.
    Posted,
    /// There is nothing to do until something changes.
    Idle,
}

/// Why a step was not finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Something does not answer: try again.
    #[error(transparent)]
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// Somebody has to look: what happened and what to do. Tried again too, in case they did.
    #[error("{0}")]
    Halt(String),
    /// The contract holds other batches than were closed here.
    #[error("{0}")]
    Foreign(String),
    /// The contract takes the next batch no more, as it leaves out what is overdue in L1's queue.
    #[error("{}", reason::overdue(&.0.entry))]
    Overdue(Box<OverdueBatch>),
    /// The service cannot go on.
    #[error(transparent)]
    Run(#[from] DaAdapterRunError),
}

impl From<L1Error> for StepError {
    fn from(error: L1Error) -> Self {
        match error.class() {
            ErrorClass::Retryable => Self::Retry(Box::new(error)),
            ErrorClass::Caller | ErrorClass::Fatal => {
                Self::Halt(format!("{error}. Check the L1 node and the contract's address"))
            }
        }
    }
}

impl From<crate::outbox::OutboxError> for StepError {
    fn from(error: crate::outbox::OutboxError) -> Self {
        Self::Run(error.into())
    }
}

impl Poster {
    /// Runs until it is told to stop. A transaction that is in flight then is resumed after the
    /// next start.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DaAdapterRunError> {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(500).min(self.max_retry_interval))
            .with_max_delay(self.max_retry_interval)
            .with_jitter()
            .without_max_times();
        let mut pauses = backoff.build();
        let mut changed = self.outbox.watch();
        self.report_backends();
        loop {
            changed.mark_unchanged();
            // Also while L1 is away: the backlog grows then.
            self.report();
            let step = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                step = self.step() => step,
            };
            let pause = match step {
                Ok(step) => {
                    self.halts.set(Part::Posting, None);
                    pauses = backoff.build();
                    match step {
                        Step::Posted => continue,
                        Step::Idle => self.poll_interval,
                    }
                }
                Err(StepError::Run(error)) => return Err(error),
                Err(error) => {
                    self.metrics.post_retried();
                    if let StepError::Halt(reason) = &error {
                        self.halts.set(Part::Posting, Some(reason.clone()));
                    }
                    let pause = pauses.next().unwrap_or(self.max_retry_interval);
                    warn!(target: TARGET, %error, ?pause, "not posted; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => continue,
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Brings the outbox up to what the contract holds, and posts the next batch.
    pub(crate) async fn step(&mut self) -> Result<Step, StepError> {
        match self.step_on().await {
            Err(StepError::Foreign(why)) => self.rejoin(why).await,
            Err(StepError::Overdue(batch)) => self.close_again(*batch).await,
            stepped => stepped,
        }
    }

    async fn step_on(&mut self) -> Result<Step, StepError> {
        let Some(cursor) = self.outbox.cursor() else { return Ok(Step::Idle) };
        // Before anything else: whoever has taken over posts what this adapter does not know.
        self.check_epoch().await?;
        let count = self.target.batch_count().await?;
        self.sync(count.min(cursor.batch)).await?;
        if count > cursor.batch {
            return Err(StepError::Foreign(reason::unknown_batches(count, cursor.batch)));
        }
        self.look_at_window(count, cursor.deposits_end).await?;
        self.prune().await?;
        self.report();

        let next = count + 1;
        let Some(entry) = self.outbox.entry(next) else {
            self.not_refused();
            if next <= cursor.batch && !self.outbox.was_final(next)? {
                return Err(StepError::Foreign(reason::lost_foreign_batch(count, next)));
            }
            if next <= cursor.batch {
                return Err(StepError::Halt(reason::lost_final_batch(count, next)));
            }
            return Ok(Step::Idle);
        };
        if self.refusal.borrow().is_some_and(|refusal| refusal.digest != entry.digest) {
            self.not_refused();
        }
        self.post_from(entry).await?;
        let count = self.target.batch_count().await?;
        self.sync(count.min(cursor.batch)).await?;
        self.report();
        Ok(Step::Posted)
    }

    /// Whether L1 holds the deposits that the batch was built over.
    async fn check_deposits(&self, entry: &BatchEntry) -> Result<(), StepError> {
        let hash = self.target.deposit_accumulator(entry.deposits_end).await?;
        if hash == entry.deposits_hash {
            return Ok(());
        }
        if hash == B256::ZERO {
            let problem = format!(
                "L1 does not hold the {} deposits that batch {} was built over: it lags behind, or \
                 a reorg removed some; waiting for them",
                entry.deposits_end, entry.number
            );
            return Err(StepError::Retry(problem.into()));
        }
        Err(StepError::Retry(reason::replaced_deposits(entry, hash).into()))
    }

    /// Posts a batch, and those after it while there is room: each has its place before the next one follows.
    async fn post_from(&mut self, first: BatchEntry) -> Result<(), StepError> {
        let mut flying = FuturesUnordered::new();
        let mut waiting = BTreeSet::new();
        self.flying_cost = U256::ZERO;
        let mut next = Some(first);
        while let Some(entry) = next.take() {
            let (number, is_behind) = (entry.number, !waiting.is_empty());
            let (begun, ended) = alongside(self.begin(entry, is_behind), &mut flying).await;
            // When one has ended, what L1 holds is looked at before another one follows.
            let goes_on = ended.is_empty();
            for ended in ended {
                self.ended(ended, &mut waiting)?;
            }
            match begun {
                Ok(Begun { posting, at, chosen }) => {
                    let target = self.target.clone();
                    waiting.insert(number);
                    flying.push(async move {
                        let outcome = target.post(posting).await;
                        Ended { number, at, chosen, outcome }
                    });
                }
                Err(error) if is_behind => {
                    debug!(target: TARGET, batch = number, %error, "not posted behind the batches before it");
                    break;
                }
                Err(error) => return Err(error),
            }
            if goes_on && waiting.len() < self.max_in_flight {
                next = self.outbox.entry(number + 1);
            }
        }
        while let Some(ended) = flying.next().await {
            self.ended(ended, &mut waiting)?;
        }
        Ok(())
    }

    /// Takes note of how a post ended. One that failed while batches before it are still on their way is posted again after them.
    fn ended(&mut self, ended: Ended, waiting: &mut BTreeSet<u64>) -> Result<(), StepError> {
        let Ended { number, at, chosen, outcome } = ended;
        waiting.remove(&number);
        match outcome {
            Ok(()) => {
                if self.failures.batch == number {
                    self.failures = Failures::default();
                }
                if chosen {
                    self.switch.posted(at);
                }
                Ok(())
            }
            Err(error) if waiting.first().is_some_and(|lowest| *lowest < number) => {
                warn!(target: TARGET, batch = number, %error, "not posted behind the batches before it");
                if let TxManagerError::Reverted { fee_paid, .. } = &error {
                    self.outbox.spend(today(), *fee_paid)?;
                }
                Ok(())
            }
            Err(error) => Err(self.failed(number, error)),
        }
    }

    /// Puts a batch where it goes, and gives its post a place behind those that were begun before.
    async fn begin(&mut self, entry: BatchEntry, is_behind: bool) -> Result<Begun, StepError> {
        let number = entry.number;
        self.check_deposits(&entry).await?;
        let failures = &self.failures;
        let same = (failures.batch, failures.digest) == (number, entry.digest);
        if same && failures.paid && failures.are_enough() {
            return Err(StepError::Halt(reason::reverted_often(number)));
        }
        let (data, outline) = self.verified_data(&entry).await?;
        let request = SubmitRequest { number, digest: entry.digest, data };
        let Submission { at, prepared, chosen } = self.submit(request).await?;
        let da_kind = self.backends[at].kind();
        let header = BatchHeader {
            number,
            first_block: entry.first_block,
            last_block: entry.last_block,
            deposits_end: entry.deposits_end,
            deposits_hash: entry.deposits_hash,
            digest: entry.digest,
            da_kind,
        };
        let digest = hex::encode(&entry.digest[..8]);
        let pointer = hex::encode(&keccak256(&prepared.da_pointer)[..4]);
        let id = format!("post-{number}-{digest}-{}-{pointer}", da_kind.as_str());
        let Prepared { da_pointer, blobs } = prepared;
        let epoch = self.outbox.epoch();
        let posting = Posting { id, epoch, header, da_pointer, blobs, is_behind };
        match self.target.begin(&posting).await {
            Ok(()) => Ok(Begun { posting, at, chosen }),
            Err(error) if is_behind => Err(StepError::Retry(Box::new(error))),
            Err(error) => {
                if matches!(error, TxManagerError::WouldRevert { .. })
                    && let Some(due) = self.overdue(&entry).await?
                {
                    let batch = OverdueBatch { entry, outline, due };
                    return Err(StepError::Overdue(Box::new(batch)));
                }
                Err(self.failed(number, error))
            }
        }
    }

    /// What a batch of the outbox is known by.
    fn digest(&self, number: u64) -> B256 {
        self.outbox.entry(number).map_or(B256::ZERO, |entry| entry.digest)
    }

    /// What a failed post means.
    fn failed(&mut self, number: u64, error: TxManagerError) -> StepError {
        match error {
            TxManagerError::L1(error) => error.into(),
            error if error.class() == ErrorClass::Fatal => {
                StepError::Run(DaAdapterRunError::Transactions(Box::new(error)))
            }
            TxManagerError::Sign(error) if error.class() == ErrorClass::Retryable => {
                StepError::Retry(Box::new(error))
            }
            error @ TxManagerError::Blocked { .. } => StepError::Retry(Box::new(error)),
            TxManagerError::Sign(error) => {
                StepError::Halt(format!("{error}. Check [keys] batcher and the signing service"))
            }
            TxManagerError::InsufficientBalance { .. } => {
                StepError::Halt(format!("{error}. Fund the batcher's account on L1"))
            }
            error => {
                // A race with a reorg or a lagging node looks the same at first.
                let paid = match &error {
                    TxManagerError::Reverted { fee_paid, .. } => Some(*fee_paid),
                    _ => None,
                };
                self.failures.count(number, self.digest(number), paid.is_some());
                if let Some(Err(error)) = paid.map(|paid| self.outbox.spend(today(), paid)) {
                    return error.into();
                }
                if !self.failures.are_enough() {
                    return StepError::Retry(Box::new(error));
                }
                StepError::Halt(reason::cannot_be_posted(number, &error))
            }
        }
    }

    /// The batch's bytes, read again as everybody else will: nobody pays for a batch that
    /// derivation skips.
    async fn verified_data(&self, entry: &BatchEntry) -> Result<(Bytes, BatchOutline), StepError> {
        let (outbox, entry, chain) = (self.outbox.clone(), *entry, self.chain);
        let number = entry.number;
        let checked = tokio::task::spawn_blocking(move || {
            let damaged =
                |problem: &str| DaAdapterRunError::Damaged { number, problem: problem.to_owned() };
            let data = outbox.data(number)?.ok_or_else(|| damaged("its bytes are missing"))?;
            if batch_digest(&data) != entry.digest {
                return Err(damaged("its bytes have another digest"));
            }
            let batch = chain.decode(number, &data)?.outline();
            if batch.chain_id != chain.id
                || (batch.first_block, batch.last_block) != (entry.first_block, entry.last_block)
                || batch.deposits_end != entry.deposits_end
            {
                return Err(damaged("its bytes are another batch"));
            }
            Ok((data, batch))
        });
        match checked.await.map_err(DaAdapterRunError::Worker)? {
            // Its bytes went with it.
            Err(_) if self.outbox.entry(number).is_none_or(|now| now.digest != entry.digest) => {
                Err(taken_back(number))
            }
            checked => Ok(checked?),
        }
    }

    fn report(&self) {
        if let Some(window) = *self.window.borrow() {
            self.metrics.window(window.left(Instant::now()));
        }
        self.metrics.spent_today(self.outbox.spent_on(today()));
        let summary = self.outbox.summary();
        self.metrics.posted_head(summary.posted, summary.posted_block);
        self.metrics.backlog(summary.backlog_batches, summary.backlog_bytes);
    }
}

/// A batch was taken back while it was being posted.
fn taken_back(number: u64) -> StepError {
    StepError::Retry(format!("batch {number} was taken back, as its blocks were").into())
}

/// Days since the Unix epoch.
fn today() -> u64 {
    unix_millis() / 86_400_000
}

#[cfg(test)]
mod tests;
