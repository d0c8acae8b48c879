//! What keys of slots were computed of, found by trying: the words that a batch's transactions and logs name, as keys of mappings in the
//! places where compilers put them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::{
    consensus::Transaction,
    primitives::{Address, B256, Log, U256, keccak256, map::HashSet},
};

use super::form::{Mapping, Order};
use crate::types::{ExecutedBlock, RecoveredTx, StateDiff};

/// Slots from an entry's first on in which it is looked for: members of structures.
const MEMBERS: u64 = 16;
/// Of so many words, and so many pairs of words, it is tried in which mappings of a contract they are keys.
const SAMPLE: usize = 32;
/// So many are tried at a time after that.
const AT_ONCE: usize = 256;
/// Places of mappings among a contract's first slots that are tried: of Solidity's, and of Vyper's.
const PLACES: (u64, u64) = (64, 32);
/// Words of a transaction's input that are looked at, and of a log's data.
const INPUT_WORDS: usize = 32;

/// Hashes that may be tried for a contract, and for each of its slots, first with words, then with pairs; and for all contracts of a batch. Nobody can
/// keep the batcher busy with more.
const TRIES: (usize, usize) = (20_000, 32);
const BATCH_TRIES: usize = 1 << 24;
/// Words and pairs of words that are remembered of a batch, each once for every contract that it may be a key of.
const WORDS: usize = 1 << 20;
/// Contracts of a transaction that are words for each other.
const PARTS: usize = 16;

/// Structures that OpenZeppelin's upgradeable contracts keep their state in (ERC-7201), and how many of their members are tried.
const NAMESPACES: [(&str, u64); 5] = [
    ("openzeppelin.storage.ERC20", 2),
    ("openzeppelin.storage.ERC721", 6),
    ("openzeppelin.storage.ERC1155", 2),
    ("openzeppelin.storage.Nonces", 1),
    ("openzeppelin.storage.AccessControl", 1),
];
/// Keys below this are places of their own, no hashes.
const LEAST_HASHED: U256 = U256::from_limbs([0, 1, 0, 0]);

/// Where an entry is: in which mapping, under which key.
pub(super) type Origin = (Mapping<U256>, U256);

/// The keys of slots whose origin is known. (A batch is the same without them, only larger.)
#[derive(Debug, Clone, Default)]
pub struct KeyHints {
    known: BTreeMap<(Address, B256), Origin>,
}

impl KeyHints {
    /// What can be found out about the slots that some blocks changed, each block with what it changed.
    pub fn of(blocks: &[(Arc<ExecutedBlock>, Arc<StateDiff>)]) -> Self {
        let mut changed: BTreeMap<Address, Contract> = BTreeMap::new();
        for (address, account) in blocks.iter().flat_map(|(_, diff)| &diff.accounts) {
            let hashed = |key: &&B256| U256::from_be_bytes(key.0) >= LEAST_HASHED;
            let keys: Vec<_> = account.storage.keys().filter(hashed).copied().collect();
            if !keys.is_empty() {
                changed.entry(*address).or_default().unknown.extend(keys);
            }
        }
        let mut contracts = Contracts { changed, words: WORDS, tries: BATCH_TRIES };
        for (block, _) in blocks {
            for (tx, receipt) in block.transactions.iter().zip(&block.receipts) {
                contracts.learn(tx, &receipt.logs);
            }
        }
        let places: Vec<_> = places().collect();
        let mut known = BTreeMap::new();
        let Contracts { changed, mut tries, .. } = contracts;
        for (address, mut contract) in changed {
            contract.search(&places, &mut tries);
            known.extend(contract.known.into_iter().map(|(key, origin)| ((address, key), origin)));
        }
        Self { known }
    }

    /// The words that keys follow from.
    pub(super) fn words(&self) -> impl Iterator<Item = U256> {
        self.known.values().flat_map(|(mapping, key)| mapping.then.into_iter().chain([*key]))
    }

    pub(super) fn origin(&self, account: Address, key: B256) -> Option<Origin> {
        self.known.get(&(account, key)).copied()
    }
}

/// Where mappings may be, the commonest places first.
fn places() -> impl Iterator<Item = (Order, U256)> {
    let namespaces = NAMESPACES.into_iter().flat_map(|(id, members)| {
        let hash = U256::from_be_bytes(keccak256(id).0).wrapping_sub(U256::ONE);
        let mut place = keccak256(hash.to_be_bytes::<32>());
        place[31] = 0;
        let place = U256::from_be_bytes(place.0);
        (0..members).map(move |member| place.wrapping_add(U256::from(member)))
    });
    let solidity = (0..PLACES.0).map(U256::from).chain(namespaces);
    let vyper = (0..PLACES.1).map(U256::from);
    solidity.map(|place| (Order::Solidity, place)).chain(vyper.map(|place| (Order::Vyper, place)))
}

/// The contracts whose slots changed, and how much more may be remembered of them and tried.
struct Contracts {
    changed: BTreeMap<Address, Contract>,
    words: usize,
    tries: usize,
}

