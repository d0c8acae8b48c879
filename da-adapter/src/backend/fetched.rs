//! What comes back from where a batch was put, and what it means beside L1's record.

use alloy::primitives::{B256, Bytes, Keccak256};
use millrace_proto::{BatchLimits, DaKind, DaReadError, PostedBatch, batch_digest};

use super::{Availability, CelestiaPointer, alt_da, object_store};

/// A batch that was read, as far as it may be kept.
#[derive(Debug)]
pub(crate) struct StoredBatch {
    /// Digest of what is there, whatever its size.
    pub(crate) digest: B256,
    /// What is there, unless it is larger than any batch.
    pub(crate) data: Option<Bytes>,
}

impl StoredBatch {
    /// Bytes from somebody who may have others than those that were posted.
    pub(super) fn checked(self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let (number, digest) = (batch.header.number, batch.header.digest);
        if self.digest != digest {
            let problem =
                format!("the digest of what is there is {}, L1 recorded {digest}", self.digest);
            return Err(DaReadError::Mismatch { batch: number, problem });
        }
        self.data.ok_or_else(|| invalid(batch, "it is larger than any batch"))
    }

    /// Whether it is the batch with this digest.
    pub(super) fn availability(&self, digest: B256) -> Availability {
        if self.digest == digest { Availability::Available } else { Availability::Missing }
    }
}

/// Reads one, in memory bounded by the largest batch. What is larger is hashed all the same: whether it is what L1 recorded must not depend on who reads.
#[derive(Debug)]
pub(super) struct StoredBatchBuilder {
    hasher: Keccak256,
    data: Option<Vec<u8>>,
}

impl Default for StoredBatchBuilder {
    fn default() -> Self {
        Self { hasher: Keccak256::new(), data: Some(Vec::new()) }
    }
}

impl StoredBatchBuilder {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        let limit = BatchLimits::default().max_encoded;
        self.data = self.data.take().filter(|data| data.len() + chunk.len() <= limit);
        if let Some(data) = &mut self.data {
            data.extend_from_slice(chunk);
        }
    }

    pub(super) fn finish(self) -> StoredBatch {
        StoredBatch { digest: self.hasher.finalize(), data: self.data.map(Bytes::from) }
    }
}

/// Bytes that are certainly those that were posted, if they have the posted digest.
pub(super) fn as_posted(batch: &PostedBatch, data: Bytes) -> Result<Bytes, DaReadError> {
    let (got, digest) = (batch_digest(&data), batch.header.digest);
    if got == digest {
        return Ok(data);
    }
    Err(invalid(batch, format!("the posted bytes have the digest {got}, not {digest}")))
}

/// What L1 recorded is no batch.
pub(super) fn invalid(batch: &PostedBatch, problem: impl Into<String>) -> DaReadError {
    DaReadError::Invalid { batch: batch.header.number, problem: problem.into() }
}

/// The layer does not have it, or does not answer.
pub(super) fn unavailable(
    batch: &PostedBatch,
    source: impl std::error::Error + Send + Sync + 'static,
) -> DaReadError {
    DaReadError::Unavailable { batch: batch.header.number, source: Box::new(source) }
}

/// What everybody can tell of a batch from L1's record alone, also who has no reader for its kind.
pub(crate) fn check_pointer(batch: &PostedBatch) -> Result<(), DaReadError> {
    match batch.header.da_kind {
        DaKind::L1Blob | DaKind::L1Calldata => Ok(()),
        DaKind::AltDa => alt_da::commitment_of(batch).map(drop),
        DaKind::Celestia => CelestiaPointer::of(batch).map(drop),
        DaKind::ObjectStore => object_store::key_of(batch).map(drop),
    }
}

/// There is no source for the batch.
pub(crate) fn missing_source(batch: &PostedBatch) -> DaReadError {
    let kind = batch.header.da_kind;
    let hint = match kind {
        DaKind::L1Blob => "give the URL of a beacon node (`--beacon`, or beacon in [l1])",
        DaKind::L1Calldata => "L1 itself has it",
        DaKind::AltDa => "give the URL of an alt-DA server (`--alt-da`, or [da_adapter.alt_da])",
        DaKind::Celestia if cfg!(feature = "celestia") => {
            "give the URL of a Celestia node (`--celestia`, or [da_adapter.celestia])"
        }
        DaKind::Celestia => "this build has no client for it: build with the feature celestia",
        DaKind::ObjectStore => {
            "give the URL of the object store (`--da-store`, or [da_adapter.object_store])"
        }
    };
    DaReadError::NoReader { batch: batch.header.number, kind: kind.as_str(), hint }
}
