//! Opening the service, and its task.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use alloy::primitives::B256;
use millrace_proto::{
    BlockNumHash, BlockSelector, DaAdapter, Executor, ExecutorError, FrameFeed, L1Inbox, QueueMark,
    Settlement,
};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    OpenError, SequencerConfig, SequencerHandle, SequencerRunError,
    admission::{Checker, RecoveryPool},
    builder::Builder,
    clock::{Clock, SystemClock},
    data_fee::DataFees,
    deposits::DepositFeed,
    lifecycle::{Heads, RecentBlocks, SettledWhen, Waiters},
    log::{LogError, LogWriter, OrderLog, RocksOrderLog, WriterSettings},
    metrics::SequencerMetrics,
    pool::{Closed, Loaded, Pool, load_accounts},
    preconfirmations::Preconfirmer,
    recovery::{Recovered, WaitingTx, recover},
    settlement::{self, Derived},
    shared::{Ledger, Shared},
    throttle::{self, Throttle},
};

/// Accounts read in one call when the pool comes back.
const RESTORE_BATCH: usize = 1024;

/// The order log's folder in the data folder.
const LOG_DIR: &str = "order-log";

/// What the sequencer stands on.
#[derive(Debug, Clone)]
pub struct SequencerDeps {
    /// Executes blocks and answers for state. Nobody else may open blocks there.
    pub executor: Arc<dyn Executor>,
    /// Deposits from L1; `None`: there are none.
    pub inbox: Option<Arc<dyn L1Inbox>>,
    /// How far the chain is settled; `None`: transactions never come further than `SEQUENCED`.
    pub settlement: Option<Arc<dyn Settlement>>,
    /// How much is posted, by which sequencing slows down; `None`: it never does.
    pub da: Option<Arc<dyn DaAdapter>>,
    /// The sequencer's folder. The order log is in `order-log` there.
    pub data_dir: PathBuf,
}

/// Opens sequencers.
#[derive(Debug)]
pub struct SequencerService;

/// The service's work. Without [`run`](Self::run) nothing is acknowledged.
pub struct SequencerTask {
    shared: Arc<Shared>,
    builder: Builder,
    deposits: Option<Arc<DepositFeed>>,
    da: Option<Arc<dyn DaAdapter>>,
}

impl fmt::Debug for SequencerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequencerTask").field("builder", &self.builder).finish_non_exhaustive()
    }
}

impl SequencerService {
    /// Opens the order log in the data folder, brings the executor up to it, and takes back what waits.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        config: SequencerConfig,
        deps: SequencerDeps,
    ) -> Result<(SequencerHandle, SequencerTask), OpenError> {
        let path = deps.data_dir.join(LOG_DIR);
        Self::open_with(config, deps, Arc::new(SystemClock), move |genesis| {
            Ok(Arc::new(RocksOrderLog::open(&path, genesis)?) as Arc<dyn OrderLog>)
        })
        .await
    }

    /// As [`open`](Self::open), on another clock and another order log. `open_log` gets the genesis hash; it may block.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_with(
        config: SequencerConfig,
        deps: SequencerDeps,
        clock: Arc<dyn Clock>,
        open_log: impl FnOnce(B256) -> Result<Arc<dyn OrderLog>, LogError> + Send + 'static,
    ) -> Result<(SequencerHandle, SequencerTask), OpenError> {
        config.validate()?;
        let SequencerDeps { executor, inbox, settlement, da, .. } = deps;
        let spec = executor.spec().await?;
        if !spec.is_rollup() {
            return Err(OpenError::NotARollup);
        }
        let at = BlockSelector::Number(0);
        let genesis = executor.header(at).await?.ok_or(ExecutorError::UnknownBlock(at))?.seal();

        let log = tokio::task::spawn_blocking(move || open_log(genesis)).await??;
        let wall = clock.now();
        let Recovered { head, pool: waiting } = recover(&log, &*executor, &spec, wall).await?;

        let metrics = SequencerMetrics::new();
        let ledger = Arc::new(Ledger {
            pool: Mutex::new(Pool::new(
                config.pool.clone(),
                config.order,
                metrics.clone(),
                head.number,
            )),
            recent: RwLock::new(RecentBlocks::default()),
        });
        let payload = spec.rollup().batch_payload;
        let data_fees = Arc::new(DataFees::new(&config.data_fee, payload));
        let checker = Checker::new(
            spec.clone(),
            config.max_transaction_bytes,
            config.min_fee_per_gas,
            ledger.clone(),
            data_fees.clone(),
        );
        let recovery = RecoveryPool::start(Arc::new(checker), config.recovery_thread_count())?;
        let (limits, block_time) = (config.throttle.clone(), config.block_time);
        let throttle = Throttle::new(limits, block_time, std::time::Instant::now());
        let shared = Arc::new(Shared {
            heads: Heads::new(head.clone(), BlockNumHash::new(0, genesis)),
            settling: Default::default(),
            preconfirmer: Preconfirmer::new(metrics.clone()),
            config,
            spec,
            executor,
            settlement,
            log: log.clone(),
            clock,
            ledger,
            recovery,
            waiters: Waiters::default(),
            throttle,
            data_fees,
            derived: Derived::default(),
            own_posted: AtomicU64::new(if da.is_some() { 0 } else { u64::MAX }),
            refused: Mutex::default(),
            metrics,
            work: Notify::new(),
            ended: CancellationToken::new(),
        });
        shared.set_next_block(&head);
        {
            let (limits, order) = (shared.config.pool.clone(), shared.config.order);
            let mut pool = Pool::new(limits, order, shared.metrics.clone(), head.number);
            restore(&shared, &mut pool, waiting).await?;
            *shared.ledger.pool.lock() = pool;
        }
        restore_settled(&shared, head.number).await?;

        let queue = QueueMark::of(&head).unwrap_or_default();
        // When L1 had what the chain took last is not known any more.
        let taken_at = wall.as_secs().max(head.timestamp);
        let feed = |inbox| Arc::new(DepositFeed::new(inbox, queue, taken_at));
        let deposits = inbox.map(feed);
        let writer = LogWriter::start(log, WriterSettings::default())?;
        info!(
            target: "millrace::sequencer",
            chain_id = shared.spec.chain_id(),
            head = head.number,
            pooled = shared.ledger.pool.lock().status().pending,
            next_deposit = queue.end,
            order = shared.config.order.as_str(),
            "the sequencer is open"
        );
        let builder = Builder::new(shared.clone(), writer, deposits.clone(), head, queue);
        let task = SequencerTask { shared: shared.clone(), builder, deposits, da };
        Ok((SequencerHandle::new(shared), task))
    }
}

