//! Where batches go, and where they are read.

mod alt_da;
#[cfg(feature = "celestia")]
mod celestia;
mod celestia_pointer;
mod fetched;
mod l1_blob;
mod l1_calldata;
mod object_store;

use std::fmt;

use alloy::{
    consensus::Blob,
    primitives::{B256, Bytes, U256},
};
use async_trait::async_trait;
use millrace_l1::Market;
use millrace_proto::{DaKind, DaReadError, PostedBatch};

#[cfg(feature = "celestia")]
pub use self::celestia::{CelestiaBackend, CelestiaError};
pub use self::{
    alt_da::{AltDaBackend, AltDaError},
    l1_blob::L1BlobBackend,
    l1_calldata::L1CalldataBackend,
    object_store::ObjectStoreBackend,
};
use self::{
    celestia_pointer::CelestiaPointer,
    fetched::{StoredBatch, StoredBatchBuilder, as_posted, invalid, unavailable},
};
pub(crate) use self::{
    fetched::{check_pointer, missing_source},
    l1_blob::unpacked,
};

/// A batch to be put on the DA layer.
#[derive(Debug, Clone)]
pub struct SubmitRequest {
    /// Its number.
    pub number: u64,
    /// `keccak256` of its bytes: what identifies it.
    pub digest: B256,
    /// The encoded batch.
    pub data: Bytes,
}

impl SubmitRequest {
    /// The batch's bytes, if a backend that takes so many can take them.
    fn size_within(&self, max: usize) -> Result<usize, BackendError> {
        let size = self.data.len();
        if size > max { Err(BackendError::TooLarge { size, max }) } else { Ok(size) }
    }
}

/// What the posting transaction has to carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Where the bytes are; empty for blobs.
    pub da_pointer: Bytes,
    /// The blobs to attach, in order.
    pub blobs: Vec<Blob>,
}

/// A DA layer.
#[async_trait]
pub trait DaBackend: fmt::Debug + Send + Sync + 'static {
    /// The contract's byte for it.
    fn kind(&self) -> DaKind;

    /// Bytes of the largest batch that it takes.
    fn max_size(&self) -> usize;

    /// What posting a batch of `size` bytes would cost on L1 now, in wei.
    fn l1_cost(&self, size: usize, market: &Market) -> U256;

    /// What the DA layer asks for it, in wei, where that is not L1.
    fn layer_cost(&self, _size: usize) -> U256 {
        U256::ZERO
    }

    /// Where a batch with this digest is put, if that follows from the digest: what the layer has lost can be put there again. `None` where the
    /// layer says where it is, and where the posting transaction carries the batch.
    fn place_of(&self, _digest: B256) -> Option<Bytes> {
        None
    }

    /// Makes a batch available, as far as that is not the posting transaction's own work; returns
    /// once it is durable there. May be called again with the same batch: the answer is as good as the first, and the same where
    /// [`place_of`](Self::place_of) knows it, or the posting transaction carries the batch.
    ///
    /// # Errors
    /// See [`BackendError`].
    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError>;

    /// Whether a batch that was submitted, and is not on L1 yet, still is where it was put: its bytes are read and held against its digest. What the
    /// posting transaction carries needs no looking after.
    ///
    /// # Errors
    /// [`BackendError::Retry`] when the layer does not tell.
    async fn status(&self, _digest: B256, _pointer: &[u8]) -> Result<Availability, BackendError> {
        Ok(Availability::Available)
    }

    /// The bytes of a batch that was posted through a backend of this kind, checked against what L1 recorded of it.
    ///
    /// # Errors
    /// See [`DaReadError`]. [`DaReadError::Invalid`] is said of what everybody finds who has the bytes, and of nothing that depends on what is behind this backend.
    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError>;
}

/// Whether a batch is where it was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It is there, as it was put.
    Available,
    /// The layer says that it has no such batch, or has another one in its place.
    Missing,
}

/// L1 gas of a posting transaction whose batch is elsewhere (`settlement/contracts/snapshots`).
const POST_GAS: u64 = 95_000;

/// Wei for so much gas.
fn gas_cost(gas: u64, market: &Market) -> U256 {
    U256::from(gas).saturating_mul(U256::from(market.base_fee.saturating_add(market.tip)))
}

/// Why a backend did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The batch has to be smaller.
    #[error("a batch of {size} bytes is over the limit of {max}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// Bytes of the largest.
        max: usize,
    },
    /// Try again later.
    #[error("the DA layer does not answer: {0}")]
    Retry(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This layer takes nothing until somebody mends it; another one may.
    #[error("the DA layer refuses: {0}")]
    UseNext(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The backend cannot work as it is set up, or makes nothing of this batch. Another one may take it; this one is tried again only after the longest pause.
    #[error("the batch cannot be submitted: {0}")]
    Fatal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BackendError {
    /// What an HTTP status means that answers the attempt to put `size` bytes, where at most `max` go.
    fn from_status(
        status: u16,
        error: Box<dyn std::error::Error + Send + Sync>,
        size: usize,
        max: usize,
    ) -> Self {
        match status {
            // Nothing takes batches at this address, or there is no such bucket.
            404 | 405 => Self::Fatal(error),
            413 => Self::TooLarge { size, max: max.min(size.saturating_sub(1)) },
            408 | 429 => Self::Retry(error),
            400..500 => Self::UseNext(error),
            _ => Self::Retry(error),
        }
    }
}

#[cfg(test)]
mod tests;
