//! The DA adapter, and how posted bytes are read back.

use std::fmt;

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, Bytes, U256},
};
use async_trait::async_trait;

use crate::{
    service::{ErrorClass, TransportError},
    types::{DataPrice, PostedBatch},
};

/// The DA adapter service.
#[async_trait]
pub trait DaAdapter: fmt::Debug + Send + Sync + 'static {
    /// How far batching and posting are.
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError>;

    /// Has batches go through one backend, whatever its health and its price; with `None`, order, health and prices decide again. Outlasts a restart.
    /// Batches that were put somewhere already stay there.
    ///
    /// # Errors
    /// [`DaAdapterError::UnknownBackend`] if the adapter is not configured with it.
    async fn use_backend(&self, backend: Option<&str>) -> Result<(), DaAdapterError>;

    /// A closed batch that the outbox still holds, or `None`.
    async fn batch(&self, number: u64) -> Result<Option<OutboxBatch>, DaAdapterError>;
}

/// How far batching and posting are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaStatus {
    /// The backend in use, for example `l1_blob`.
    pub backend: String,
    /// The last block that a closed batch holds; 0 before the first.
    pub batched_block: u64,
    /// Batches closed.
    pub batches_closed: u64,
    /// Batches that the L1 contract has recorded.
    pub batches_posted: u64,
    /// Last block of the last posted batch; 0 before the first.
    pub posted_block: u64,
    /// Bytes in the outbox that are not posted yet.
    pub backlog_bytes: u64,
    /// Batch bytes posted since the service's data folder was made.
    pub posted_bytes: u64,
    /// Transactions in them.
    pub posted_transactions: u64,
    /// L1 fees paid for them, wei.
    pub l1_fees: U256,
    /// Why posting has halted and what to do, if it has.
    pub halted: Option<String>,
    /// The backend that an operator has chosen, if one has.
    pub chosen: Option<String>,
    /// How long the contract still takes what waits, if that is known.
    pub window: Option<WindowLeft>,
    /// Blocks that the contract takes no more, if there are any.
    pub refused: Option<RefusedBlocks>,
    /// What batches cost now, through the backend in use, in batches of the usual size.
    pub data_price: DataPrice,
}

/// Blocks that no batch can hold any more: the contract takes none that leaves out what is overdue in L1's queue, and no batch reaches so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedBlocks {
    /// The last block that is posted: those after it are refused.
    pub after: u64,
    /// The last block of the batch that was refused.
    pub last: BlockNumHash,
    /// How many entries of L1's queue, from its first one, blocks have to take before anything else.
    pub due: u64,
}

/// The sequencing window: how long the contract still takes what waits to be posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowLeft {
    /// Seconds until an entry of L1's queue is overdue that what waits leaves out; the whole window if there is none.
    pub seconds: u64,
    /// The whole window, seconds.
    pub whole: u64,
}

/// A closed batch in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxBatch {
    /// From 1.
    pub number: u64,
    /// First L2 block.
    pub first_block: u64,
    /// Last L2 block.
    pub last_block: u64,
    /// `keccak256` of the data.
    pub digest: B256,
    /// The encoded batch.
    pub data: Bytes,
    /// Whether the L1 contract has recorded it.
    pub posted: bool,
}

/// Why the DA adapter did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DaAdapterError {
    /// The outbox failed: a full or broken disk, or data that cannot be.
    #[error("outbox: {0}")]
    Outbox(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No backend of this name is configured.
    #[error("no backend {backend} is configured: [da_adapter] backends has {known}")]
    UnknownBackend {
        /// The name.
        backend: String,
        /// Those that are, with commas between them.
        known: String,
    },
    /// The adapter is in another process and does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl DaAdapterError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownBackend { .. } => ErrorClass::Caller,
            Self::Outbox(_) => ErrorClass::Fatal,
            Self::Transport(_) => ErrorClass::Retryable,
        }
    }
}

/// Reads posted bytes back from where they were posted, whatever the backend. Used by derivation.
#[async_trait]
pub trait DaReader: fmt::Debug + Send + Sync + 'static {
    /// The encoded batch, checked against what the contract recorded: blob versioned hashes (or the backend's
    /// commitment), and the digest.
    ///
    /// # Errors
    /// See [`DaReadError`]; [`DaReadError::Invalid`] is the same for everyone and means that derivation skips the batch.
    async fn read(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError>;
}

/// Why posted bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DaReadError {
    /// The DA layer does not answer, or does not have the bytes yet.
    #[error("batch {batch} is not available yet: {source}")]
    Unavailable {
        /// The batch.
        batch: u64,
        /// What the DA layer said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What came back is not what the contract recorded: the source lies or is broken; another may have the bytes.
    #[error("batch {batch}: the source's bytes do not match L1's record: {problem}")]
    Mismatch {
        /// The batch.
        batch: u64,
        /// What does not match.
        problem: String,
    },
    /// The bytes are those that were posted, and they are no batch.
    #[error("batch {batch} is invalid: {problem}")]
    Invalid {
        /// The batch.
        batch: u64,
        /// What is wrong.
        problem: String,
    },
    /// No reader for this kind of DA is configured.
    #[error("batch {batch} is on {kind}, for which no reader is configured: {hint}")]
    NoReader {
        /// The batch.
        batch: u64,
        /// The kind.
        kind: &'static str,
        /// What to configure.
        hint: &'static str,
    },
}

impl DaReadError {
    /// What the caller can do.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } | Self::Mismatch { .. } => ErrorClass::Retryable,
            Self::Invalid { .. } => ErrorClass::Fatal,
            Self::NoReader { .. } => ErrorClass::Caller,
        }
    }
}
