//! Inclusion proofs: that a transaction is in a block, the block in a batch, and the batch on L1. `docs/inclusion-proofs.md` specifies them
//!
//! ```text
//!  transaction ─(trie)─> header of its block ─(parents)─> last header of the batch <─(names)─ batch's bytes
//!       └────────────────── one of the batch's transactions ────────────────────────────────────┘ │ digest, blobs
//!  hash of an L1 block ─(trie)─> receipt ─> BatchPosted: header, blob hashes, pointer <────────────┘
//!  hash of an L1 block ─(trie)─> receipt ─> BatchCommitted: last block's hash, state root
//! ```
//!
//! All of it is checked without asking anyone; L1 alone has to say that the blocks are its own ([`Inclusion::confirm`]).

mod da;
mod error;
mod on_l1;
#[cfg(test)]
mod tests;
mod verify;

use alloy::primitives::{Address, Bytes, TxHash};
use millrace_l1::EventProof;
use serde::{Deserialize, Serialize};

pub use self::{
    error::InclusionProofError,
    on_l1::{ConfirmError, Confirmation, Standing},
    verify::{Holding, Inclusion},
};

/// The version of [`InclusionProof`] that this build makes and reads.
pub const INCLUSION_PROOF_VERSION: u64 = 1;

/// That a transaction of a rollup is in a batch on L1, with everything that the hashes of L1's blocks do not hold themselves. As JSON, it is what `millrace_getInclusionProof`
/// answers and `millrace verify-inclusion` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InclusionProof {
    /// The form of this proof: [`INCLUSION_PROOF_VERSION`].
    #[serde(with = "alloy::serde::quantity")]
    pub version: u64,
    /// The EIP-155 chain id of the L1 that it is for.
    #[serde(with = "alloy::serde::quantity")]
    pub l1_chain_id: u64,
    /// The rollup contract there.
    pub rollup: Address,
    /// The rollup's EIP-155 chain id.
    #[serde(with = "alloy::serde::quantity")]
    pub chain_id: u64,
    /// The transaction's hash.
    pub transaction_hash: TxHash,
    /// Its index in its block.
    #[serde(with = "alloy::serde::quantity")]
    pub transaction_index: u64,
    /// The transaction (EIP-2718).
    pub transaction: Bytes,
    /// Nodes from its block's transactions root to it.
    pub transaction_proof: Vec<Bytes>,
    /// RLP of the headers from its block to the batch's last one, each the parent of the next.
    pub headers: Vec<Bytes>,
    /// The batch's bytes (`docs/batch-format.md`).
    pub batch: Bytes,
    /// The contract's record of the batch.
    pub posted: EventProof,
    /// The contract's record of its commitment, if it was committed when the proof was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<EventProof>,
}
