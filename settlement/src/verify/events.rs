//! Checking the contract's events one after another.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use alloy::primitives::{B256, Bytes};
use backon::{ExponentialBuilder, Retryable};
use millrace_l1::RollupEvent;
use millrace_proto::{BatchPoint, Commitment, DaReadError, DaReader, PostedBatch, QueueEntry};
use tokio::{sync::Mutex, task::JoinError};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;

use super::{Difference, SkippedBatch, VerifyError};
use crate::{
    derivation::{
        Derivation, DerivationHead, DeriveError, PreparedBatch, QueuedDeposits, SkipReason,
        batch_hash,
    },
    execution::{ExecutedBatch, ExecutionError, ReplayWorker, execute_batch},
    finality, retry,
    store::{L1Point, VerifiedBatch},
};

/// The chain rebuilt so far, and all that later events are checked against.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) derivation: Derivation,
    pub(super) reader: Arc<dyn DaReader>,
    pub(super) replay: ReplayWorker,
    /// L1's last finalized block, at which finality is judged.
    pub(super) finalized_at: Option<L1Point>,
    pub(super) head: DerivationHead,
    pub(super) state: Progress,
    /// The next batch, while the last one is executed.
    pub(super) ahead: Option<Ahead>,
    /// Held while a batch is decoded.
    pub(super) preparing: Arc<Mutex<()>>,
}

/// A batch that is read and prepared beside what else is done: its bytes, decoded, and the senders of its transactions. Given up when dropped; what is being
/// decoded then is decoded to its end, and nothing else meanwhile.
#[derive(Debug)]
pub(super) struct Ahead {
    batch: PostedBatch,
    task: AbortOnDropHandle<Result<Result<PreparedBatch, DaReadError>, JoinError>>,
}

impl Ahead {
    fn is_of(&self, batch: &PostedBatch) -> bool {
        self.batch == *batch
    }

    async fn ready(self) -> Result<Result<PreparedBatch, DaReadError>, VerifyError> {
        self.task.await.and_then(|prepared| prepared).map_err(VerifyError::Prepare)
    }
}

/// What the events have brought so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) blocks: u64,
    pub(super) transactions: u64,
    /// The last posted batch, and the contract's hash of it.
    pub(super) batches: u64,
    batch_hash: B256,
    /// Deposits queued, and the accumulator over them.
    pub(super) deposits: u64,
    accumulator: B256,
    /// Deposits that the chain has not consumed, and the accumulator before them.
    waiting: VecDeque<QueueEntry>,
    consumed: B256,
    pub(super) skipped: Vec<SkippedBatch>,
    verified: BTreeMap<u64, VerifiedBatch>,
    /// Commitments that stand.
    pub(super) commitments: BTreeMap<u64, Commitment>,
    /// Of those, the ones that are wrong.
    wrong: BTreeMap<u64, Difference>,
}

impl Progress {
    /// The chained hash of all posted batches.
    pub(super) const fn batch_hash(&self) -> B256 {
        self.batch_hash
    }

    /// The chained hash of the queue.
    pub(super) const fn accumulator(&self) -> B256 {
        self.accumulator
    }

    /// What is wrong with the first wrong commitment that stands.
    pub(super) fn wrong_commitment(&mut self) -> Option<Difference> {
        self.wrong.pop_first().map(|(_, difference)| difference)
    }
}

impl Rebuilt {
    /// Checks the next event. `after`: the batch that is posted next, if that is known: it is read and prepared meanwhile.
    pub(super) async fn event(
        &mut self,
        event: RollupEvent,
        after: Option<&PostedBatch>,
    ) -> Result<(), VerifyError> {
        match event {
            RollupEvent::Queued { entry, accumulator, .. } => self.queued(entry, accumulator)?,
            RollupEvent::Posted(batch) => self.posted(&batch, after).await?,
            RollupEvent::Committed(commitment) => self.committed(commitment),
            RollupEvent::CommitmentsReverted { from, .. } => {
                self.state.commitments.split_off(&from);
                self.state.wrong.split_off(&from);
            }
        }
        Ok(())
    }

