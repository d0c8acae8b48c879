//! Derives every posted batch from the bytes that DA gives back, executes it, and compares it with the sequencer's chain.

mod judge;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, Bytes},
};
use millrace_proto::{
    BlockSelector, DaReadError, DaReader, ErrorClass, Executor, ExecutorError, PostedBatch,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    SettlementConfig,
    derivation::{Derivation, DerivationHead, DeriveError, QueuedDeposits, SkipReason},
    error::SettlementRunError,
    execution::{ExecutedBatch, ExecutionError, ReplayWorker, execute_batch},
    halt::HaltReason,
    retry::{self, Backoff, Stopping},
    shared::{Shared, Stalled, Unmatched},
    store::{Outcome, Recorded, VerifiedBatch},
    watcher::check_commitment,
};

/// How often it is looked whether the sequencer has what was verified before.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The task that verifies.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) config: SettlementConfig,
    pub(crate) shared: Shared,
    pub(crate) derivation: Derivation,
    pub(crate) genesis: DerivationHead,
    pub(crate) reader: Arc<dyn DaReader>,
    /// The sequencer's, if there is one to compare with.
    pub(crate) executor: Option<Arc<dyn Executor>>,
    pub(crate) replay: ReplayWorker,
}

/// Why verifying a batch broke off.
#[derive(Debug)]
enum Broke {
    /// An L1 reorg took the batch away or replaced it.
    Outdated,
    /// The service stops.
    Stopping,
    Halt(HaltReason),
    Failed(SettlementRunError),
}

impl<E: Into<SettlementRunError>> From<E> for Broke {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Stopping> for Broke {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl Verifier {
    /// Verifies batch after batch until the service stops or halts.
    ///
    /// # Errors
    /// When the store, the replayed chain, or the executor fails for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), SettlementRunError> {
        let ended = tokio::select! {
            verified = self.verify_all(&stop) => verified,
            watched = self.watch_sequencer() => watched,
        };
        let closed = self.replay.close().await;
        ended?;
        Ok(closed?)
    }

