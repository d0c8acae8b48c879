//! Sealing a block: it is closed, which gives its hash, and then stored beside the next one. Once it is stored, everyone is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::primitives::B256;
use millrace_proto::{BlockBuild, ExecutedBlock, ExecutorError, SealedHeader, StateDiff};
use tokio::{task::JoinError, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{Builder, FIRST_RETRY, OpenBlock, persist::Batch};
use crate::{
    SequencerRunError,
    log::{BlockTimes, LogError, Record},
    pool::{Loaded, load_accounts},
    replay::{Brought, LeftOut, LoggedBlock},
};

/// A block that is closed, in the log as sealed, and on its way into the executor's store.
#[derive(Debug)]
pub(super) struct Storing {
    /// Its inputs, to build it again if the executor loses it.
    block: LoggedBlock,
    parent: SealedHeader,
    sealed: Arc<ExecutedBlock>,
    times: BlockTimes,
    /// Since the block before was closed.
    interval: Option<Duration>,
    started: Instant,
    /// It is over, or about to be.
    is_over: Arc<AtomicBool>,
    task: AbortOnDropHandle<Result<(), Unstored>>,
}

/// Why a closed block is not stored.
#[derive(Debug)]
enum Unstored {
    /// The log does not have its frames, and never will.
    Log(Arc<LogError>),
    Executor(ExecutorError),
}

impl Builder {
    /// Closes the open block, and has it stored once all its frames are on disk. What was closed before is stored then.
    pub(super) async fn seal(&mut self) -> Result<(), SequencerRunError> {
        self.stored().await?;
        let Some(OpenBlock { block, mut build, deadline, left_out, .. }) = self.open.take() else {
            return Ok(());
        };
        let started = Instant::now();
        let parent = self.head.clone();
        let (sealed, build) = match self.busy(build.close()).await? {
            Ok(sealed) => (sealed, Some(build)),
            Err(error) => {
                drop(build);
                let durable = self.writer.durable();
                self.busy(durable).await?.map_err(SequencerRunError::Log)?;
                (self.seal_again(&block, &parent, None, error).await?, None)
            }
        };
        let interval = self.sealed_any.then(|| self.last_sealed.elapsed());
        self.last_sealed = Instant::now();
        self.sealed_any = true;
        self.last_deadline = deadline;
        self.queue = block.opened.queued.mark;
        self.head = sealed.header.clone();

        let is_over = Arc::<AtomicBool>::default();
        let (durable, shared, over) = (self.writer.durable(), self.shared.clone(), is_over.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let stored = store(durable, build).await;
            over.store(true, Ordering::Release);
            shared.work.notify_one();
            stored
        }));
        let times = self.note_sealed(&sealed, left_out).await;
        self.storing =
            Some(Storing { block, parent, sealed, times, interval, started, is_over, task });
        Ok(())
    }

    /// Writes that a block is sealed, and what of its frames it does not include. Returns the times that it wrote.
    async fn note_sealed(&mut self, sealed: &ExecutedBlock, left_out: LeftOut) -> BlockTimes {
        let sealed_at = self.shared.wall();
        // The block's drops are in the same write: its record alone would say that they are included.
        let (batch, returned, accepted_at) = {
            let mut pool = self.shared.ledger.pool.lock();
            let LeftOut { mut returned, dropped } = left_out;
            // What was dropped and has been submitted again since waits like what was returned.
            returned.extend(dropped.into_keys().filter(|hash| pool.holds(*hash)));
            let batch = Batch::take(&mut pool, None, sealed_at);
            (batch, returned, pool.accepted_at(sealed))
        };
        let (number, hash) = (sealed.number(), sealed.hash());
        let returned = returned.into_iter().collect();
        let times = BlockTimes { sealed_at: Some(sealed_at), accepted_at };
        let record = Record::BlockSealed { number, hash, returned, times: times.clone() };
        self.write_after(vec![record], batch).await;
        times
    }

    /// Whether a block was being stored, and that is over.
    pub(super) fn has_stored(&self) -> bool {
        self.storing.as_ref().is_some_and(|storing| storing.is_over.load(Ordering::Acquire))
    }

    /// Waits until the last block is stored, however often that takes, and tells everyone.
    pub(super) async fn stored(&mut self) -> Result<(), SequencerRunError> {
        let Some(storing) = self.storing.take() else { return Ok(()) };
        let Storing { block, parent, sealed, times, interval, started, is_over: _, task } = storing;
        let number = sealed.number();
        let stored = self.busy(task).await?;
        let task = |source: JoinError| SequencerRunError::Task { name: "store", source };
        let sealed = match stored.map_err(task)? {
            Ok(()) => {
                self.answered();
                sealed
            }
            Err(Unstored::Log(error)) => return Err(SequencerRunError::Log(error)),
            Err(Unstored::Executor(error)) => {
                self.seal_again(&block, &parent, Some(sealed.hash()), error).await?
            }
        };
        self.shared.metrics.seal_seconds.record(started.elapsed());
        self.publish(sealed, times, interval).await?;
        self.checkpoint(number).await
    }

    /// Sealing failed, or its reply was lost: finds out which, and seals the block again if it is not there.
    async fn seal_again(
        &mut self,
        block: &LoggedBlock,
        parent: &SealedHeader,
        expected: Option<B256>,
        error: ExecutorError,
    ) -> Result<Arc<ExecutedBlock>, SequencerRunError> {
        let number = block.opened.number;
        let mut delay = FIRST_RETRY;
        let mut error = error;
        loop {
            self.before_retry(number, error, &mut delay).await?;
            let shared = self.shared.clone();
            let brought = block.bring(&*shared.executor, &shared.spec, parent, expected);
            error = match self.busy(brought).await? {
                Ok(Brought::Sealed(sealed, _)) => {
                    self.answered();
                    return Ok(sealed);
                }
                Ok(Brought::OtherHead(head)) => {
                    return Err(SequencerRunError::NotAlone {
                        block: number,
                        executor: head.number,
                        hash: head.seal(),
                    });
                }
                Ok(Brought::Differs(hash)) => {
                    let problem = format!(
                        "it comes to {hash} for block {number}, and to {} before",
                        expected.unwrap_or_default()
                    );
                    let source = ExecutorError::Stopped(problem);
                    return Err(SequencerRunError::Executor { block: number, source });
                }
                Err(error) => error,
            };
        }
    }

    /// Brings pool, heads and waiters up to date with a sealed block.
    async fn publish(
        &mut self,
        sealed: Arc<ExecutedBlock>,
        times: BlockTimes,
        interval: Option<Duration>,
    ) -> Result<(), SequencerRunError> {
        let shared = self.shared.clone();
        shared.metrics.sealed(&sealed, interval);

        let changes = self.changes(sealed.number()).await?;
        let now = shared.now();
        // Recent blocks first: a transaction is always found in one of the two.
        shared.ledger.recent.write().push(sealed.clone(), times.accepted_at);
        shared.heads.sealed(sealed.header.clone(), times.sealed_at.unwrap_or(now.wall));
        shared.preconfirmer.sealed(sealed.number());
        shared.set_next_block(&sealed.header);
        let (since, status) = {
            let mut pool = shared.ledger.pool.lock();
            (pool.sealed(&sealed, changes, now), pool.status())
        };
        for since in since {
            shared.metrics.sequence_seconds.record(now.instant.duration_since(since));
        }
        shared.metrics.pool(status);
        let heads = shared.heads.now();
        shared.metrics.heads(sealed.number(), heads.safe.number, heads.finalized.number);
        shared.waiters.wake(sealed.transactions.iter().map(|tx| tx.hash()));
        debug!(
            target: "millrace::sequencer",
            number = sealed.number(),
            hash = %sealed.hash(),
            transactions = sealed.transactions.len(),
            gas = sealed.header.gas_used,
            "sealed a block"
        );
        Ok(())
    }

    /// What a sealed block changed; or, where the executor does not keep that, the accounts of everyone in the pool after it.
    async fn changes(
        &mut self,
        number: u64,
    ) -> Result<Result<Arc<StateDiff>, Loaded>, SequencerRunError> {
        self.insist(number, |shared| async move {
            if let Some(diff) = shared.executor.state_diff(number).await? {
                return Ok(Ok(diff));
            }
            let senders = shared.ledger.pool.lock().active_senders();
            load_accounts(&*shared.executor, &senders, number).await.map(Err)
        })
        .await
    }
}

/// Has a closed block stored, unless it is stored already, once its frames are on disk.
async fn store(
    durable: impl Future<Output = Result<(), Arc<LogError>>>,
    build: Option<Box<dyn BlockBuild>>,
) -> Result<(), Unstored> {
    let Some(build) = build else { return Ok(()) };
    // Nothing is stored that a start would not find in the log.
    durable.await.map_err(Unstored::Log)?;
    build.seal().await.map(drop).map_err(Unstored::Executor)
}
