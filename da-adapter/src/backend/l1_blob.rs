//! EIP-4844 blobs of the posting transaction.

use std::slice;

use alloy::{
    consensus::Blob,
    eips::eip4844::{BYTES_PER_BLOB, DATA_GAS_PER_BLOB},
    primitives::{Bytes, U256},
};
use async_trait::async_trait;
use millrace_l1::Market;
use millrace_proto::DaKind;

use super::{BackendError, DaBackend, POST_GAS, Prepared, SubmitRequest, gas_cost};
use crate::blob::{MAX_BLOBS, blobs_needed, capacity, pack};

/// Packs batches into blobs. Commitments, proofs and the transaction are the transaction manager's.
#[derive(Debug, Clone, Copy, Default)]
pub struct L1BlobBackend;

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
        let prepared = L1BlobBackend.submit(request(data.clone())).await.unwrap();
        assert_eq!(prepared.blobs.len(), 2);
        assert_eq!(unpack(&prepared.blobs).unwrap(), data);
        assert_eq!(L1BlobBackend.submit(request(data)).await.unwrap(), prepared);
    }

    #[tokio::test]
    async fn a_batch_over_six_blobs_is_too_large() {
        let error = L1BlobBackend.submit(request(vec![7; 780_285])).await.unwrap_err();
        assert!(matches!(error, BackendError::TooLarge { size: 780_285, max: 780_284 }));
    }
}
