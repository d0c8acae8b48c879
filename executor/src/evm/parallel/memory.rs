//! The multi-version memory: what the block's transactions have written.

use std::hash::{BuildHasher, Hasher};

use alloy_primitives::{
    Address, B256, U256,
    map::{B256Map, DefaultHashBuilder},
};
use crossbeam_utils::CachePadded;
use hashbrown::{HashTable, hash_table::Entry};
use parking_lot::RwLock;
use revm::bytecode::Bytecode;
use smallvec::SmallVec;

use super::{
    contended::Contended,
    state::{AccountState, SlotKey},
};

/// Power of two.
const SHARDS: usize = 64;

/// Values written in the block: the committed one, and those of transactions that have run but are not committed. What is not here
/// is as it was before the block.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) accounts: Versions<Address, AccountState>,
    pub(super) slots: Versions<SlotKey, U256>,
    code: RwLock<B256Map<Bytecode>>,
}

/// Versions of values, by their full key.
pub(super) struct Versions<K, V> {
    shards: Box<[Shard<K, V>]>,
    hasher: DefaultHashBuilder,
    /// Stays from block to block.
    contended: Contended,
}

/// What values are found by.
pub(super) trait Key: Copy + Eq {
    fn feed(&self, hasher: &mut impl Hasher);
}

/// On cache lines of its own, as different threads lock different shards.
type Shard<K, V> = CachePadded<RwLock<Values<K, V>>>;

struct Values<K, V> {
    committed: HashTable<(K, V)>,
    /// Versions by the transaction that wrote them, in no order; few at a time.
    pending: HashTable<(K, Pending<V>)>,
}

type Pending<V> = SmallVec<[(u32, V); 1]>;

impl Memory {
    /// The most entries that are kept room for when the memory is used again: some tens of megabytes.
    const KEPT: usize = 1 << 18;

    pub(super) fn code(&self, hash: B256) -> Option<Bytecode> {
        self.code.read().get(&hash).cloned()
    }

    pub(super) fn add_code(&self, hash: B256, code: Bytecode) {
        self.code.write().insert(hash, code);
    }

    /// Forgets what transactions contended for.
    pub(super) fn forget_contended(&self) {
        self.accounts.contended.forget();
        self.slots.contended.forget();
    }

    /// Forgets all values, for the next block.
    pub(super) fn clear(&self) {
        self.accounts.clear(Self::KEPT / SHARDS);
        self.slots.clear(Self::KEPT / SHARDS);
        self.code.write().clear();
    }
}

impl<K: Key, V: Copy> Versions<K, V> {
    fn hash(&self, key: &K) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        key.feed(&mut hasher);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> &RwLock<Values<K, V>> {
        // The tables use the lowest and the highest bits.
        &self.shards[(hash >> 40) as usize & (SHARDS - 1)]
    }

    /// What transaction `index` sees: the value of the last transaction before it that wrote one, and whether that is committed.
    pub(super) fn before(&self, key: &K, index: u32) -> Option<(V, bool)> {
        let hash = self.hash(key);
        let values = self.shard(hash).read();
        if !values.pending.is_empty()
            && let Some((_, versions)) = values.pending.find(hash, |(of, _)| of == key)
        {
            let earlier = versions.iter().filter(|(writer, _)| *writer < index);
            if let Some((_, value)) = earlier.max_by_key(|(writer, _)| *writer) {
                return Some((*value, false));
            }
        }
        values.committed.find(hash, |(of, _)| of == key).map(|(_, value)| (*value, true))
    }

    pub(super) fn committed(&self, key: &K) -> Option<V> {
        let hash = self.hash(key);
        let values = self.shard(hash).read();
        values.committed.find(hash, |(of, _)| of == key).map(|(_, value)| *value)
    }

    /// Notes that a run ahead was wrong about a value. Gives the hash by which its place is known to be contended for.
    pub(super) fn contend(&self, key: &K) -> u64 {
        let hash = self.hash(key);
        self.contended.mark(hash);
        hash
    }

    /// The hash of a place, if transactions contend for it.
    pub(super) fn contended(&self, key: &K) -> Option<u64> {
        Some(self.hash(key)).filter(|hash| self.contended.has(*hash))
    }

    /// Shows a value to later transactions before its transaction is committed, if transactions contend for it or `always`. Gives
    /// whether it did.
    pub(super) fn publish(&self, key: K, index: u32, value: V, always: bool) -> bool {
        let hash = self.hash(&key);
        if !always && !self.contended.has(hash) {
            return false;
        }
        let mut values = self.shard(hash).write();
        let again = |(key, _): &(K, _)| self.hash(key);
        match values.pending.entry(hash, |(of, _)| *of == key, again) {
            Entry::Occupied(entry) => entry.into_mut().1.push((index, value)),
            Entry::Vacant(entry) => {
                entry.insert((key, SmallVec::from_buf([(index, value)])));
            }
        }
        true
    }

