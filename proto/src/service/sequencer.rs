//! The sequencer: takes transactions, orders them, and tells their fate.

use std::{fmt, net::IpAddr, time::Duration};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, Bytes, TxHash},
};
use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use std::sync::Arc;

use crate::{
    service::{BoxStream, ErrorClass, ExecutorError, OpenPoint, TransportError},
    types::{DataPrice, Preconfirmation, RecoveredTx, RejectReason, Stage, TxStatus},
};

/// The three heads. Each only moves forward, and unsafe >= safe >= finalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainHeads {
    /// The last sealed block.
    pub latest: BlockNumHash,
    /// The last block of the last posted batch; genesis before the first.
    pub safe: BlockNumHash,
    /// The last block of the last finalized commitment; genesis before the first.
    pub finalized: BlockNumHash,
}

/// How full the pool is, in transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// Accepted, and executable in the next frame.
    pub pending: u64,
    /// Accepted, and waiting for an earlier nonce.
    pub queued: u64,
}

/// What is in the pool: accepted, and in no sealed block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolContent {
    /// Executable in the next frame, or in the open block already.
    pub pending: Vec<Arc<RecoveredTx>>,
    /// Waiting for an earlier nonce.
    pub queued: Vec<Arc<RecoveredTx>>,
}

/// A transaction in the pool or in a block, with its place.
#[derive(Debug, Clone)]
pub struct PooledTx {
    /// The transaction.
    pub tx: Arc<RecoveredTx>,
    /// Where it is in its life.
    pub status: TxStatus,
}

/// The result of a submission that others may follow already.
pub type Admission = BoxFuture<'static, Result<TxHash, SubmitError>>;

/// Admissions whose results are there already.
pub fn admitted(results: impl IntoIterator<Item = Result<TxHash, SubmitError>>) -> Vec<Admission> {
    results.into_iter().map(|result| ready(result).boxed()).collect()
}

/// Takes transactions. What JSON-RPC needs of a sequencer, and of the embedded dev L1.
#[async_trait]
pub trait TxPool: fmt::Debug + Send + Sync + 'static {
    /// Takes EIP-2718 bytes of a signed transaction. `Ok` means accepted: validated and durable.
    ///
    /// Submitting what is known already gives [`RejectReason::AlreadyKnown`]; its status can be read.
    ///
    /// # Errors
    /// [`SubmitError::Rejected`] says why it was refused; it then has no effect.
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError>;

    /// Takes many transactions in, in order: returns as soon as others may follow them. The result of each, as of [`submit`](Self::submit), is there once it is on disk, or
    /// was refused.
    async fn admit(&self, raw: Vec<Bytes>) -> Vec<Admission> {
        let mut results = Vec::with_capacity(raw.len());
        for raw in raw {
            results.push(self.submit(raw).await);
        }
        admitted(results)
    }

    /// As [`submit`](Self::submit), of a client at an address: how much of one client waits may be limited.
    async fn submit_from(&self, raw: Bytes, _from: Option<IpAddr>) -> Result<TxHash, SubmitError> {
        self.submit(raw).await
    }

    /// As [`admit`](Self::admit), of a client at an address.
    async fn admit_from(&self, raw: Vec<Bytes>, _from: Option<IpAddr>) -> Vec<Admission> {
        self.admit(raw).await
    }

    /// The nonce after all accepted transactions of `sender` that have no gap before them.
    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError>;

    /// A transaction that is accepted and in no sealed block yet.
    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError>;

    /// Every stage that a transaction has reached, in order; none of one that was never accepted, or where nobody tells.
    async fn stages(&self, _hash: TxHash) -> Result<Vec<TxStatus>, SequencerError> {
        Ok(Vec::new())
    }

    /// The transactions in the pool in no order, or one sender's; `None` if they are more than `limit`.
    ///
    /// # Errors
    /// [`SequencerError::Unavailable`] where only their number is told.
    async fn pool_content(
        &self,
        _sender: Option<Address>,
        _limit: usize,
    ) -> Result<Option<PoolContent>, SequencerError> {
        let why = "this node does not tell what is in the pool; ask the sequencer";
        Err(SequencerError::Unavailable(why.to_owned()))
    }

    /// What a priority fee has to pay for data; nothing where none is asked for.
    async fn data_price(&self) -> Result<DataPrice, SequencerError> {
        Ok(DataPrice::default())
    }

    /// How full the pool is.
    async fn pool_status(&self) -> Result<PoolStatus, SequencerError>;

    /// The heads.
    async fn heads(&self) -> Result<ChainHeads, SequencerError>;

    /// How far the open block is on disk and executed, so that it can be read in the executor: whoever was told of a frame finds it there. `None` if all that was told is in the sealed
    /// head, and where nobody tells of open blocks. Asking has the executor keep what can be read, for a while.
    async fn open_point(&self) -> Result<Option<OpenPoint>, SequencerError> {
        Ok(None)
    }

    /// Frames of open blocks from now on, each as soon as it is both on disk and executed. `None` where nobody tells of them.
    ///
    /// With [`FrameDetail::StateDiffs`] it begins with the next frame whose diff is known, and every frame has its own from there on. Without, a frame
    /// may have one all the same, as somebody else asked for it.
    ///
    /// The last item of a stream is an error, which says why there are no more: [`SequencerError::Lagged`] if it was read too slowly,
    /// [`SequencerError::NoStateDiffs`] if they were asked for and nobody makes them.
    async fn preconfirmations(
        &self,
        _detail: FrameDetail,
    ) -> Result<Option<Preconfirmations>, SequencerError> {
        Ok(None)
    }
}

