//! The service: a batcher and a poster over one outbox.

use std::{path::PathBuf, sync::Arc};

use alloy::primitives::U256;
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use millrace_l1::{BeaconClient, RollupContract, TxManager};
use millrace_proto::{
    ChainSpec, DaAdapter, DaAdapterError, DaKind, DaStatus, DataPrice, ErrorClass, Executor,
    OutboxBatch, Settlement,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    archive::{Archiver, Progress},
    availability::Attester,
    backend::DaBackend,
    batcher::{Batcher, BatcherParts},
    chain::BatchedChain,
    config::{BackendKind, DaAdapterConfig, InvalidConfig},
    error::{DaAdapterOpenError, DaAdapterRunError},
    halt::{Halts, Part},
    metrics::DaMetrics,
    outbox::{Cursor, Outbox, OutboxIdentity},
    poster::{Failures, L1Target, PostTarget, Poster, Refusal},
    price::{Pricing, Quote},
    reader::DaSources,
    resume::{Resume, ResumeError},
    window::Window,
};

const TARGET: &str = "millrace::da_adapter";

/// What the service needs from others.
#[derive(Debug)]
pub struct DaAdapterDeps {
    /// Where blocks come from.
    pub executor: Arc<dyn Executor>,
    /// The contract that batches are posted to.
    pub rollup: RollupContract,
    /// Has the blobs that an archive is filled with, beside the adapter's own.
    pub beacon: BeaconClient,
    /// Tells a new outbox which of the posted batches are valid.
    pub settlement: Arc<dyn Settlement>,
    /// Sends from the account that holds the contract's batcher role. Nothing else may use it.
    pub tx_manager: TxManager,
    /// The outbox's folder; made if it is not there.
    pub data_dir: PathBuf,
    /// The rollup's rules.
    pub spec: Arc<ChainSpec>,
}

/// The DA adapter, ready to run.
#[derive(Debug)]
pub struct DaAdapterService {
    config: DaAdapterConfig,
    executor: Arc<dyn Executor>,
    target: Arc<dyn PostTarget>,
    settlement: Arc<dyn Settlement>,
    /// Fills the archive, if there is one.
    archiver: Option<Archiver>,
    backends: Vec<Arc<dyn DaBackend>>,
    in_use: watch::Sender<DaKind>,
    window: watch::Sender<Option<Window>>,
    refusal: watch::Sender<Option<Refusal>>,
    quote: watch::Sender<Option<Quote>>,
    outbox: Arc<Outbox>,
    halts: Arc<Halts>,
    metrics: DaMetrics,
    chain: BatchedChain,
}

/// Answers for the service, also while it does not run.
#[derive(Debug, Clone)]
pub struct DaAdapterHandle {
    outbox: Arc<Outbox>,
    halts: Arc<Halts>,
    in_use: watch::Receiver<DaKind>,
    window: watch::Receiver<Option<Window>>,
    refusal: watch::Receiver<Option<Refusal>>,
    quote: watch::Receiver<Option<Quote>>,
    backends: Arc<[DaKind]>,
}

/// The backend that new batches go through.
fn backend(kind: BackendKind, sources: &DaSources) -> Result<Arc<dyn DaBackend>, InvalidConfig> {
    let kind = DaKind::from(kind);
    sources.backend(kind).ok_or_else(|| {
        // The section has the backend's name.
        let field = kind.as_str();
        InvalidConfig { field, problem: format!("the backend {field} needs this section") }
    })
}

impl DaAdapterService {
    /// Opens the outbox and the backend. Asks neither L1 nor the executor yet.
    ///
    /// # Errors
    /// When a setting cannot work, or the outbox is broken, open elsewhere, or another chain's.
    pub async fn open(
        config: DaAdapterConfig,
        deps: DaAdapterDeps,
    ) -> Result<(DaAdapterHandle, Self), DaAdapterOpenError> {
        let DaAdapterDeps { executor, rollup, beacon, settlement, tx_manager, data_dir, spec } =
            deps;
        let mut sources = config.sources()?;
        sources.store = sources.store.map(|store| {
            let signer = tx_manager.signer().clone();
            store.attested_by(Attester::new(rollup.clone(), signer, config.kept_for))
        });
        let backends = config.backends.iter().map(|kind| backend(*kind, &sources));
        let backends = backends.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = backends.first() else {
            let problem = "it has to name one backend at least".to_owned();
            return Err(InvalidConfig { field: "backends", problem }.into());
        };
        config.validate(first.max_size())?;
        let (in_use, seen) = watch::channel(first.kind());
        let (window, window_seen) = watch::channel(None);
        let (refusal, refusal_seen) = watch::channel(None);
        let (quote, quote_seen) = watch::channel(None);
        let chain = BatchedChain::from(&*spec);
        let identity = OutboxIdentity { chain_id: chain.id, rollup: rollup.address() };
        let outbox = tokio::task::spawn_blocking(move || Outbox::open(&data_dir, identity))
            .await
            .map_err(DaAdapterOpenError::Worker)??;
        let outbox = Arc::new(outbox);
        let metrics = DaMetrics::new();
        let halts = Arc::new(Halts::new(metrics.clone()));
        let handle = DaAdapterHandle {
            outbox: outbox.clone(),
            halts: halts.clone(),
            in_use: seen,
            window: window_seen,
            refusal: refusal_seen,
            quote: quote_seen,
            backends: backends.iter().map(|backend| backend.kind()).collect(),
        };
        let archiver = sources.archive.map(|archive| Archiver {
            archive,
            rollup: rollup.clone(),
            beacon,
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            max_retry_interval: config.max_retry_interval,
            progress: Progress::default(),
        });
        let target = Arc::new(L1Target { rollup, tx_manager });
        let service = Self {
            config,
            executor,
            target,
            settlement,
            archiver,
            backends,
            in_use,
            window,
            refusal,
            quote,
            outbox,
            halts,
            metrics,
            chain,
        };
        Ok((handle, service))
    }