/// Puts what was accepted before back into the pool.
pub(crate) async fn restore(
    shared: &Shared,
    pool: &mut Pool,
    waiting: Vec<WaitingTx>,
) -> Result<(), OpenError> {
    for batch in waiting.chunks(RESTORE_BATCH) {
        let senders = pool.unknown(batch.iter().map(|waiting| waiting.tx.sender()));
        let loaded = load_accounts(&*shared.executor, &senders, pool.head()).await?;
        let loaded = Loaded { unwound: pool.unwound(), ..loaded };
        let now = shared.now();
        for WaitingTx { position, accepted_at, tx, .. } in batch {
            pool.restore(tx.clone(), &loaded, (*position, *accepted_at), now);
        }
    }
    if !waiting.is_empty() {
        info!(target: "millrace::sequencer", transactions = waiting.len(), "took back accepted transactions");
    }
    Ok(())
}

/// The heads start where they were last seen, but for blocks that were taken back since.
async fn restore_settled(shared: &Arc<Shared>, head: u64) -> Result<(), OpenError> {
    let log = shared.log.clone();
    let read = move || {
        log.unsettle(head)?;
        log.settled()
    };
    let settled = tokio::task::spawn_blocking(read).await??;
    let unwound = shared.heads.unwound_times();
    settlement::settle(shared, settled, SettledWhen::Earlier, unwound).await?;
    Ok(())
}

/// Tells subscribers that there are no more frames once it goes, however the task ends.
struct EndOfFrames(FrameFeed);

impl Drop for EndOfFrames {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SequencerTask {
    /// Makes blocks until `shutdown` is cancelled; then takes no more, seals the open block, brings the log to disk, and ends.
    ///
    /// # Errors
    /// When the sequencer cannot go on without an operator. Nothing is acknowledged after that.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SequencerRunError> {
        let Self { shared, builder, deposits, da } = self;
        let _ended = shared.ended.clone().drop_guard();
        let _told = EndOfFrames(shared.preconfirmer.feed().clone());
        // Background tasks end with the builder, whichever way that ends.
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let mut background = JoinSet::new();
        if let Some(deposits) = deposits {
            background.spawn(deposits.run(shared.clone(), stop.clone()));
        }
        if let Some(da) = da {
            background.spawn(throttle::follow(shared.clone(), da, stop.clone()));
        }
        if let Some(settlement) = shared.settlement.clone() {
            background.spawn(settlement::follow(settlement, shared.clone(), stop.clone()));
        }

        let mut building = std::pin::pin!(builder.run(shutdown));
        let result = loop {
            tokio::select! {
                result = &mut building => break result,
                Some(ended) = background.join_next() => {
                    if let Err(source) = ended {
                        shared.ledger.pool.lock().fail(Closed::Halted);
                        return Err(SequencerRunError::Task { name: "background", source });
                    }
                }
            }
        };
        stop.cancel();
        while let Some(ended) = background.join_next().await {
            if let Err(error) = ended {
                warn!(target: "millrace::sequencer", %error, "a background task failed at the end");
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_can_be_spawned() {
        fn spawnable<T: Future + Send + 'static>(_: fn(SequencerTask, CancellationToken) -> T) {}
        spawnable(SequencerTask::run);
    }
}