    /// Takes back what `publish` showed.
    pub(super) fn withdraw(&self, key: &K, index: u32) {
        let hash = self.hash(key);
        self.shard(hash).write().withdraw(hash, key, index);
    }

    /// Sets the committed value, and takes back what transaction `published` showed. Gives the hash of the place, if transactions contend
    /// for it.
    pub(super) fn commit(&self, key: K, value: V, published: Option<u32>) -> Option<u64> {
        let hash = self.hash(&key);
        let mut values = self.shard(hash).write();
        if let Some(index) = published {
            values.withdraw(hash, &key, index);
        }
        let again = |(key, _): &(K, V)| self.hash(key);
        match values.committed.entry(hash, |(of, _)| *of == key, again) {
            Entry::Occupied(entry) => entry.into_mut().1 = value,
            Entry::Vacant(entry) => {
                entry.insert((key, value));
            }
        }
        Some(hash).filter(|hash| self.contended.has(*hash))
    }

    /// Changes the committed value, or `first` if there is none yet, and takes back what transaction `published` showed.
    /// The value stays if `change` gives `None`.
    pub(super) fn update<T, E>(
        &self,
        key: K,
        published: Option<u32>,
        first: impl FnOnce() -> Result<V, E>,
        change: impl FnOnce(&mut V) -> Option<T>,
    ) -> Result<Option<T>, E> {
        let hash = self.hash(&key);
        let mut values = self.shard(hash).write();
        if let Some(index) = published {
            values.withdraw(hash, &key, index);
        }
        let again = |(key, _): &(K, V)| self.hash(key);
        match values.committed.entry(hash, |(of, _)| *of == key, again) {
            Entry::Occupied(entry) => {
                let value = &mut entry.into_mut().1;
                let mut changed = *value;
                let result = change(&mut changed);
                if result.is_some() {
                    *value = changed;
                }
                Ok(result)
            }
            Entry::Vacant(entry) => {
                let mut value = first()?;
                let result = change(&mut value);
                if result.is_some() {
                    entry.insert((key, value));
                }
                Ok(result)
            }
        }
    }

    /// Visits all committed values.
    pub(super) fn visit(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.read().committed.iter().for_each(|(key, value)| visit(key, value));
        }
    }

    fn clear(&self, kept: usize) {
        for shard in &self.shards {
            let mut values = shard.write();
            values.pending.clear();
            values.committed.clear();
            if values.committed.capacity() > 2 * kept {
                values.committed.shrink_to(kept, |(key, _)| self.hash(key));
            }
        }
    }
}

impl<K: Eq, V> Values<K, V> {
    fn withdraw(&mut self, hash: u64, key: &K, index: u32) {
        if self.pending.is_empty() {
            return;
        }
        let Ok(mut entry) = self.pending.find_entry(hash, |(of, _)| of == key) else { return };
        let versions = &mut entry.get_mut().1;
        versions.retain(|(writer, _)| *writer != index);
        if versions.is_empty() {
            entry.remove();
        }
    }
}

impl<K, V> Default for Versions<K, V> {
    fn default() -> Self {
        let shard = |_| {
            let (committed, pending) = (HashTable::new(), HashTable::new());
            CachePadded::new(RwLock::new(Values { committed, pending }))
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher: Default::default(),
            contended: Contended::default(),
        }
    }
}

impl Key for Address {
    fn feed(&self, hasher: &mut impl Hasher) {
        let [low, high] = [&self[..16], &self[4..]]
            .map(|half| u128::from_ne_bytes(half.try_into().expect("an address has 20 bytes")));
        hasher.write_u128(low);
        hasher.write_u32((high >> 96) as u32);
    }
}

impl Key for SlotKey {
    fn feed(&self, hasher: &mut impl Hasher) {
        self.slot.as_limbs().iter().for_each(|limb| hasher.write_u64(*limb));
        self.address.feed(hasher);
        hasher.write_u32(self.generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_transactions_contend_for_is_shown_also_in_the_next_block() {
        let memory = Memory::default();
        let [contended, other] = [1, 2].map(Address::with_last_byte);
        let state = AccountState::base(None);
        let shown = |address| {
            let shown = memory.accounts.publish(address, 1, state, false);
            assert_eq!(memory.accounts.before(&address, 2), shown.then_some((state, false)));
            memory.accounts.withdraw(&address, 1);
            shown
        };
        assert!(!shown(contended) && !shown(other));
        memory.accounts.contend(&contended);
        assert!(shown(contended) && !shown(other));
        memory.clear();
        assert!(shown(contended));
        memory.forget_contended();
        assert!(!shown(contended));
        assert!(memory.accounts.publish(other, 1, state, true));
    }
}
