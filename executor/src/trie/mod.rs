//! Ethereum's hexary Merkle Patricia trie over path-keyed nodes. Pure: nodes come from a [`NodeSource`], changes go back
//! to the caller.
//!
//! ```text
//!  update   sorted updates + touched nodes -> root, changed nodes
//!  build    leaves                         -> nodes above them
//!  ordered  a list as it grows             -> its root
//!  seal     new nodes                      -> their RLP and hashes, level by level
//!  proof    key + nodes on its path        -> EIP-1186 proof, value
//!  node     a node as it is worked on; RLP through alloy-trie
//! ```
//!
//! Keys are 32 bytes (hashes of addresses or slots), so every key has 64 nibbles and branches never hold values. A node
//! whose RLP has 32 bytes or more lives under its path; a shorter one lives inside its parent's RLP and nowhere else. The
//! root node is always stored, however short.

mod build;
mod node;
mod ordered;
mod proof;
mod seal;
mod source;
mod update;

#[cfg(test)]
mod tests;

pub use self::source::TrieError;
pub(crate) use self::{
    ordered::OrderedTrie,
    proof::{Proof, prove},
    source::NodeSource,
    update::{NodeChange, TrieUpdate, Update, update},
};
