//! The contract's chained hash of batches.

use alloy::{
    primitives::{B256, keccak256},
    sol_types::SolValue,
};
use millrace_l1::Rollup;
use millrace_proto::PostedBatch;

/// The contract's hash of a batch, given that of the batch before it (zero before the first): `keccak256(abi.encode(previous,
/// header, keccak256(abi.encode(blobHashes)), keccak256(daPointer)))`.
pub fn batch_hash(previous: B256, batch: &PostedBatch) -> B256 {
    let blobs = keccak256(batch.blob_hashes.abi_encode());
    let pointer = keccak256(&batch.da_pointer);
    keccak256((previous, Rollup::BatchHeader::from(&batch.header), blobs, pointer).abi_encode())
}
