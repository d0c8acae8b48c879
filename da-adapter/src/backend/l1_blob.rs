//! EIP-4844 blobs of the posting transaction.

use std::slice;

use alloy::{
    consensus::Blob,
    eips::eip4844::{BYTES_PER_BLOB, DATA_GAS_PER_BLOB},
    primitives::{Bytes, U256},
};
use async_trait::async_trait;
use millrace_l1::{BeaconClient, BeaconError, BlobBlock, Market};
use millrace_proto::{DaKind, DaReadError, PostedBatch};

use super::{
    BackendError, DaBackend, POST_GAS, Prepared, SubmitRequest, as_posted, gas_cost, invalid,
    missing_source, unavailable,
};
use crate::blob::{MAX_BLOBS, blobs_needed, capacity, pack, unpack};

/// Packs batches into blobs, and reads them back. Commitments, proofs and the transaction are the transaction manager's.
#[derive(Debug, Clone, Default)]
pub struct L1BlobBackend {
    beacon: Option<BeaconClient>,
}

impl L1BlobBackend {
    /// A backend that reads blobs from this beacon node. Posting needs none.
    pub const fn new(beacon: Option<BeaconClient>) -> Self {
        Self { beacon }
    }
}

#[async_trait]
impl DaBackend for L1BlobBackend {
    fn kind(&self) -> DaKind {
        DaKind::L1Blob
    }

    fn max_size(&self) -> usize {
        capacity(MAX_BLOBS)
    }

    fn l1_cost(&self, size: usize, market: &Market) -> U256 {
        let blob_gas = blobs_needed(size) as u64 * DATA_GAS_PER_BLOB;
        let blobs = U256::from(blob_gas).saturating_mul(U256::from(market.blob_base_fee));
        gas_cost(POST_GAS, market).saturating_add(blobs)
    }

    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        let max = self.max_size();
        let size = request.size_within(max)?;
        let packed = pack(&request.data).ok_or(BackendError::TooLarge { size, max })?;
        let mut blobs = Vec::with_capacity(packed.len() / BYTES_PER_BLOB);
        for blob in
            packed.chunks_exact(BYTES_PER_BLOB).filter_map(|blob| <&Blob>::try_from(blob).ok())
        {
            // Not by value: an unoptimised build has no room on its stack for that.
            blobs.extend_from_slice(slice::from_ref(blob));
        }
        Ok(Prepared { da_pointer: Bytes::new(), blobs })
    }

    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let number = batch.header.number;
        let beacon = self.beacon.as_ref().ok_or_else(|| missing_source(batch))?;
        let block = BlobBlock { number: batch.l1.block.number, timestamp: batch.l1_timestamp };
        let blobs = beacon.blobs(block, &batch.blob_hashes).await.map_err(|error| match error {
            BeaconError::Mismatch { .. } => {
                DaReadError::Mismatch { batch: number, problem: error.to_string() }
            }
            other => unavailable(batch, other),
        })?;
        unpacked(batch, &blobs)
    }
}

/// The batch that blobs hold. They are those that L1 recorded: what is wrong with them is the poster's fault.
pub(crate) fn unpacked<B: AsRef<[u8]>>(
    batch: &PostedBatch,
    blobs: &[B],
) -> Result<Bytes, DaReadError> {
    let data = unpack(blobs).map_err(|error| invalid(batch, error.to_string()))?;
    as_posted(batch, data.into())
}

#[cfg(test)]
mod tests {
    use millrace_proto::batch_digest;

    use super::*;
    use crate::blob::unpack;

    fn request(data: Vec<u8>) -> SubmitRequest {
        SubmitRequest { number: 1, digest: batch_digest(&data), data: data.into() }
    }

    #[tokio::test]
    async fn a_batch_comes_back_from_its_blobs() {
        let data = vec![7; 200_000];
        let prepared = L1BlobBackend::default().submit(request(data.clone())).await.unwrap();
        assert_eq!(prepared.blobs.len(), 2);
        assert_eq!(unpack(&prepared.blobs).unwrap(), data);
        assert_eq!(L1BlobBackend::default().submit(request(data)).await.unwrap(), prepared);
    }

    #[tokio::test]
    async fn a_batch_over_six_blobs_is_too_large() {
        let error = L1BlobBackend::default().submit(request(vec![7; 780_285])).await.unwrap_err();
        assert!(matches!(error, BackendError::TooLarge { size: 780_285, max: 780_284 }));
    }
}