    /// Looks again and again whether the sequencer has what is verified: it may lose it, or leave it for what its own L1 node shows. Its not answering is waited for.
    async fn watch_sequencer(&self) -> Result<(), SettlementRunError> {
        let Some(sequencer) = &self.executor else {
            return std::future::pending().await;
        };
        let mut differs_since = None;
        loop {
            let last = self.shared.store.last_verified(None)?;
            match last.map(|verified| verified.head().block()) {
                Some(end) => {
                    let at = BlockSelector::Number(end.number);
                    if let Ok(header) = sequencer.header(at).await {
                        let other = header.map(|header| header.seal());
                        let has = other == Some(end.hash);
                        if self.derivation.knows_blocks() {
                            self.shared.unmatched(Unmatched::Verified, (!has).then_some(end))?;
                        } else {
                            // Nobody can take it over.
                            let other = other.filter(|_| !has);
                            self.stands_against(end, other, &mut differs_since)?;
                        }
                    }
                }
                None => self.shared.unmatched(Unmatched::Verified, None)?,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The sequencer has another block, if it has, at the end of what was verified. Says so when that lasts.
    fn stands_against(
        &self,
        end: BlockNumHash,
        other: Option<B256>,
        since: &mut Option<Instant>,
    ) -> Result<(), SettlementRunError> {
        let Some(other) = other else {
            *since = None;
            return Ok(self.shared.stall(Stalled::Watching, None)?);
        };
        if since.get_or_insert_with(Instant::now).elapsed() >= self.config.retry_max {
            let BlockNumHash { number: block, hash: derived } = end;
            let differs = SequencerDiffers { block, derived, sequencer: Some(other) };
            self.shared.stall(Stalled::Watching, Some(differs.to_string()))?;
        }
        Ok(())
    }

    async fn verify_all(&self, stop: &CancellationToken) -> Result<(), SettlementRunError> {
        let mut revisions = self.shared.revisions();
        loop {
            if stop.is_cancelled() {
                return Ok(());
            }
            if self.shared.is_halted() {
                stop.cancelled().await;
                return Ok(());
            }
            revisions.mark_unchanged();
            let next = self.shared.store.last_outcome()? + 1;
            let Some(posted) = self.shared.store.posted(next)? else {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = revisions.changed() => continue,
                }
            };
            match self.verify(&posted, stop).await {
                Ok(()) => {}
                Err(Broke::Outdated) => {
                    info!(target: "millrace::settlement", batch = next, "L1 took the batch back while it was verified");
                }
                Err(Broke::Stopping) => return Ok(()),
                Err(Broke::Halt(reason)) => self.shared.halt(reason)?,
                Err(Broke::Failed(error)) => return Err(error),
            }
        }
    }

    async fn verify(&self, posted: &PostedBatch, stop: &CancellationToken) -> Result<(), Broke> {
        let started = Instant::now();
        let number = posted.header.number;
        let head = self
            .shared
            .store
            .last_verified(number.checked_sub(1))?
            .map_or(self.genesis, |verified| verified.head());
        let outcome = match self.outcome(head, posted, stop).await {
            Ok(executed) => {
                self.compare(&executed, posted, stop).await?;
                Outcome::Verified(VerifiedBatch::new(posted, &executed))
            }
            Err(Attempt::Skip(reason)) => {
                warn!(target: "millrace::settlement", batch = number, reason = reason.as_str(), %reason, "a posted batch is invalid; skipped");
                Outcome::Skipped(reason.to_string())
            }
            Err(Attempt::Broke(broke)) => return Err(broke),
        };
        if self.shared.store.record(number, posted.batch_hash, &outcome)? == Recorded::Outdated {
            return Err(Broke::Outdated);
        }
        match &outcome {
            Outcome::Verified(verified) => {
                let seconds = started.elapsed().as_secs_f64();
                self.shared.metrics.verify_seconds.record(seconds);
                self.shared.metrics.verified_transactions_total.increment(verified.transactions);
                info!(
                    target: "millrace::settlement",
                    batch = number,
                    first_block = verified.first_block,
                    last_block = verified.last_block,
                    transactions = verified.transactions,
                    seconds,
                    "batch verified"
                );
            }
            Outcome::Skipped(_) => self.shared.metrics.skipped_batches_total.increment(1),
        }
        if let Some(commitment) = self.shared.store.commitment(number)? {
            check_commitment(&self.shared, &outcome, &commitment)?;
        }
        Ok(self.shared.refresh(None)?)
    }

    /// Derives and executes a batch.
    async fn outcome(
        &self,
        head: DerivationHead,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<ExecutedBatch, Attempt> {
        self.derivation.join(&head, &posted.header).map_err(Attempt::Skip)?;
        let bytes = self.read(posted, stop).await?;
        let (before, entries) =
            self.shared.store.deposits(head.deposits_end, posted.header.deposits_end)?;
        let deposits = QueuedDeposits { before, entries };
        let (derivation, batch, stopping) = (self.derivation, posted.clone(), stop.clone());
        let inputs = (bytes, deposits);
        let (bytes, deposits) = inputs.clone();
        let worked = self
            .replay
            .run(move |replay| -> Result<ExecutedBatch, WorkError> {
                let derived = derivation.derive(&head, &batch, &bytes, &deposits)?;
                Ok(execute_batch(replay, derived, &stopping)?)
            })
            .await?;
        let error = match worked {
            Ok(executed) => return Ok(executed),
            Err(error) => error,
        };
        match error {
            WorkError::Derive(DeriveError::Skip(reason)) => return Err(Attempt::Skip(reason)),
            WorkError::Execute(source) if source.is_verdict() => {
                return Err(self.judge(head, posted, inputs, source, stop).await);
            }
            _ => {}
        }
        // The deposits may have been read after a reorg that the batch was not.
        self.still(posted)?;
        Err(Attempt::Broke(match error {
            WorkError::Derive(source) => {
                Broke::Halt(HaltReason::L1View { batch: posted.header.number, source })
            }
            WorkError::Execute(ExecutionError::Stopped { .. }) => Broke::Stopping,
            WorkError::Execute(ExecutionError::Failed { source, .. }) => {
                Broke::Failed(SettlementRunError::Replay(source))
            }
            WorkError::Execute(source) => Broke::Halt(HaltReason::Execution(source)),
        }))
    }

    /// Reads the bytes, for as long as it takes.
    async fn read(&self, posted: &PostedBatch, stop: &CancellationToken) -> Result<Bytes, Attempt> {
        let mut backoff = Backoff::new(&self.config);
        loop {
            let Some(read) = stop.run_until_cancelled(self.reader.read(posted)).await else {
                return Err(Stopping.into());
            };
            let error = match read {
                Ok(bytes) => {
                    self.shared.stall(Stalled::Reading, None)?;
                    return Ok(bytes);
                }
                Err(DaReadError::Invalid { problem, .. }) => {
                    return Err(Attempt::Skip(SkipReason::Unreadable(problem)));
                }
                Err(error @ DaReadError::NoReader { .. }) => {
                    return Err(Broke::Halt(HaltReason::NoReader(error)).into());
                }
                Err(error) => error,
            };
            self.shared.metrics.da_read_failures_total.increment(1);
            if retry::is_lasting(&error) {
                self.shared
                    .stall(Stalled::Reading, Some(format!("{error}; check the beacon URL")))?;
            }
            self.pause(posted, &mut backoff, stop, "cannot read a batch's bytes", &error).await?;
        }
    }

    /// Compares the executed blocks with the sequencer's, until it has them: what L1 holds is the chain, and the sequencer takes over what it has otherwise.
    async fn compare(
        &self,
        executed: &ExecutedBatch,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<(), Broke> {
        let Some(sequencer) = &self.executor else { return Ok(()) };
        let compared = self.compare_until_same(sequencer, executed, posted, stop).await;
        self.shared.unmatched(Unmatched::Next, None)?;
        self.shared.stall(Stalled::Comparing, None)?;
        compared
    }

    async fn compare_until_same(
        &self,
        sequencer: &Arc<dyn Executor>,
        executed: &ExecutedBatch,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<(), Broke> {
        let mut backoff = Backoff::new(&self.config);
        let mut differs_since = None;
        loop {
            let looking = stop.run_until_cancelled(self.difference(sequencer, executed));
            let differs = match looking.await.ok_or(Stopping)? {
                Ok(None) => return Ok(()),
                Ok(Some(differs)) => differs,
                Err(error) if error.class() == ErrorClass::Retryable => {
                    self.pause(posted, &mut backoff, stop, "cannot ask the executor", &error)
                        .await?;
                    continue;
                }
                Err(error) => return Err(Broke::Failed(SettlementRunError::Executor(error))),
            };
            if self.derivation.knows_blocks() {
                self.shared.unmatched(Unmatched::Next, Some(executed.head.block()))?;
            }
            if differs.sequencer.is_some() {
                let since = *differs_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.config.retry_max {
                    self.shared.stall(Stalled::Comparing, Some(differs.to_string()))?;
                }
            }
            self.still(posted)?;
            retry::sleep(stop, self.config.executor_poll).await?;
            self.still(posted)?;
        }
    }

    /// The first block of a batch that the sequencer does not have. A block's hash covers its parent's, so the last one stands for all.
    async fn difference(
        &self,
        sequencer: &Arc<dyn Executor>,
        executed: &ExecutedBatch,
    ) -> Result<Option<SequencerDiffers>, ExecutorError> {
        let hash = async |number| {
            let header = sequencer.header(BlockSelector::Number(number)).await?;
            Ok::<_, ExecutorError>(header.map(|header| header.seal()))
        };
        let BlockNumHash { number: last, hash: derived } = executed.head.block();
        match hash(last).await? {
            Some(hash) if hash == derived => return Ok(None),
            Some(_) => {}
            // It may have others as far as it comes.
            None => {
                let head = sequencer.head().await?;
                let at = executed.known.iter().find(|known| known.number == head.number);
                let other = at.filter(|known| known.hash != head.seal());
                return Ok(Some(match other {
                    Some(known) => SequencerDiffers {
                        block: known.number,
                        derived: known.hash,
                        sequencer: Some(head.seal()),
                    },
                    None => SequencerDiffers { block: last, derived, sequencer: None },
                }));
            }
        }
        for BlockNumHash { number: block, hash: derived } in executed.known.iter().copied() {
            let sequencer = hash(block).await?;
            if sequencer != Some(derived) {
                return Ok(Some(SequencerDiffers { block, derived, sequencer }));
            }
        }
        // The sequencer's chain changed while it was compared: it is looked at again.
        Ok(Some(SequencerDiffers { block: last, derived, sequencer: None }))
    }

    /// Hash of a block of the sequencer's chain, for as long as it takes the sequencer to have it.
    async fn sequencer_hash(
        &self,
        sequencer: &Arc<dyn Executor>,
        number: u64,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<B256, Broke> {
        let ask = || sequencer.header(BlockSelector::Number(number));
        self.asked(ask, posted, stop).await.map(|header| header.seal())
    }

    /// What the sequencer's executor answers, for as long as it takes the sequencer to have it.
    async fn asked<T, F>(
        &self,
        ask: impl Fn() -> F,
        posted: &PostedBatch,
        stop: &CancellationToken,
    ) -> Result<T, Broke>
    where
        F: Future<Output = Result<Option<T>, ExecutorError>>,
    {
        let mut backoff = Backoff::new(&self.config);
        loop {
            let Some(answer) = stop.run_until_cancelled(ask()).await else {
                return Err(Broke::Stopping);
            };
            match answer {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {
                    self.still(posted)?;
                    retry::sleep(stop, self.config.executor_poll).await?;
                }
                Err(error) if error.class() == ErrorClass::Retryable => {
                    self.pause(posted, &mut backoff, stop, "cannot ask the executor", &error)
                        .await?;
                }
                Err(error) => return Err(Broke::Failed(SettlementRunError::Executor(error))),
            }
        }
    }

    /// Pauses before another try, unless the service stops or L1 took the batch back.
    async fn pause(
        &self,
        posted: &PostedBatch,
        backoff: &mut Backoff,
        stop: &CancellationToken,
        what: &'static str,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), Broke> {
        self.still(posted)?;
        let pause = backoff.pause();
        self.shared.metrics.retries_total.increment(1);
        warn!(target: "millrace::settlement", batch = posted.header.number, %error, ?pause, "{what}; trying again");
        let mut revisions = self.shared.revisions();
        tokio::select! {
            slept = retry::sleep(stop, pause) => slept?,
            _ = revisions.wait_for(|_| self.still(posted).is_err()) => {}
        }
        self.still(posted)
    }

    /// Whether L1 still shows the batch, and where it was: its blobs are asked for by their L1 block.
    fn still(&self, posted: &PostedBatch) -> Result<(), Broke> {
        let current = self.shared.store.posted(posted.header.number)?;
        if current.is_some_and(|current| {
            current.batch_hash == posted.batch_hash && current.l1 == posted.l1
        }) {
            Ok(())
        } else {
            Err(Broke::Outdated)
        }
    }
}

/// The sequencer does not have what is derived from L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "block {block} is {derived} as derived from L1 and {} at the sequencer, which should have taken over what L1 holds: see its log, or halt it and compare the two chains",
    sequencer.map_or_else(|| "missing".to_owned(), |hash| hash.to_string())
)]
struct SequencerDiffers {
    /// A block that differs: the first, where the sequencer's chain is as long.
    block: u64,
    derived: B256,
    sequencer: Option<B256>,
}

/// Why a batch gave no executed blocks.
#[derive(Debug)]
enum Attempt {
    Skip(SkipReason),
    Broke(Broke),
}

impl<E: Into<Broke>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Broke(error.into())
    }
}

/// Why the work on the replay thread failed.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Derive(#[from] DeriveError),
    #[error(transparent)]
    Execute(#[from] ExecutionError),
}
