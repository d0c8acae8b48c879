//! The calldata of the posting transaction.

use alloy::primitives::{Bytes, U256};
use async_trait::async_trait;
use millrace_l1::Market;
use millrace_proto::{DaKind, DaReadError, PostedBatch};

use super::{BackendError, DaBackend, POST_GAS, Prepared, SubmitRequest, as_posted, gas_cost};

/// Bytes of the largest batch: nodes relay transactions of up to 128 KiB, of which the rest of the call and the envelope need less than a
/// kilobyte.
const MAX_SIZE: usize = 130_000;

/// Puts batches into the transaction itself, as the contract's `daPointer`. It costs what EIP-7623 asks for calldata: 40 gas a byte, where a blob costs about one
/// of another kind of gas; it is for L1s without blobs, and for times when these are dearer.
#[derive(Debug, Clone, Copy, Default)]
pub struct L1CalldataBackend;

#[async_trait]
impl DaBackend for L1CalldataBackend {
    fn kind(&self) -> DaKind {
        DaKind::L1Calldata
    }

    fn max_size(&self) -> usize {
        MAX_SIZE
    }

    fn l1_cost(&self, size: usize, market: &Market) -> U256 {
        // What carrying, hashing and logging a byte takes, or EIP-7623's floor if that is more.
        let size = size as u64;
        gas_cost((POST_GAS + 25 * size).max(21_000 + 40 * size), market)
    }

    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        request.size_within(self.max_size())?;
        Ok(Prepared { da_pointer: request.data, blobs: Vec::new() })
    }

    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        as_posted(batch, batch.da_pointer.clone())
    }
}
