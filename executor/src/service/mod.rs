//! The executor service.
//!
//! One worker thread owns the open block and is fed through a bounded channel; it alone writes to the store. Everything else
//! reads sealed blocks on the caller's side: point reads where they are asked (they hit the store's caches), whatever walks
//! or executes on tokio's blocking threads, calls no more of them at a time than configured.

mod build;
mod call;
mod config;
mod feed;
mod handle;
mod logs;
mod metrics;
mod worker;

use std::sync::Arc;

use millrace_proto::{ChainSpec, ExecutorError};
use tokio::sync::{Semaphore, watch};

pub use self::{
    config::{ExecutionConfig, ExecutorConfig},
    handle::ExecutorHandle,
};
use self::{feed::Unwound, handle::Inner, metrics::ExecutorMetrics, worker::Worker};
use crate::{chain::Chain, evm::WorkerPool};

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
        let chain = Arc::new(Chain::open(&config.data_dir, &config.store, spec)?);
        let head = chain.head();
        let metrics = ExecutorMetrics::new(config.store.name);
        metrics.head.set(head.number as f64);
        let (head_sender, head) = watch::channel(head);
        let threads = config.execution.count();
        let pool = WorkerPool::new(threads)
            .map_err(|error| ExecutorError::Stopped(format!("cannot start a thread: {error}")))?;
        let unwound = Unwound::default();
        let worker =
            Worker::start(chain.clone(), Arc::new(pool), head_sender, unwound.clone(), metrics)?;
        let calls = Arc::new(Semaphore::new(config.max_concurrent_calls.max(1)));
        Ok(ExecutorHandle::new(Inner { config, chain, head, unwound, worker, calls }))
    }
}
