//! Keys of the tables.

use alloy::primitives::{Address, B256};
use alloy_trie::Nibbles;

/// Bytes that a history key has more than the key whose history it is.
pub(crate) const HISTORY_SUFFIX: usize = size_of::<u64>();

/// Ends a path. It is above every nibble, so a node comes right after the nodes below it, and no path's key is the beginning
/// of another's.
const PATH_END: u8 = 0x10;

pub(crate) fn storage(address: Address, slot: B256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(slot.as_slice());
    key
}

/// A node's key: the trie's owner (nothing for the account trie, the hashed address for a storage trie), a byte a nibble,
/// the end.
pub(crate) fn node(owner: &[u8], path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(owner.len() + path.len() + 1 + HISTORY_SUFFIX);
    key.extend_from_slice(owner);
    key.extend(path.iter());
    key.push(PATH_END);
    key
}

/// Splits a list of paths, each ended as in a key, at the end of the first.
pub(crate) fn split_path(paths: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = paths.iter().position(|byte| *byte == PATH_END)?;
    Some(paths.split_at(end + 1))
}

/// A history key: what the value under `key` was before block `number` changed it.
pub(crate) fn history(key: &[u8], number: u64) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// The key that a history key belongs to; the prefix by which RocksDB indexes history tables.
pub(crate) fn history_owner(key: &[u8]) -> &[u8] {
    &key[..key.len().saturating_sub(HISTORY_SUFFIX)]
}