    /// Batches and posts until `stop` is cancelled, then finishes the write that is under way. The
    /// open batch is collected again, and a transaction in flight resumed, after the next start.
    ///
    /// # Errors
    /// When it cannot go on; see [`DaAdapterRunError`]. L1, the DA layer or the executor being away
    /// is waited for.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DaAdapterRunError> {
        let Some(cursor) = self.cursor(&stop).await? else { return Ok(()) };
        // Beyond the target only single blocks go, which any of them may take.
        let max_size = self.backends.iter().map(|backend| backend.max_size()).max().unwrap_or(0);
        let parts = BatcherParts {
            chain: self.chain,
            executor: self.executor.clone(),
            outbox: self.outbox.clone(),
            halts: self.halts.clone(),
            metrics: self.metrics.clone(),
            max_size,
            in_use: self.in_use.subscribe(),
            window: self.window.subscribe(),
        };
        let batcher = Batcher::new(&self.config, parts, cursor)?;
        let pricing = Pricing {
            target: self.target.clone(),
            backends: self.backends.clone(),
            in_use: self.in_use.subscribe(),
            batch_size: self.config.target(max_size),
            interval: self.config.price_interval,
            quote: self.quote,
        };
        let poster = Poster {
            target: self.target,
            executor: self.executor,
            settlement: self.settlement,
            switch: self.config.switching.switch(&self.backends),
            backends: self.backends,
            in_use: self.in_use,
            outbox: self.outbox,
            max_spend: self.config.max_ether_per_day,
            archives: self.archiver.is_some(),
            halts: self.halts,
            metrics: self.metrics,
            chain: self.chain,
            poll_interval: self.config.poll_interval,
            max_retry_interval: self.config.max_retry_interval,
            failures: Failures::default(),
            max_in_flight: self.config.max_in_flight,
            flying_cost: U256::ZERO,
            window: self.window,
            window_seen: None,
            window_margin: self.config.window_margin,
            refusal: self.refusal,
            closed_again: None,
            known: None,
        };
        info!(target: TARGET, batch = cursor.batch, block = cursor.block.number, "running");

