//! The executor: builds blocks, and answers for chain and state.

use std::{fmt, sync::Arc};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, TxHash, U256},
    rpc::types::{
        AccessListResult, BlockOverrides, EIP1186AccountProofResponse, Filter, Log,
        TransactionRequest, simulate::SimulatePayload, state::StateOverride,
        trace::geth::GethDebugTracingOptions,
    },
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    service::{
        BoxStream, ErrorClass, SimulatedBlock, SimulationError, TraceLimit, TraceTarget,
        TransportError,
    },
    types::{
        AccountInfo, AddressPrefix, BlockAttributes, ChainSpec, ExecutedBlock, RecoveredTx,
        RejectReason, SealedHeader, SharedReceipt, StateDiff,
    },
};

/// The open block after one of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenPoint {
    /// Number of the block.
    pub number: u64,
    /// Hash of the block before it.
    pub parent: B256,
    /// The last transaction of the frame.
    pub last: TxHash,
}

/// Names a sealed block, or how far the open one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSelector {
    /// The sealed head.
    Latest,
    /// By number.
    Number(u64),
    /// By hash.
    Hash(B256),
    /// The open block after one of its frames, which was executed with [`Noting::Kept`] or more; [`Latest`](Self::Latest) once the block is sealed. For accounts, storage, code, calls,
    /// simulations, and the block itself, which has neither roots nor bloom then ([`ExecutedBlock::is_open`]).
    Open(OpenPoint),
}

impl fmt::Display for BlockSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Hash(hash) => write!(f, "{hash}"),
            Self::Open(OpenPoint { number, parent, last }) => {
                write!(f, "open:{number}:{parent}:{last}")
            }
        }
    }
}

/// What became of a transaction in the open block.
#[derive(Debug, Clone, PartialEq)]
pub enum TxOutcome {
    /// In the block.
    Included {
        /// Index in the block.
        index: u64,
        /// Gas that this transaction used.
        gas_used: u64,
        /// Its receipt.
        receipt: SharedReceipt,
    },
    /// Invalid at this place: left out for good.
    Invalid(RejectReason),
    /// Valid as far as is known, but its gas limit does not fit into what the block has left.
    NoRoom,
}

/// What is noted of the state while transactions are executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noting {
    /// Nothing: it costs nothing.
    #[default]
    Nothing,
    /// What they change is kept: the block can be read as it is after them ([`BlockSelector::Open`]), as long as it is open, and until it is stored.
    Kept,
    /// It is also told.
    Told,
}

/// What came of executing transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// One a transaction, in order.
    pub outcomes: Vec<TxOutcome>,
    /// With [`Noting::Told`], what the block changed since that was noted last, or since it was opened: what the protocol itself does at its start is in the
    /// first of its diffs. `None` also from an executor in another process that cannot tell.
    pub diff: Option<Arc<StateDiff>>,
}

/// A block that is being built. Dropping it discards the block.
#[async_trait]
pub trait BlockBuild: fmt::Debug + Send {
    /// Wei per gas in this block; `None` before London.
    fn base_fee(&self) -> Option<u64>;

    /// Executes transactions in order: an outcome for each.
    ///
    /// Deposits (type `0x7E`) are always included, and must come before all other transactions.
    ///
    /// # Errors
    /// An error discards the block.
    async fn execute(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
    ) -> Result<Vec<TxOutcome>, ExecutorError> {
        Ok(self.execute_noting(transactions, Noting::Nothing).await?.outcomes)
    }

    /// The same, and notes what they change in the state if asked to. Asked without transactions, it notes what was changed up to now, so that what the next ones
    /// change can be told alone. What was noted once is noted to the block's end.
    ///
    /// # Errors
    /// An error discards the block.
    async fn execute_noting(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
    ) -> Result<Executed, ExecutorError>;

