//! The root of a state in memory.

use alloy_primitives::B256;
use alloy_trie::{
    TrieAccount,
    root::{state_root_unhashed, storage_root_unhashed},
};
use millrace_executor::MemoryState;

/// The Merkle Patricia root of a whole state. Hashes all of it.
pub fn state_root(state: &MemoryState) -> B256 {
    state_root_unhashed(state.accounts().map(|(address, account)| {
        let slots = state.slots(address).map(|(slot, value)| (slot.into(), value));
        let storage_root = storage_root_unhashed(slots);
        let account =
            TrieAccount::new(account.nonce, account.balance, storage_root, account.code_hash);
        (address, account)
    }))
}
