//! Where contracts keep the entries of mappings: keys of slots that follow from short words.

use alloy::primitives::{B256, U256, keccak256};

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
    fn hash(self, key: U256, place: B256) -> B256 {
        let mut input = [0; 64];
        let (key_at, place_at) = match self {
            Self::Solidity => (0, 32),
            Self::Vyper => (32, 0),
        };
        input[key_at..key_at + 32].copy_from_slice(&key.to_be_bytes::<32>());
        input[place_at..place_at + 32].copy_from_slice(place.as_slice());
        keccak256(input)
    }
}

impl Mapping<U256> {
    /// The slot of the entry of `key`.
    pub(super) fn slot(&self, key: U256) -> B256 {
        let mut entry = self.order.hash(key, self.place.into());
        if let Some(then) = self.then {
            entry = self.order.hash(then, entry);
        }
        U256::from_be_bytes(entry.0).wrapping_add(U256::from(self.offset)).into()
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
