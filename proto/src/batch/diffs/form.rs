//! Where contracts keep the entries of mappings: keys of slots that follow from short words.

use alloy::primitives::{B256, U256};
use millrace_crypto::keccak256_batch;

/// What is hashed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Order {
    /// `keccak256(key ‖ place)`, as Solidity does.
    Solidity,
    /// `keccak256(place ‖ key)`, as Vyper does.
    Vyper,
}

/// Slots of one mapping, or of one mapping of mappings, of which each has its own key.
///
/// `W` is a word, or its position among the batch's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mapping<W> {
    pub(super) order: Order,
    /// The mapping's own slot.
    pub(super) place: U256,
    /// The second key, if the entry is itself a mapping's.
    pub(super) then: Option<W>,
    /// Slots from where the entry begins.
    pub(super) offset: u64,
}

impl Order {
    /// What is hashed for the entry of `key` of the mapping at `place`.
    fn input(self, key: U256, place: B256) -> [u8; 64] {
        let mut input = [0; 64];
        let (key_at, place_at) = match self {
            Self::Solidity => (0, 32),
            Self::Vyper => (32, 0),
        };
        input[key_at..key_at + 32].copy_from_slice(&key.to_be_bytes::<32>());
        input[place_at..place_at + 32].copy_from_slice(place.as_slice());
        input
    }

    /// Where the entries of a mapping are: of each key, or of each pair of keys if it is one of mappings.
    pub(super) fn entries(self, place: U256, keys: &[(U256, Option<U256>)]) -> Vec<B256> {
        let inputs: Vec<_> = keys.iter().map(|(key, _)| self.input(*key, place.into())).collect();
        let mut entries = keccak256_batch(&inputs);
        let seconds = entries.iter().zip(keys).map(|(entry, (_, then))| Some((*entry, (*then)?)));
        if let Some(seconds) = seconds.collect::<Option<Vec<_>>>() {
            let inputs: Vec<_> =
                seconds.into_iter().map(|(entry, then)| self.input(then, entry)).collect();
            entries = keccak256_batch(&inputs);
        }
        entries
    }
}

impl Mapping<U256> {
    /// The slots of the entries of some keys.
    pub(super) fn slots(&self, keys: &[U256]) -> Vec<B256> {
        let keys: Vec<_> = keys.iter().map(|key| (*key, self.then)).collect();
        let entries = self.order.entries(self.place, &keys).into_iter();
        let offset = U256::from(self.offset);
        entries.map(|entry| U256::from_be_bytes(entry.0).wrapping_add(offset).into()).collect()
    }
}

impl<W> Mapping<W> {
    /// The same with another kind of word.
    pub(super) fn map<V>(self, word: impl FnOnce(W) -> V) -> Mapping<V> {
        Mapping {
            order: self.order,
            place: self.place,
            then: self.then.map(word),
            offset: self.offset,
        }
    }
}
