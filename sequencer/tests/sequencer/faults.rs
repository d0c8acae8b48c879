//! An order log and an executor that fail where a test wants them to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, TxHash, U256},
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
        trace::geth::GethDebugTracingOptions,
    },
};
use async_trait::async_trait;
use millrace_proto::{
    AccountInfo, AddressPrefix, BlockAttributes, BlockBuild, BlockNumHash, BlockSelector,
    BoxStream, CallOutcome, CallRequest, ChainSpec, Executed, ExecutedBlock, Executor,
    ExecutorError, FoundAccounts, GasEstimate, Noting, RecoveredTx, SealedHeader, SimulatedBlock,
    Stage, StateDiff, TraceTarget, TransportError, TxLocation,
};
use millrace_sequencer::{
    BlockTimes, DroppedTx, LogError, OrderLog, Position, Record, RecordIter, SettledBlocks,
};
use parking_lot::RwLock;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

/// Where something breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Append,
    Execute,
    Close,
    Seal,
    Unwind,
}

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Fails, without effect.
    Before,
    /// Fails, and has had its effect.
    After,
    /// Has its effect and never returns.
    Hang,
    /// Fails, and so does every call after it, until the executor is [brought back](Fault::bring_back).
    Gone,
}

/// One fault, at the `countdown`th call of its kind.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) how: How,
    countdown: AtomicI64,
    /// It struck.
    pub(crate) fired: Notify,
    /// It struck, and a call hangs for good.
    pub(crate) hung: Notify,
    gone: AtomicBool,
    /// Calls that failed because the executor is gone.
    refused: watch::Sender<u64>,
    /// Calls of its kind.
    calls: watch::Sender<u64>,
}

impl Fault {
    pub(crate) fn new(place: Place, how: How, countdown: i64) -> Arc<Self> {
        Arc::new(Self {
            place,
            how,
            countdown: AtomicI64::new(countdown),
            fired: Notify::new(),
            hung: Notify::new(),
            gone: AtomicBool::new(false),
            refused: watch::Sender::new(0),
            calls: watch::Sender::new(0),
        })
    }

    async fn hang(&self) {
        self.hung.notify_one();
        std::future::pending::<()>().await;
    }

    /// An executor that is gone answers again.
    pub(crate) fn bring_back(&self) {
        self.gone.store(false, Ordering::SeqCst);
    }

    /// Waits until an executor that is gone was asked so often.
    pub(crate) async fn refused(&self, times: u64) {
        let mut refused = self.refused.subscribe();
        refused.wait_for(|count| *count >= times).await.expect("the sender is here");
    }

    /// Fails while the executor is gone.
    fn reach(&self) -> Result<(), ExecutorError> {
        if !self.gone.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.send_modify(|count| *count += 1);
        Err(TransportError::Closed.into())
    }

    /// Waits until there were so many calls of its kind.
    pub(crate) async fn called(&self, times: u64) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|count| *count >= times).await.expect("the sender is here");
    }

    fn strikes(&self, place: Place) -> Option<How> {
        if self.place == place {
            self.calls.send_modify(|count| *count += 1);
        }
        let strikes = self.place == place && self.countdown.fetch_sub(1, Ordering::SeqCst) == 0;
        if strikes {
            self.gone.store(self.how == How::Gone, Ordering::SeqCst);
            self.fired.notify_one();
        }
        strikes.then_some(self.how)
    }
}

#[derive(Debug)]
pub(crate) struct FaultyLog {
    pub(crate) inner: Arc<dyn OrderLog>,
    pub(crate) fault: Arc<Fault>,
    /// Whoever locks it holds the disk up.
    pub(crate) disk: Arc<RwLock<()>>,
}

impl OrderLog for FaultyLog {
    fn append(&self, records: &[Record]) -> Result<Position, LogError> {
        let _disk = self.disk.read();
        let Some(how) = self.fault.strikes(Place::Append) else {
            return self.inner.append(records);
        };
        if how != How::Before {
            self.inner.append(records)?;
        }
        Err(LogError::Storage("no space left on device".into()))
    }

    fn end(&self) -> Position {
        self.inner.end()
    }

    fn read(&self, from: Position) -> Result<RecordIter<'_>, LogError> {
        self.inner.read(from)
    }

    fn block_position(&self, number: u64) -> Result<Option<Position>, LogError> {
        self.inner.block_position(number)
    }

    fn last_block(&self) -> Result<Option<u64>, LogError> {
        self.inner.last_block()
    }

    fn is_unwound(&self, hash: B256) -> Result<bool, LogError> {
        self.inner.is_unwound(hash)
    }

    fn dropped(&self, hash: TxHash) -> Result<Option<DroppedTx>, LogError> {
        self.inner.dropped(hash)
    }

    fn cursor(&self) -> Result<Position, LogError> {
        self.inner.cursor()
    }

    fn set_cursor(&self, to: Position) -> Result<(), LogError> {
        self.inner.set_cursor(to)
    }

    fn settled(&self) -> Result<SettledBlocks, LogError> {
        self.inner.settled()
    }

    fn block_times(&self, number: u64) -> Result<Option<BlockTimes>, LogError> {
        self.inner.block_times(number)
    }

    fn settle(&self, settled: SettledBlocks, at: Duration) -> Result<(), LogError> {
        self.inner.settle(settled, at)
    }

    fn unsettle(&self, to: u64) -> Result<(), LogError> {
        self.inner.unsettle(to)
    }

    fn reached(&self, stage: Stage, block: u64) -> Result<Option<Duration>, LogError> {
        self.inner.reached(stage, block)
    }
}

