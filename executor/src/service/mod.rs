//! The executor service.
//!
//! One worker thread owns the open block and is fed through a bounded channel. A second one stores what is closed, beside the execution of the next
//! block; it alone writes to the store, but for blocks that are taken back, for which the first waits for it. Everything else reads sealed blocks on the caller's side: point reads where they are asked (they hit the store's caches), whatever walks
//! or executes on tokio's blocking threads, calls and traces no more of them at a time than configured.

mod build;
mod call;
mod config;
mod feed;
mod handle;
mod logs;
mod metrics;
mod open;
mod read;
mod simulate;
mod storer;
mod trace;
mod worker;

use std::sync::Arc;

use millrace_proto::{ChainSpec, ExecutorError};
use tokio::sync::Semaphore;

pub(crate) use self::feed::Shown;
pub use self::{
    config::{CallConfig, ExecutionConfig, ExecutorConfig},
    handle::ExecutorHandle,
};
use self::{
    handle::{Inner, MOST_WAITING},
    metrics::ExecutorMetrics,
    open::OpenBlocks,
    worker::Worker,
};
use crate::{Replayer, chain::Chain, evm::WorkerPool};

/// Starts executors.
#[derive(Debug)]
pub struct ExecutorService;

impl ExecutorService {
    /// Opens the store, or begins one with the chain's genesis block, and starts the worker thread. The service stops when the
    /// last clone of the handle and the last open block are gone, or with [`ExecutorHandle::close`].
    ///
    /// Blocking: opening a store reads its files.
    ///
    /// # Errors
    /// When the store cannot be opened or holds another chain, or no thread can be started.
    pub fn open(
        config: ExecutorConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<ExecutorHandle, ExecutorError> {
        Ok(Self::start(config, spec)?.0)
    }

    /// The same, with a replayer over the same chain, for a node that takes blocks from two sides. The caller sees to it that they take turns:
    /// nothing is replayed or unwound while a block is open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_replayer(
        config: ExecutorConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<(ExecutorHandle, Replayer), ExecutorError> {
        let store = Replayer::store_config(&config.store);
        let (handle, chain, shown) = Self::start(ExecutorConfig { store, ..config }, spec)?;
        Ok((handle, Replayer::shared(chain, shown)))
    }

    fn start(
        config: ExecutorConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<(ExecutorHandle, Arc<Chain>, Shown), ExecutorError> {
        let chain = Arc::new(Chain::open(&config.data_dir, &config.store, spec)?);
        let metrics = ExecutorMetrics::new(config.store.name);
        metrics.head.set(chain.head().number as f64);
        let shown = Shown::new(chain.head());
        let (head, unwound) = shown.follow();
        let threads = config.execution.count();
        let pool = WorkerPool::new(threads)
            .map_err(|error| ExecutorError::Stopped(format!("cannot start a thread: {error}")))?;
        let open = Arc::<OpenBlocks>::default();
        let worker =
            Worker::start(chain.clone(), Arc::new(pool), shown.clone(), metrics, open.clone())?;
        let calls = Arc::new(Semaphore::new(config.calls.concurrent()));
        let traces = Arc::new(Semaphore::new(config.calls.max_concurrent_traces.max(1)));
        let waiting = Arc::new(Semaphore::new(MOST_WAITING));
        let inner = Inner {
            config,
            chain: chain.clone(),
            head,
            unwound,
            worker,
            open,
            calls,
            traces,
            waiting,
        };
        Ok((ExecutorHandle::new(inner), chain, shown))
    }
}
