//! What is sent, and what comes of it.

use std::fmt;

use alloy::{
    eips::eip4844::Blob,
    primitives::{Address, B256, Bytes, Keccak256, U256},
};
use millrace_proto::L1Ref;

/// A call to make on L1, once.
#[derive(Clone)]
pub struct TxRequest {
    /// Names the intent, for example `post-12`: sending the same id again continues what was begun instead of beginning
    /// again, also after a restart. An id belongs to one call: the same id with other contents is refused.
    pub id: String,
    /// The contract.
    pub to: Address,
    /// Call data.
    pub input: Bytes,
    /// Wei to send along.
    pub value: U256,
    /// Blobs of a type 3 transaction; none makes it type 2.
    pub blobs: Vec<Blob>,
    /// The gas limit, instead of the estimate with its margin.
    pub gas_limit: Option<u64>,
}

impl fmt::Debug for TxRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxRequest")
            .field("id", &self.id)
            .field("to", &self.to)
            .field("input_bytes", &self.input.len())
            .field("value", &self.value)
            .field("blobs", &self.blobs.len())
            .field("gas_limit", &self.gas_limit)
            .finish()
    }
}

impl TxRequest {
    /// A call without ether.
    pub fn call(id: impl Into<String>, to: Address, input: impl Into<Bytes>) -> Self {
        Self {
            id: id.into(),
            to,
            input: input.into(),
            value: U256::ZERO,
            blobs: Vec::new(),
            gas_limit: None,
        }
    }

    /// The same with blobs.
    pub fn with_blobs(mut self, blobs: Vec<Blob>) -> Self {
        self.blobs = blobs;
        self
    }

    /// Identifies the contents, whatever the id.
    pub(super) fn digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(self.to);
        hasher.update(self.value.to_be_bytes::<32>());
        hasher.update((self.input.len() as u64).to_be_bytes());
        hasher.update(&self.input);
        for blob in &self.blobs {
            hasher.update(blob);
        }
        hasher.finalize()
    }
}

/// A transaction that L1 has included, as deep as the configuration asks, and that did not revert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmedTx {
    /// The transaction and its block.
    pub l1: L1Ref,
    /// Wei paid for gas and blobs.
    pub fee_paid: U256,
    /// Gas used.
    pub gas_used: u64,
    /// Blob gas used.
    pub blob_gas_used: u64,
    /// The account's nonce in it.
    pub nonce: u64,
    /// Versions that were signed, the first one included.
    pub attempts: u32,
}