    /// Closes the block: nothing more is executed, its roots are computed, and the next block may be opened on it. Nobody else sees it until it is
    /// sealed.
    ///
    /// # Errors
    /// An error discards the block.
    async fn close(&mut self) -> Result<Arc<ExecutedBlock>, ExecutorError>;

    /// Closes the block if it is not closed yet, stores it in one atomic write, and makes it the head.
    ///
    /// # Errors
    /// On an error the head is as it was, and what was opened on the block is discarded.
    async fn seal(self: Box<Self>) -> Result<Arc<ExecutedBlock>, ExecutorError>;
}

/// A call that changes nothing, as in `eth_call`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest {
    /// What to call.
    pub transaction: TransactionRequest,
    /// State to assume instead of the chain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_overrides: Option<StateOverride>,
    /// Block fields to assume instead of the chain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_overrides: Option<BlockOverrides>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallStatus {
    /// Returned.
    Success,
    /// Reverted; the output is the revert data.
    Reverted,
    /// Stopped by the EVM, for example out of gas.
    Halted(String),
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOutcome {
    /// How it ended.
    pub status: CallStatus,
    /// Return or revert data.
    pub output: Bytes,
    /// Gas used.
    pub gas_used: u64,
}

/// The result of a gas estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GasEstimate {
    /// The least gas limit found with which the call succeeds.
    Gas(u64),
    /// The call fails with all the gas that it may use.
    Fails(CallOutcome),
}

/// Accounts by how their addresses begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundAccounts {
    /// For each prefix the account whose address begins with it; `None` if there is none, or more than one.
    pub accounts: Vec<Option<Address>>,
    /// About how many accounts the head's state has.
    pub total: u64,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxLocation {
    /// The block.
    pub block: BlockNumHash,
    /// Index in the block.
    pub index: u64,
}

