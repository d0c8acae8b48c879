//! The chain that batches are made of.

use millrace_proto::{BatchPayload, ChainSpec};

/// What a batch has to agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchedChain {
    /// The rollup's EIP-155 chain id.
    pub(crate) id: u64,
    /// What its batches hold.
    pub(crate) payload: BatchPayload,
}

impl From<&ChainSpec> for BatchedChain {
    fn from(spec: &ChainSpec) -> Self {
        Self { id: spec.chain_id(), payload: spec.rollup().batch_payload }
    }
}
