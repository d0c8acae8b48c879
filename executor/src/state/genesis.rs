//! The genesis block, without a database.

use alloy::{consensus::Sealable, primitives::B256};
use alloy_trie::root::state_root_ref_unhashed;
use millrace_proto::{ChainSpec, SealedHeader};

/// The state root of the genesis allocation.
fn genesis_root(spec: &ChainSpec) -> B256 {
    state_root_ref_unhashed(&spec.genesis().alloc)
}

/// The genesis block's header. Hashes the whole allocation.
pub fn genesis_header(spec: &ChainSpec) -> SealedHeader {
    spec.genesis_header(genesis_root(spec)).seal_slow()
}
