//! The chain that batches are made of.

use millrace_proto::{BatchLimits, BatchPayload, ChainSpec, DecodedBatch};

use crate::error::DaAdapterRunError;

/// What a batch has to agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchedChain {
    /// The rollup's EIP-155 chain id.
    pub(crate) id: u64,
    /// What its batches hold.
    pub(crate) payload: BatchPayload,
}

impl BatchedChain {
    /// Reads a batch of the outbox, as everybody else will.
    pub(crate) fn decode(
        &self,
        number: u64,
        data: &[u8],
    ) -> Result<DecodedBatch, DaAdapterRunError> {
        DecodedBatch::decode(data, self.payload, &BatchLimits::default())
            .map_err(|source| DaAdapterRunError::Undecodable { number, source })
    }
}

impl From<&ChainSpec> for BatchedChain {
    fn from(spec: &ChainSpec) -> Self {
        Self { id: spec.chain_id(), payload: spec.rollup().batch_payload }
    }
}