/// What frames are told with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum FrameDetail {
    /// Transactions and their receipts.
    #[default]
    Receipts,
    /// Also what they changed in the state.
    StateDiffs,
}

/// Frames of open blocks, in order.
pub type Preconfirmations = BoxStream<Arc<Preconfirmation>, SequencerError>;

/// The sequencer service.
#[async_trait]
pub trait Sequencer: TxPool {
    /// Submits many transactions at once: a result for each, in order.
    async fn submit_many(&self, raw: Vec<Bytes>) -> Vec<Result<TxHash, SubmitError>>;

    /// Waits until a transaction has reached `stage` (or was dropped) and returns its status then.
    ///
    /// # Errors
    /// [`SequencerError::UnknownTransaction`] if it was never accepted.
    async fn wait_for(&self, hash: TxHash, stage: Stage) -> Result<TxStatus, SequencerError>;

    /// Every stage that a transaction has reached and will reach; ends after the last.
    ///
    /// # Errors
    /// [`SequencerError::UnknownTransaction`] if it was never accepted.
    async fn watch(
        &self,
        hash: TxHash,
    ) -> Result<BoxStream<TxStatus, SequencerError>, SequencerError>;

    /// A transaction and its stage, or `None` if it was never accepted.
    async fn transaction(&self, hash: TxHash) -> Result<Option<PooledTx>, SequencerError>;

    /// Heads, pool and limits.
    async fn status(&self) -> Result<SequencerStatus, SequencerError>;
}

/// What the sequencer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencerStatus {
    /// The EIP-155 chain id.
    pub chain_id: u64,
    /// The heads.
    pub heads: ChainHeads,
    /// The pool.
    pub pool: PoolStatus,
    /// Target time between blocks that hold transactions.
    pub block_time: Duration,
    /// Base fee of the next block, wei per gas.
    pub next_base_fee: u64,
    /// The software's version.
    pub version: String,
    /// What a priority fee has to pay for data.
    pub data_price: DataPrice,
}

/// Why a submission failed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Refused; no effect.
    #[error(transparent)]
    Rejected(#[from] RejectReason),
    /// Not decided: it may or may not have been taken. Resubmitting is safe, since the hash is the identity.
    #[error(transparent)]
    Failed(#[from] SequencerError),
}

/// Why the sequencer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// Never accepted here.
    #[error("transaction {0} is unknown; submit it first")]
    UnknownTransaction(TxHash),
    /// The executor did not answer.
    #[error("executor: {0}")]
    Executor(#[from] ExecutorError),
    /// The order log cannot be written: a full or broken disk. Nothing is acknowledged until it can.
    #[error("order log: {0}")]
    OrderLog(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A subscriber was too slow for what it subscribed to.
    #[error("{missed} frames were missed; read faster, and subscribe again")]
    Lagged {
        /// Frames that it did not get.
        missed: u64,
    },
    /// State diffs of open blocks were asked for where nobody tells them.
    #[error(
        "no state diffs of open blocks are told here; ask the sequencer itself, and see that it and its executor have one version"
    )]
    NoStateDiffs,
    /// The sequencer takes nothing now: it starts or stops, or has halted.
    #[error("the sequencer is not taking transactions: {0}")]
    Unavailable(String),
    /// The sequencer is in another process and does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl SequencerError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownTransaction(_) | Self::NoStateDiffs => ErrorClass::Caller,
            Self::Executor(error) => error.class(),
            Self::Lagged { .. } | Self::Unavailable(_) | Self::Transport(_) => {
                ErrorClass::Retryable
            }
            Self::OrderLog(_) => ErrorClass::Fatal,
        }
    }
}