#[derive(Debug)]
pub(crate) struct FaultyExecutor {
    pub(crate) inner: Arc<dyn Executor>,
    pub(crate) fault: Arc<Fault>,
}

#[derive(Debug)]
struct FaultyBuild {
    inner: Box<dyn BlockBuild>,
    fault: Arc<Fault>,
}

#[async_trait]
impl BlockBuild for FaultyBuild {
    fn base_fee(&self) -> Option<u64> {
        self.inner.base_fee()
    }

    async fn execute_noting(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
    ) -> Result<Executed, ExecutorError> {
        self.fault.reach()?;
        match self.fault.strikes(Place::Execute) {
            Some(How::Gone) => Err(TransportError::Closed.into()),
            None => self.inner.execute_noting(transactions, noting).await,
            Some(How::Before) => Err(ExecutorError::BuildDiscarded),
            Some(how) => {
                self.inner.execute_noting(transactions, noting).await?;
                if how == How::Hang {
                    self.fault.hang().await;
                }
                Err(ExecutorError::BuildDiscarded)
            }
        }
    }

    async fn close(&mut self) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        self.fault.reach()?;
        match self.fault.strikes(Place::Close) {
            Some(How::Gone) => Err(TransportError::Closed.into()),
            None => self.inner.close().await,
            Some(How::Before) => Err(ExecutorError::BuildDiscarded),
            Some(how) => {
                self.inner.close().await?;
                if how == How::Hang {
                    self.fault.hang().await;
                }
                Err(ExecutorError::BuildDiscarded)
            }
        }
    }

    async fn seal(self: Box<Self>) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        self.fault.reach()?;
        match self.fault.strikes(Place::Seal) {
            Some(How::Gone) => Err(TransportError::Closed.into()),
            None => self.inner.seal().await,
            Some(How::Before) => Err(ExecutorError::BuildDiscarded),
            Some(how) => {
                self.inner.seal().await?;
                if how == How::Hang {
                    self.fault.hang().await;
                }
                Err(ExecutorError::BuildDiscarded)
            }
        }
    }
}

#[async_trait]
impl Executor for FaultyExecutor {
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError> {
        self.inner.spec().await
    }

    async fn head(&self) -> Result<SealedHeader, ExecutorError> {
        self.fault.reach()?;
        self.inner.head().await
    }

    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError> {
        self.inner.header(at).await
    }

    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        self.fault.reach()?;
        self.inner.block(at).await
    }

    async fn subscribe(
        &self,
        from: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError> {
        self.inner.subscribe(from).await
    }

    async fn open_block(
        &self,
        attributes: BlockAttributes,
    ) -> Result<Box<dyn BlockBuild>, ExecutorError> {
        self.fault.reach()?;
        let inner = self.inner.open_block(attributes).await?;
        Ok(Box::new(FaultyBuild { inner, fault: self.fault.clone() }))
    }

    async fn unwind(&self, to: BlockNumHash) -> Result<(), ExecutorError> {
        self.fault.reach()?;
        match self.fault.strikes(Place::Unwind) {
            Some(How::Gone) => Err(TransportError::Closed.into()),
            None => self.inner.unwind(to).await,
            Some(How::Before) => Err(TransportError::Closed.into()),
            Some(how) => {
                self.inner.unwind(to).await?;
                if how == How::Hang {
                    self.fault.hang().await;
                }
                Err(TransportError::Closed.into())
            }
        }
    }

    async fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, ExecutorError> {
        self.inner.locate(hash).await
    }

    async fn accounts(
        &self,
        addresses: &[Address],
        at: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError> {
        self.fault.reach()?;
        self.inner.accounts(addresses, at).await
    }

    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        at: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError> {
        self.inner.find_accounts(prefixes, at).await
    }

    async fn storage(
        &self,
        address: Address,
        slot: B256,
        at: BlockSelector,
    ) -> Result<U256, ExecutorError> {
        self.inner.storage(address, slot, at).await
    }

    async fn code(&self, address: Address, at: BlockSelector) -> Result<Bytes, ExecutorError> {
        self.inner.code(address, at).await
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<B256>,
        at: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError> {
        self.inner.proof(address, slots, at).await
    }

    async fn call(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<CallOutcome, ExecutorError> {
        self.inner.call(request, at).await
    }

    async fn estimate_gas(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError> {
        self.inner.estimate_gas(request, at).await
    }

    async fn create_access_list(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError> {
        self.inner.create_access_list(request, at).await
    }

    async fn trace(
        &self,
        target: TraceTarget,
        options: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError> {
        self.inner.trace(target, options).await
    }

    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError> {
        self.inner.simulate(payload, at).await
    }

    async fn logs(&self, filter: &Filter, max_results: usize) -> Result<Vec<Log>, ExecutorError> {
        self.inner.logs(filter, max_results).await
    }

    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError> {
        self.fault.reach()?;
        self.inner.state_diff(number).await
    }
}
