//! The handle that callers hold.

use std::{fmt, sync::Arc};

use alloy::{
    consensus::Sealable,
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
        trace::geth::GethDebugTracingOptions,
    },
};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, TxHash, U256};
use async_trait::async_trait;
use millrace_proto::{
    AccountInfo, AddressPrefix, BlockAttributes, BlockBuild, BlockNumHash, BlockSelector,
    BoxStream, CallOutcome, CallRequest, ChainSpec, ExecutedBlock, Executor, ExecutorError,
    FoundAccounts, GasEstimate, SealedHeader, SimulatedBlock, StateDiff, TraceTarget, TxLocation,
};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task,
};

use super::{
    build::OpenBuild,
    call::{self, Simulation},
    config::ExecutorConfig,
    feed::{Follower, Unwound},
    logs,
    open::OpenBlocks,
    read::{At, read_error},
    simulate, trace,
    worker::{Command, Worker},
};
use crate::{chain::Chain, evm::StateReader};

/// An executor in this process: cheap to clone.
#[derive(Clone)]
pub struct ExecutorHandle {
    inner: Arc<Inner>,
}

/// What all clones share.
pub(super) struct Inner {
    pub(super) config: ExecutorConfig,
    pub(super) chain: Arc<Chain>,
    pub(super) head: watch::Receiver<SealedHeader>,
    pub(super) unwound: Unwound,
    pub(super) worker: Worker,
    pub(super) open: Arc<OpenBlocks>,
    pub(super) calls: Arc<Semaphore>,
    pub(super) traces: Arc<Semaphore>,
    /// For those that wait for a place and would hold it for long.
    pub(super) waiting: Arc<Semaphore>,
}

impl ExecutorHandle {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Stops building: what the worker was asked before is still done. Subscriptions end after the head; reads go on
    /// working as long as handles exist.
    pub async fn close(&self) {
        let inner = self.inner.clone();
        // The worker's own panics are logged where it is joined.
        let _ = task::spawn_blocking(move || inner.worker.stop()).await;
    }

    /// Follows the head: each sealed header replaces the one before it.
    pub fn watch_head(&self) -> watch::Receiver<SealedHeader> {
        self.inner.head.clone()
    }

    /// Runs a call on a blocking thread, when one of the places for calls is free.
    async fn simulate<T: Send + 'static>(
        &self,
        request: CallRequest,
        at: BlockSelector,
        run: impl FnOnce(Simulation) -> Result<T, ExecutorError> + Send + 'static,
    ) -> Result<T, ExecutorError> {
        let place = place(&self.inner.calls).await?;
        let inner = self.inner.clone();
        blocking(move || {
            let max_gas = inner.config.calls.max_gas;
            let state = inner.state(at);
            let result = state
                .and_then(|state| Simulation::new(&inner.chain, request, state, max_gas))
                .and_then(run);
            drop(place);
            result
        })
        .await
    }

    /// Waits for a place, unless too many do already.
    async fn place_of_queue(
        &self,
        places: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, ExecutorError> {
        let _waiting = self.inner.waiting.try_acquire().map_err(|_| {
            let what = "number of traces and simulations that wait";
            ExecutorError::LimitExceeded { what, limit: MOST_WAITING as u64 }
        })?;
        place(places).await
    }
}

/// Traces and simulations that wait for a place, at most: each may take seconds, and whoever asks holds something meanwhile.
pub(super) const MOST_WAITING: usize = 32;

/// Waits for a place.
async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ExecutorError> {
    let place = places.clone().acquire_owned().await;
    place.map_err(|_| ExecutorError::Stopped("the service is closed".to_owned()))
}

/// Runs what may take long on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ExecutorError> + Send + 'static,
) -> Result<T, ExecutorError> {
    task::spawn_blocking(run)
        .await
        .unwrap_or_else(|error| Err(ExecutorError::Stopped(format!("a read failed: {error}"))))
}

#[async_trait]
impl Executor for ExecutorHandle {
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError> {
        Ok(self.inner.chain.spec().clone())
    }