impl Contracts {
    /// Takes note of the words that a transaction names, for the contracts that take part in it.
    fn learn(&mut self, tx: &RecoveredTx, logs: &[Log]) {
        let sender = word(tx.sender());
        let to = tx.tx().to();
        let mut parts: BTreeSet<_> =
            to.into_iter().chain(logs.iter().map(|log| log.address)).collect();
        for log in logs {
            let topics = log.topics().iter().skip(1).filter_map(short_word);
            let topics: Vec<_> = topics.collect();
            for (at, first) in topics.iter().enumerate() {
                self.add_word(log.address, *first);
                for second in &topics[at + 1..] {
                    self.add_pair(log.address, (*first, *second));
                }
            }
            short_words(&log.data.data).for_each(|word| self.add_word(log.address, word));
        }
        // Of more contracts than this, nobody learns of the others: that would grow with the square.
        let all: Vec<_> = parts.iter().copied().map(word).collect();
        let known = if parts.len() <= PARTS { all } else { to.map(word).into_iter().collect() };
        let input: Vec<_> =
            short_words(tx.tx().input().get(4..).unwrap_or_default()).take(INPUT_WORDS).collect();
        parts.retain(|part| self.changed.contains_key(part));
        for part in parts {
            self.add_word(part, sender);
            for other in &known {
                self.add_word(part, *other);
                self.add_pair(part, (sender, *other));
            }
            input.iter().for_each(|word| self.add_word(part, *word));
        }
    }

    fn add_word(&mut self, contract: Address, word: U256) {
        if let Some(contract) = self.changed.get_mut(&contract)
            && self.words > 0
        {
            self.words -= usize::from(contract.words.add(word));
        }
    }

    fn add_pair(&mut self, contract: Address, pair: (U256, U256)) {
        if let Some(contract) = self.changed.get_mut(&contract)
            && self.words > 0
        {
            self.words -= usize::from(contract.pairs.add(pair));
        }
    }
}

fn word(address: Address) -> U256 {
    address.into_word().into()
}

/// Words that look like addresses or like small numbers, not like amounts.
fn short_words(bytes: &[u8]) -> impl Iterator<Item = U256> {
    let (words, _) = bytes.as_chunks::<32>();
    let is_key = |word: &U256| matches!(word.byte_len(), 0..=4 | 13..=20);
    words.iter().take(INPUT_WORDS).filter_map(short_word).filter(is_key)
}

fn short_word(word: impl AsRef<[u8]>) -> Option<U256> {
    let word = U256::from_be_slice(word.as_ref());
    (word.byte_len() <= Address::len_bytes()).then_some(word)
}

/// Distinct things in the order in which they came.
#[derive(Debug)]
struct InOrder<T> {
    list: Vec<T>,
    set: HashSet<T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { list: Vec::new(), set: HashSet::default() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> InOrder<T> {
    /// Whether it is new.
    fn add(&mut self, item: T) -> bool {
        let is_new = self.set.insert(item);
        if is_new {
            self.list.push(item);
        }
        is_new
    }
}

/// A contract whose slots changed.
#[derive(Debug, Default)]
struct Contract {
    unknown: BTreeSet<B256>,
    known: Vec<(B256, Origin)>,
    words: InOrder<U256>,
    pairs: InOrder<(U256, U256)>,
}

impl Contract {
    fn search(&mut self, places: &[(Order, U256)], batch_tries: &mut usize) {
        let words = std::mem::take(&mut self.words.list);
        let pairs = std::mem::take(&mut self.pairs.list);
        let words: Vec<_> = words.into_iter().map(|word| (word, None)).collect();
        let pairs: Vec<_> = pairs.into_iter().map(|(first, then)| (first, Some(then))).collect();
        for keys in [words, pairs] {
            let granted = (TRIES.0 + TRIES.1 * self.unknown.len()).min(*batch_tries);
            let mut tries = granted;
            for (order, place) in places {
                self.try_mapping(*order, *place, &keys, &mut tries);
                if self.unknown.is_empty() || tries == 0 {
                    break;
                }
            }
            *batch_tries -= granted - tries;
        }
    }

    /// Looks for entries of a mapping: of all keys, if one of the first is an entry's.
    fn try_mapping(
        &mut self,
        order: Order,
        place: U256,
        keys: &[(U256, Option<U256>)],
        tries: &mut usize,
    ) {
        let (sample, rest) = keys.split_at(keys.len().min(SAMPLE));
        if self.try_keys(order, place, sample, tries) {
            for keys in rest.chunks(AT_ONCE) {
                self.try_keys(order, place, keys, tries);
            }
        }
    }

    /// Whether one of these keys is an entry's.
    fn try_keys(
        &mut self,
        order: Order,
        place: U256,
        keys: &[(U256, Option<U256>)],
        tries: &mut usize,
    ) -> bool {
        let known = self.known.len();
        let keys = &keys[..keys.len().min(*tries)];
        *tries -= keys.len();
        for (entry, (key, then)) in order.entries(place, keys).into_iter().zip(keys) {
            self.take(entry, Mapping { order, place, then: *then, offset: 0 }, *key);
        }
        self.known.len() > known
    }

    /// Takes the slots of an entry as known.
    fn take(&mut self, entry: B256, mapping: Mapping<U256>, key: U256) {
        let first = U256::from_be_bytes(entry.0);
        let last = first.saturating_add(U256::from(MEMBERS - 1));
        let found: Vec<_> = self.unknown.range(entry..=last.into()).copied().collect();
        for slot in found {
            self.unknown.remove(&slot);
            let offset = U256::from_be_bytes(slot.0).wrapping_sub(first).saturating_to();
            self.known.push((slot, (Mapping { offset, ..mapping }, key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::b256;

    use super::*;

    /// <https://eips.ethereum.org/EIPS/eip-7201>, and OpenZeppelin's `ERC20Upgradeable.sol`.
    #[test]
    fn places_are_those_of_openzeppelins_tokens() {
        let balances = b256!("52c63247e1f47db19d5ce0460030c497f067ca4cebf71ba98eeadabe20bace00");
        assert!(places().any(|(_, place)| place == U256::from_be_bytes(balances.0)));
    }
}
