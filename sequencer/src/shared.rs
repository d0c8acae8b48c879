//! What the handle and the task share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::primitives::TxHash;
use millrace_proto::{
    BatchRecord, BlockSelector, ChainSpec, Executor, RefusedBlocks, RejectReason, SealedHeader,
    SequencerError, Settlement, Stage,
};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    SequencerConfig,
    admission::{Known as KnownTxs, RecoveryPool},
    clock::Clock,
    data_fee::DataFees,
    lifecycle::{Heads, Known, RecentBlocks, RecentTx, Waiters},
    log::{BlockTimes, LogError, OrderLog, SettledBlocks},
    metrics::SequencerMetrics,
    pool::{Asked, Closed, Now, Pool},
    preconfirmations::Preconfirmer,
    settlement::Derived,
    throttle::Throttle,
};

/// Pool and recent blocks: what makes a transaction known.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) pool: Mutex<Pool>,
    pub(crate) recent: RwLock<RecentBlocks>,
}

impl KnownTxs for Ledger {
    fn is_known(&self, hash: TxHash) -> bool {
        self.pool.lock().is_acknowledged(hash) || self.recent.read().contains(hash)
    }

    fn holds(&self, hash: TxHash) -> bool {
        self.pool.lock().holds(hash)
    }

    fn has_room_for(&self, asked: Asked) -> Result<(), RejectReason> {
        self.pool.lock().has_room_for(asked)
    }
}

/// What the handle and the task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SequencerConfig,
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) settlement: Option<Arc<dyn Settlement>>,
    pub(crate) log: Arc<dyn OrderLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) recovery: RecoveryPool,
    pub(crate) waiters: Waiters,
    pub(crate) heads: Heads,
    /// Held by whoever changes how far the chain is settled, in the log and in the heads.
    pub(crate) settling: tokio::sync::Mutex<()>,
    pub(crate) preconfirmer: Preconfirmer,
    pub(crate) throttle: Throttle,
    pub(crate) data_fees: Arc<DataFees>,
    /// What settlement has derived from L1 and is not here.
    pub(crate) derived: Derived,
    /// The last block that the DA adapter knows to be on L1; everything counts where there is none to ask.
    pub(crate) own_posted: AtomicU64,
    /// Blocks that L1 takes no more, as the DA adapter last said.
    pub(crate) refused: Mutex<Option<RefusedBlocks>>,
    pub(crate) metrics: SequencerMetrics,
    /// Wakes the builder: there may be something for the open block or the log.
    pub(crate) work: Notify,
    /// Cancelled when the task has ended.
    pub(crate) ended: CancellationToken,
}

impl Shared {
    /// The last block that the DA adapter knows to be on L1.
    pub(crate) fn own_posted(&self) -> u64 {
        self.own_posted.load(Ordering::Relaxed)
    }

    /// The time, on both clocks.
    pub(crate) fn now(&self) -> Now {
        Now { instant: Instant::now(), wall: self.wall() }
    }

    /// Since the Unix epoch, in whole milliseconds.
    pub(crate) fn wall(&self) -> Duration {
        let now = self.clock.now();
        Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    /// Tells admission what the block after `head` is like.
    pub(crate) fn set_next_block(&self, head: &SealedHeader) {
        let timestamp = self.clock.now().as_secs().max(head.timestamp);
        let base_fee = self.spec.next_base_fee(head).unwrap_or(0);
        self.recovery.checker().set_next_block(head.number + 1, timestamp, base_fee);
    }

    /// Why nothing is taken, for callers that find the service gone.
    pub(crate) fn closed_error(&self) -> SequencerError {
        let closed = self.ledger.pool.lock().closed().unwrap_or(Closed::Stopping);
        closed.into()
    }

    /// What is known of a transaction; `None` if it was never accepted, or is not acknowledged yet.
    pub(crate) async fn find(&self, hash: TxHash) -> Result<Option<Known>, SequencerError> {
        if let Some(pooled) = self.ledger.pool.lock().get(hash)
            && pooled.durable
        {
            return Ok(Some(Known::Pooled { tx: pooled.tx, accepted_at: pooled.accepted_at }));
        }
        let recent = self.ledger.recent.read().find(hash);
        if let Some(RecentTx { block, index, accepted_at }) = recent {
            return Ok(Some(Known::Included { block, index, accepted_at, sealed_at: None }));
        }
        if let Some(place) = self.executor.locate(hash).await?
            && let Some(block) = self.executor.block(BlockSelector::Hash(place.block.hash)).await?
            && let Ok(index) = usize::try_from(place.index)
        {
            let number = block.number();
            let times = self.ask_log(move |log| log.block_times(number)).await?;
            let BlockTimes { sealed_at, accepted_at } = times.unwrap_or_default();
            let accepted_at = accepted_at.get(index).copied().flatten();
            return Ok(Some(Known::Included { block, index, accepted_at, sealed_at }));
        }
        match self.ask_log(move |log| log.dropped(hash)).await? {
            // It may be on its way from a block back to the pool.
            None => match self.ledger.pool.lock().closed() {
                Some(closed @ Closed::Unwinding) => Err(closed.into()),
                _ => Ok(None),
            },
            Some(dropped) => Ok(Some(Known::Dropped(dropped))),
        }
    }

    /// Runs what may have to read from the log's disk, off the async threads.
    pub(crate) fn read_log<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn OrderLog) -> Result<T, LogError> + Send + 'static,
    ) -> JoinHandle<Result<T, LogError>> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || read(&*log))
    }

    /// Asks the log, for callers of the service.
    pub(crate) async fn ask_log<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn OrderLog) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, SequencerError> {
        match self.read_log(ask).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(SequencerError::OrderLog(Box::new(error))),
            Err(error) => Err(SequencerError::OrderLog(Box::new(error))),
        }
    }

    /// Has the log remember how far the chain is settled. Without that a restart shows less: no more is lost where it fails.
    pub(crate) async fn note_settled(&self, settled: SettledBlocks, at: Duration) {
        if let Err(error) = self.ask_log(move |log| log.settle(settled, at)).await {
            warn!(target: "millrace::sequencer", %error, "the order log did not take a note of how far the chain is settled");
        }
    }

    /// When a transaction reached a stage, as far as that was seen.
    pub(crate) async fn reached_at(
        &self,
        known: &Known,
        stage: Stage,
    ) -> Result<Option<Duration>, SequencerError> {
        let (block, accepted_at, sealed_at) = match known {
            Known::Pooled { accepted_at, .. } => return Ok(*accepted_at),
            Known::Dropped(dropped) => {
                let is_accepted = stage == Stage::Accepted;
                return Ok(if is_accepted { dropped.accepted_at } else { Some(dropped.at) });
            }
            Known::Included { block, accepted_at, sealed_at, .. } => {
                (block.number(), *accepted_at, *sealed_at)
            }
        };
        let seen = self.heads.reached(stage, block);
        match stage {
            Stage::Accepted => Ok(accepted_at),
            Stage::Sequenced => Ok(seen.or(sealed_at)),
            _ if seen.is_some() => Ok(seen),
            _ => self.ask_log(move |log| log.reached(stage, block)).await,
        }
    }

    /// The posted batch that holds a block, or `None` if there is none or settlement does not say.
    pub(crate) async fn batch_of(&self, block: u64) -> Option<BatchRecord> {
        match self.settlement.as_ref()?.batch_of_block(block).await {
            Ok(batch) => batch,
            Err(error) => {
                debug!(target: "millrace::sequencer", block, %error, "settlement did not name a batch");
                None
            }
        }
    }
}