    async fn head(&self) -> Result<SealedHeader, ExecutorError> {
        Ok(self.inner.chain.head())
    }

    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError> {
        match self.inner.at(at)? {
            At::Sealed(at) => Ok(self.inner.chain.store().header(at)?),
            At::Open(view) => Ok(Some(view.header().seal_slow())),
        }
    }

    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        match self.inner.at(at)? {
            At::Sealed(at) => {
                let store = self.inner.chain.store().clone();
                blocking(move || Ok(store.block(at)?)).await
            }
            At::Open(view) => Ok(Some(Arc::new(view.block()))),
        }
    }

    async fn subscribe(
        &self,
        from: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError> {
        let follower = Follower {
            store: self.inner.chain.store().clone(),
            head: self.inner.head.clone(),
            unwound: self.inner.unwound.clone(),
            seen: self.inner.unwound.count(),
            next: from,
        };
        Ok(follower.into_stream())
    }

    async fn open_block(
        &self,
        attributes: BlockAttributes,
    ) -> Result<Box<dyn BlockBuild>, ExecutorError> {
        let opened = self.inner.worker.ask(|reply| Command::Open { attributes, reply }).await?;
        Ok(Box::new(OpenBuild::new(self.inner.clone(), opened)))
    }

    async fn unwind(&self, to: BlockNumHash) -> Result<(), ExecutorError> {
        self.inner.worker.ask(|reply| Command::Unwind { to, reply }).await
    }

    async fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, ExecutorError> {
        Ok(self.inner.chain.store().locate(hash)?)
    }

    async fn accounts(
        &self,
        addresses: &[Address],
        at: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError> {
        match self.inner.at(at)? {
            At::Sealed(at) => {
                let view = self.inner.chain.store().view(at)?;
                let accounts = addresses.iter().map(|address| view.account(*address));
                Ok(accounts.collect::<Result<_, _>>()?)
            }
            At::Open(view) => {
                let accounts = addresses.iter().map(|address| view.account(*address));
                accounts.collect::<Result<_, _>>().map_err(read_error)
            }
        }
    }

    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        at: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError> {
        let view = self.inner.chain.store().view(at)?;
        let prefixes = prefixes.to_vec();
        blocking(move || {
            let accounts = view.find_accounts(&prefixes)?;
            Ok(FoundAccounts { accounts, total: view.account_count()? })
        })
        .await
    }

    async fn storage(
        &self,
        address: Address,
        slot: B256,
        at: BlockSelector,
    ) -> Result<U256, ExecutorError> {
        match self.inner.at(at)? {
            At::Sealed(at) => Ok(self.inner.chain.store().view(at)?.storage(address, slot)?),
            At::Open(view) => view.storage(address, slot.into()).map_err(read_error),
        }
    }

    async fn code(&self, address: Address, at: BlockSelector) -> Result<Bytes, ExecutorError> {
        let state = self.inner.state(at)?;
        match state.account(address).map_err(read_error)? {
            Some(account) if account.code_hash != KECCAK256_EMPTY => {
                Ok(state.code(account.code_hash).map_err(read_error)?.unwrap_or_default())
            }
            _ => Ok(Bytes::new()),
        }
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<B256>,
        at: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError> {
        let store = self.inner.chain.store().clone();
        blocking(move || Ok(store.proof(address, &slots, at)?)).await
    }

    async fn call(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<CallOutcome, ExecutorError> {
        self.simulate(request, at, call::run).await
    }

    async fn estimate_gas(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError> {
        self.simulate(request, at, call::estimate_gas).await
    }

    async fn create_access_list(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError> {
        self.simulate(request, at, call::create_access_list).await
    }

    async fn trace(
        &self,
        target: TraceTarget,
        options: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError> {
        let place = self.place_of_queue(&self.inner.traces).await?;
        let inner = self.inner.clone();
        blocking(move || {
            let result = trace::run(&inner.chain, &inner.config.calls, target, options);
            drop(place);
            result
        })
        .await
    }

    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError> {
        let place = self.place_of_queue(&self.inner.calls).await?;
        let inner = self.inner.clone();
        blocking(move || {
            let state = inner.state(at);
            let result = state
                .and_then(|state| simulate::run(&inner.chain, &inner.config.calls, payload, state));
            drop(place);
            result
        })
        .await
    }

    async fn logs(&self, filter: &Filter, max_results: usize) -> Result<Vec<Log>, ExecutorError> {
        let store = self.inner.chain.store().clone();
        let filter = filter.clone();
        let max_blocks = self.inner.config.max_log_blocks;
        blocking(move || logs::search(&store, &filter, max_results, max_blocks)).await
    }

    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError> {
        let chain = self.inner.chain.clone();
        blocking(move || Ok(chain.state_diff(number)?)).await
    }
}

impl fmt::Debug for ExecutorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorHandle")
            .field("chain_id", &self.inner.chain.spec().chain_id())
            .field("head", &self.inner.chain.head().number)
            .finish_non_exhaustive()
    }
}