        // When one of them fails, the others drain.
        let stop = stop.child_token();
        let batch = async {
            let result = batcher.run(stop.clone()).await;
            stop.cancel();
            result
        };
        let post = async {
            let result = poster.run(stop.clone()).await;
            stop.cancel();
            result
        };
        let archive = async {
            let result = match self.archiver {
                Some(archiver) => archiver.run(stop.clone()).await,
                None => return Ok(()),
            };
            stop.cancel();
            result
        };
        let price = pricing.run(stop.clone());
        let (batched, posted, archived, ()) = tokio::join!(batch, post, archive, price);
        let mut first = Ok(());
        for result in [batched, posted, archived] {
            match (result, &first) {
                (Err(error), Err(_)) => error!(target: TARGET, %error, "this failed too"),
                (result, Ok(())) => first = result,
                (Ok(()), Err(_)) => {}
            }
        }
        first
    }

    /// The epoch under which a new outbox posts: a new one where batches are posted already, as whoever posted them might not
    /// know that it was replaced.
    async fn take_over(&self) -> Result<u32, ResumeError> {
        let current = self.target.epoch().await?;
        if self.target.batch_count().await? == 0 {
            return Ok(current);
        }
        self.target.begin_epoch(current + 1).await.map_err(Box::new)?;
        info!(target: TARGET, epoch = current + 1, "took over: posts of earlier epochs are refused from now on");
        Ok(current + 1)
    }

    /// Where the next batch begins; `None` if it was told to stop before that was known.
    async fn cursor(&self, stop: &CancellationToken) -> Result<Option<Cursor>, DaAdapterRunError> {
        let mut pauses = ExponentialBuilder::new()
            .with_max_delay(self.config.max_retry_interval)
            .with_jitter()
            .without_max_times()
            .build();
        let resume = Resume {
            executor: &self.executor,
            target: self.target.as_ref(),
            settlement: &self.settlement,
        };
        let mut epoch = None;
        loop {
            if let Some(cursor) = self.outbox.cursor() {
                return Ok(Some(cursor));
            }
            let find = async {
                // Nobody is put out of office before this adapter can begin; nobody else posts any more when what is posted is
                // looked at.
                let cursor = resume.find_cursor().await?;
                if epoch.is_none() {
                    epoch = Some(self.take_over().await?);
                }
                let posted = self.target.batch_count().await?;
                let cursor =
                    if posted == cursor.batch { cursor } else { resume.find_cursor().await? };
                Ok((cursor, epoch.unwrap_or_default()))
            };
            let found = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                found = find => found,
            };
            match found {
                Ok((cursor, epoch)) => {
                    info!(
                        target: TARGET,
                        batch = cursor.batch,
                        block = cursor.block.number,
                        "a new outbox begins here"
                    );
                    self.halts.set(Part::Batching, None);
                    self.outbox.begin(cursor, epoch)?;
                }
                Err(ResumeError::Epoch(error)) if error.class() == ErrorClass::Fatal => {
                    return Err(DaAdapterRunError::Transactions(error));
                }
                Err(ResumeError::Executor(error)) if error.class() == ErrorClass::Fatal => {
                    return Err(DaAdapterRunError::Executor(Box::new(error)));
                }
                Err(error) => {
                    if let Some(reason) = error.halt() {
                        self.halts.set(Part::Batching, Some(reason));
                    }
                    let pause = pauses.next().unwrap_or(self.config.max_retry_interval);
                    warn!(target: TARGET, %error, ?pause, "cannot tell yet where to begin");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(None),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }
}

fn outbox_failed(error: impl std::error::Error + Send + Sync + 'static) -> DaAdapterError {
    DaAdapterError::Outbox(Box::new(error))
}

#[async_trait]
impl DaAdapter for DaAdapterHandle {
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError> {
        let summary = self.outbox.summary();
        let (batches_closed, batched_block) =
            summary.cursor.map_or((0, 0), |cursor| (cursor.batch, cursor.block.number));
        Ok(DaStatus {
            backend: self.in_use.borrow().as_str().to_owned(),
            batched_block,
            batches_closed,
            batches_posted: summary.posted,
            posted_block: summary.posted_block,
            backlog_bytes: summary.backlog_bytes,
            posted_bytes: summary.totals.bytes,
            posted_transactions: summary.totals.transactions,
            l1_fees: summary.totals.fees,
            halted: self.halts.reason(),
            chosen: self.outbox.chosen().map(|kind| kind.as_str().to_owned()),
            window: self.window.borrow().map(|window| window.left(Instant::now())),
            refused: self.refusal.borrow().map(|refusal| refusal.blocks),
            data_price: self
                .quote
                .borrow()
                .map_or_else(DataPrice::default, |quote| quote.at(Instant::now())),
        })
    }

    async fn use_backend(&self, backend: Option<&str>) -> Result<(), DaAdapterError> {
        let known = |name: &str| self.backends.iter().copied().find(|kind| kind.as_str() == name);
        let chosen = match backend {
            None => None,
            Some(name) => Some(known(name).ok_or_else(|| DaAdapterError::UnknownBackend {
                backend: name.to_owned(),
                known:
                    self.backends.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "),
            })?),
        };
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || outbox.choose(chosen))
            .await
            .map_err(outbox_failed)?
            .map_err(outbox_failed)?;
        warn!(target: TARGET, backend = backend.unwrap_or("by order, health and price"), "an operator has chosen where batches go");
        Ok(())
    }

    async fn batch(&self, number: u64) -> Result<Option<OutboxBatch>, DaAdapterError> {
        let Some(entry) = self.outbox.entry(number) else { return Ok(None) };
        let outbox = self.outbox.clone();
        let data = tokio::task::spawn_blocking(move || outbox.data(number))
            .await
            .map_err(outbox_failed)?
            .map_err(outbox_failed)?;
        Ok(data.map(|data| OutboxBatch {
            number,
            first_block: entry.first_block,
            last_block: entry.last_block,
            digest: entry.digest,
            data,
            posted: entry.post.is_some(),
        }))
    }
}

#[cfg(test)]
mod tests;