    fn queued(&mut self, entry: QueueEntry, stated: B256) -> Result<(), Difference> {
        let state = &mut self.state;
        let at = format_args!("deposit {}", state.deposits).to_string();
        if entry.index() != state.deposits {
            return Err(Difference::new("index", at, state.deposits, entry.index()));
        }
        let computed = entry.accumulate(state.accumulator);
        if computed != stated {
            return Err(Difference::new("accumulator", at, computed, stated));
        }
        state.accumulator = computed;
        state.deposits += 1;
        state.waiting.push_back(entry);
        Ok(())
    }

    async fn posted(
        &mut self,
        batch: &PostedBatch,
        after: Option<&PostedBatch>,
    ) -> Result<(), VerifyError> {
        let number = batch.header.number;
        let at = format!("batch {number}");
        let expected = self.state.batches + 1;
        if number != expected {
            return Err(Difference::new("number", at, expected, number).into());
        }
        let computed = batch_hash(self.state.batch_hash, batch);
        if computed != batch.batch_hash {
            return Err(Difference::new("batch hash", at, computed, batch.batch_hash).into());
        }
        self.state.batches = number;
        self.state.batch_hash = computed;
        match self.execute(batch, after).await {
            Ok(executed) => self.executed(batch, &executed),
            Err(BatchError::Skip(reason)) => {
                let reason = reason.to_string();
                warn!(target: "millrace::settlement", batch = number, %reason, "a posted batch is invalid; skipped");
                self.state.skipped.push(SkippedBatch { number, reason });
            }
            Err(BatchError::Failed(error)) => return Err(error),
        }
        Ok(())
    }

    async fn execute(
        &mut self,
        batch: &PostedBatch,
        after: Option<&PostedBatch>,
    ) -> Result<ExecutedBatch, BatchError> {
        let head = self.head;
        let ahead = self.ahead.take();
        self.derivation.join(&head, &batch.header)?;
        let prepared = match self.prepared(batch, ahead.filter(|ahead| ahead.is_of(batch))).await? {
            Ok(prepared) => prepared,
            Err(DaReadError::Invalid { problem, .. }) => {
                return Err(SkipReason::Unreadable(problem).into());
            }
            Err(error) => return Err(BatchError::Failed(error.into())),
        };
        // One that cannot follow this one is not read, as it would not be in its turn.
        let follows = |after: &&PostedBatch| {
            after.header.first_block == batch.header.last_block.saturating_add(1)
                && after.header.deposits_end >= batch.header.deposits_end
        };
        self.ahead = after.filter(follows).map(|after| self.start(after));
        let count = usize::try_from(batch.header.deposits_end.saturating_sub(head.deposits_end))
            .unwrap_or(usize::MAX);
        let deposits = QueuedDeposits {
            before: self.state.consumed,
            entries: self.state.waiting.iter().take(count).cloned().collect(),
        };
        let (derivation, batch) = (self.derivation, batch.clone());
        self.replay
            .run(move |replay| {
                let derived = derivation.finish(&head, &batch, prepared, &deposits)?;
                Ok(execute_batch(replay, derived, &CancellationToken::new())?)
            })
            .await
            .map_err(VerifyError::from)?
    }

    /// Begins to read and prepare a batch.
    fn start(&self, batch: &PostedBatch) -> Ahead {
        let (derivation, reader) = (self.derivation, Arc::clone(&self.reader));
        let (posted, preparing) = (batch.clone(), Arc::clone(&self.preparing));
        let task = tokio::spawn(async move {
            let bytes = match read(&reader, &posted).await {
                Ok(bytes) => bytes,
                Err(error) => return Ok(Err(error)),
            };
            let turn = preparing.lock_owned().await;
            let prepare = move || {
                let _turn = turn;
                derivation.prepare(&posted.header, &bytes)
            };
            tokio::task::spawn_blocking(prepare).await.map(Ok)
        });
        Ahead { batch: batch.clone(), task: AbortOnDropHandle::new(task) }
    }