/// The executor service. Reads see sealed blocks only, unless they name the [open one](BlockSelector::Open), and all of one call sees the same block.
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// The chain's genesis and rules.
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError>;

    /// The sealed head.
    async fn head(&self) -> Result<SealedHeader, ExecutorError>;

    /// A header, or `None` if there is no such block.
    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError>;

    /// A block with its receipts, or `None` if there is no such block.
    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError>;

    /// Sealed blocks from `from` on, in order and without gaps; follows the head. After an [unwinding](Self::unwind) it goes
    /// on with the block after the last that stands: a block whose number came before replaces that one and all after it. The
    /// stream ends on an error or when the service stops.
    async fn subscribe(
        &self,
        from: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError>;

    /// Opens the block after the head, or after one that is closed and not sealed yet. At most one block is open at a time, and one is closed; opening another discards the
    /// first.
    ///
    /// # Errors
    /// [`ExecutorError::NotHead`] if the attributes do not follow the head.
    async fn open_block(
        &self,
        attributes: BlockAttributes,
    ) -> Result<Box<dyn BlockBuild>, ExecutorError>;

    /// Takes back all blocks after `to`, the newest first, and discards the open block. Nothing happens where `to` is the head.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownBlock`] if `to` is not in the chain, and [`ExecutorError::StatePruned`] if the history does not go back
    /// so far, with as many blocks taken back as it does.
    async fn unwind(&self, to: BlockNumHash) -> Result<(), ExecutorError>;

    /// Where a transaction is, or `None` if no block holds it.
    async fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, ExecutorError>;

    /// Accounts, in the order of the addresses; `None` for one that does not exist.
    async fn accounts(
        &self,
        addresses: &[Address],
        at: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError>;

    /// Accounts by how their addresses begin. Costs least if the prefixes ascend.
    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        at: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError>;

    /// A storage slot; zero if it was never written.
    async fn storage(
        &self,
        address: Address,
        slot: B256,
        at: BlockSelector,
    ) -> Result<U256, ExecutorError>;

    /// An account's code; empty if it has none.
    async fn code(&self, address: Address, at: BlockSelector) -> Result<Bytes, ExecutorError>;

    /// Merkle proofs of an account and its slots (EIP-1186), against the state root of the block.
    async fn proof(
        &self,
        address: Address,
        slots: Vec<B256>,
        at: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError>;

    /// Runs a call on top of a block's state.
    async fn call(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<CallOutcome, ExecutorError>;

    /// Finds the least gas limit with which a call succeeds.
    async fn estimate_gas(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError>;

    /// The access list that a call would use (EIP-2930), and its gas with that list.
    async fn create_access_list(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError>;

    /// Executes transactions or a call again under a tracer, and gives its result in geth's JSON: that of the tracer for a transaction
    /// or a call, and for a block an array of `{"txHash": ..., "result": ...}`. Deposits and forced transactions are traced like all others.
    ///
    /// # Errors
    /// [`ExecutorError::TraceLimit`] if it takes too much; [`ExecutorError::StatePruned`] if the state before the block is not kept;
    /// [`ExecutorError::InvalidRequest`] for options that are not understood, tracers that are not there (JavaScript's), the genesis block,
    /// and an index that the block does not have.
    async fn trace(
        &self,
        target: TraceTarget,
        options: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError>;

    /// Blocks of calls on top of a block, by the rules of `eth_simulateV1` in the execution-apis specification.
    ///
    /// # Errors
    /// [`ExecutorError::Simulation`] with the specification's code.
    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError>;

    /// Logs that match a filter whose block range is given in numbers (or as one block hash), in order.
    ///
    /// # Errors
    /// [`ExecutorError::LimitExceeded`] if there are more than `max_results`.
    async fn logs(&self, filter: &Filter, max_results: usize) -> Result<Vec<Log>, ExecutorError>;

    /// What a block changed, or `None` if there is no such block or its diff was pruned.
    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError>;
}

/// Why the executor did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// No such block.
    #[error("block {0} is unknown")]
    UnknownBlock(BlockSelector),
    /// State of this block is not kept any more.
    #[error("state of block {block} is not kept; the oldest kept is {oldest}")]
    StatePruned {
        /// Asked for.
        block: u64,
        /// Oldest block whose state can be read.
        oldest: u64,
    },
    /// The attributes do not follow the head.
    #[error("block attributes do not follow the head {head_number} ({head_hash}): {problem}")]
    NotHead {
        /// The head.
        head_number: u64,
        /// Its hash.
        head_hash: B256,
        /// What does not fit.
        problem: String,
    },
    /// The call's request makes no sense, for example a gas price below the base fee.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// A transaction that must be included cannot be.
    #[error("transaction {hash} cannot be included: {reason}")]
    NotIncludable {
        /// The transaction.
        hash: TxHash,
        /// Why.
        #[source]
        reason: RejectReason,
    },
    /// The result would be over a limit.
    #[error("{what} is over the limit of {limit}; ask for less")]
    LimitExceeded {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A trace takes too much.
    #[error(transparent)]
    TraceLimit(TraceLimit),
    /// A simulation has no result.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// The block was discarded, because another was opened or the service stops; or it is not open as it was named.
    #[error("the open block was discarded")]
    BuildDiscarded,
    /// The store failed: a full or broken disk, or data that cannot be.
    #[error("executor storage: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A worker of the executor is gone.
    #[error("executor worker stopped: {0}")]
    Stopped(String),
    /// The executor is in another process and does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl ExecutorError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownBlock(_)
            | Self::StatePruned { .. }
            | Self::NotHead { .. }
            | Self::InvalidRequest(_)
            | Self::NotIncludable { .. }
            | Self::LimitExceeded { .. }
            | Self::TraceLimit(_)
            | Self::Simulation(_) => ErrorClass::Caller,
            Self::BuildDiscarded | Self::Transport(_) => ErrorClass::Retryable,
            Self::Store(_) | Self::Stopped(_) => ErrorClass::Fatal,
        }
    }
}
