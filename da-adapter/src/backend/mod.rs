//! Where batches go.

mod alt_da;
#[cfg(feature = "celestia")]
mod celestia;
mod celestia_pointer;
mod l1_blob;
mod l1_calldata;
mod object_store;

use std::fmt;

use alloy::{
    consensus::Blob,
    primitives::{B256, Bytes, Keccak256, U256},
};
use async_trait::async_trait;
use millrace_l1::Market;
use millrace_proto::{BatchLimits, DaKind};

pub(crate) use self::alt_da::may_stand_for;
#[cfg(feature = "celestia")]
pub use self::celestia::{CelestiaBackend, CelestiaError};
pub(crate) use self::celestia_pointer::CelestiaPointer;
pub use self::{
    alt_da::{AltDaBackend, AltDaError},
    l1_blob::L1BlobBackend,
    l1_calldata::L1CalldataBackend,
    object_store::ObjectStoreBackend,
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

    /// Makes a batch available, as far as that is not the posting transaction's own work; returns
    /// once it is durable there. Idempotent: submitting the same digest again gives the same
    /// answer.
    ///
    /// # Errors
    /// See [`BackendError`].
    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError>;
}

/// A batch that was read, as far as it may be kept.
#[derive(Debug)]
pub(crate) struct StoredBatch {
    /// Digest of what is there, whatever its size.
    pub(crate) digest: B256,
    /// What is there, unless it is larger than any batch.
    pub(crate) data: Option<Bytes>,
}

/// Reads one, in memory bounded by the largest batch. What is larger is hashed all the same: whether it is what L1 recorded must not depend on who reads.
#[derive(Debug)]
struct StoredBatchBuilder {
    hasher: Keccak256,
    data: Option<Vec<u8>>,
}

impl Default for StoredBatchBuilder {
    fn default() -> Self {
        Self { hasher: Keccak256::new(), data: Some(Vec::new()) }
    }
}

impl StoredBatchBuilder {
    fn push(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        let limit = BatchLimits::default().max_encoded;
        self.data = self.data.take().filter(|data| data.len() + chunk.len() <= limit);
        if let Some(data) = &mut self.data {
            data.extend_from_slice(chunk);
        }
    }

    fn finish(self) -> StoredBatch {
        StoredBatch { digest: self.hasher.finalize(), data: self.data.map(Bytes::from) }
    }
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

#[cfg(test)]
mod tests;