    /// The batch, prepared: ahead, if it was, or now. What could not be read ahead is tried once more.
    async fn prepared(
        &self,
        batch: &PostedBatch,
        ahead: Option<Ahead>,
    ) -> Result<Result<PreparedBatch, DaReadError>, VerifyError> {
        if let Some(ahead) = ahead {
            match ahead.ready().await? {
                Err(error) if !matches!(error, DaReadError::Invalid { .. }) => {
                    warn!(target: "millrace::settlement", batch = batch.header.number, %error, "could not read a batch ahead of its turn; trying again");
                }
                prepared => return Ok(prepared),
            }
        }
        self.start(batch).ready().await
    }

    fn executed(&mut self, batch: &PostedBatch, executed: &ExecutedBatch) {
        let state = &mut self.state;
        let consumed = executed.head.deposits_end.saturating_sub(self.head.deposits_end);
        for _ in 0..consumed {
            state.waiting.pop_front();
        }
        state.consumed = batch.header.deposits_hash;
        state.blocks += executed.blocks;
        state.transactions += executed.transactions;
        state.verified.insert(batch.header.number, VerifiedBatch::new(batch, executed));
        self.head = executed.head;
    }

    fn committed(&mut self, commitment: Commitment) {
        let number = commitment.batch;
        let at = format!("the commitment of batch {number}");
        let difference = match self.state.verified.get(&number) {
            Some(verified) => verified
                .difference(&commitment)
                .map(|(what, expected, got)| Difference::new(what, at, expected, got)),
            None => Some(Difference::new("batch", at, "a valid batch", "none")),
        };
        self.state.commitments.insert(number, commitment);
        match difference {
            Some(difference) => {
                self.state.wrong.insert(number, difference);
            }
            None => {
                self.state.wrong.remove(&number);
            }
        }
    }

    /// The last commitment that is final. To be asked at the end: a later event could have reverted it.
    pub(super) fn finalized(&self) -> Option<BatchPoint> {
        let finalized_at = self.finalized_at?;
        self.state
            .commitments
            .values()
            .rev()
            .find(|commitment| finality::is_final(commitment, finalized_at))
            .map(|commitment| BatchPoint {
                batch: commitment.batch,
                last_block: commitment.last_block,
                last_block_hash: Some(commitment.last_block_hash),
            })
    }
}

/// Reads a batch's bytes, with patience for a DA layer that is busy.
async fn read(reader: &Arc<dyn DaReader>, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
    let backoff = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(8)
        .with_jitter();
    (|| reader.read(batch))
        .retry(backoff)
        .when(|error| !retry::is_lasting(error))
        .notify(|error, pause| {
            warn!(target: "millrace::settlement", %error, ?pause, "cannot read a batch's bytes; trying again");
        })
        .await
}

/// Why a batch gave no blocks.
#[derive(Debug)]
enum BatchError {
    Skip(SkipReason),
    Failed(VerifyError),
}

impl From<SkipReason> for BatchError {
    fn from(reason: SkipReason) -> Self {
        Self::Skip(reason)
    }
}

impl From<VerifyError> for BatchError {
    fn from(error: VerifyError) -> Self {
        Self::Failed(error)
    }
}

impl From<ExecutionError> for BatchError {
    fn from(error: ExecutionError) -> Self {
        if error.is_verdict() {
            return Self::Skip(SkipReason::Execution(error.to_string()));
        }
        Self::Failed(error.into())
    }
}

impl From<DeriveError> for BatchError {
    fn from(error: DeriveError) -> Self {
        match error {
            DeriveError::Skip(reason) => Self::Skip(reason),
            DeriveError::Deposits { deposits_end, posted, computed } => {
                let at = format!("the queue at deposit {deposits_end}");
                Self::Failed(Difference::new("accumulator", at, posted, computed).into())
            }
        }
    }
}
