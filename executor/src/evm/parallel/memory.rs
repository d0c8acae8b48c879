//! The multi-version memory: what the block's transactions have written.

use std::hash::{BuildHasher, Hash};

use alloy_primitives::{
    Address, B256, U256,
    map::{B256Map, HashMap, hash_map::Entry},
};
use parking_lot::RwLock;
use revm::bytecode::Bytecode;

use super::state::{AccountState, SlotKey};

/// Power of two.
const SHARDS: usize = 128;

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
    hasher: alloy_primitives::map::DefaultHashBuilder,
}

/// On cache lines of its own, as different threads lock different shards.
#[repr(align(128))]
struct Shard<K, V>(RwLock<Values<K, V>>);

struct Values<K, V> {
    committed: HashMap<K, V>,
    /// Versions by the transaction that wrote them, in no order; few at a time.
    pending: HashMap<K, Vec<(u32, V)>>,
}

impl Memory {
    pub(super) fn code(&self, hash: B256) -> Option<Bytecode> {
        self.code.read().get(&hash).cloned()
    }

    pub(super) fn add_code(&self, hash: B256, code: Bytecode) {
        self.code.write().insert(hash, code);
    }
}

impl<K: Hash + Eq + Copy, V: Copy> Versions<K, V> {
    fn shard(&self, key: &K) -> &RwLock<Values<K, V>> {
        // The low bits choose within the shard's own table.
        let hash = self.hasher.hash_one(key) >> 40;
        &self.shards[hash as usize & (SHARDS - 1)].0
    }

    /// What transaction `index` sees: the value of the last transaction before it that wrote one.
    pub(super) fn before(&self, key: &K, index: u32) -> Option<V> {
        let values = self.shard(key).read();
        if !values.pending.is_empty()
            && let Some(versions) = values.pending.get(key)
        {
            let earlier = versions.iter().filter(|(writer, _)| *writer < index);
            if let Some((_, value)) = earlier.max_by_key(|(writer, _)| *writer) {
                return Some(*value);
            }
        }
        values.committed.get(key).copied()
    }

    pub(super) fn committed(&self, key: &K) -> Option<V> {
        self.shard(key).read().committed.get(key).copied()
    }

    /// Shows a value to later transactions before its transaction is committed.
    pub(super) fn publish(&self, key: K, index: u32, value: V) {
        self.shard(&key).write().pending.entry(key).or_default().push((index, value));
    }

    /// Takes back what `publish` showed.
    pub(super) fn withdraw(&self, key: &K, index: u32) {
        self.shard(key).write().withdraw(key, index);
    }

    /// Sets the committed value, in place of what its transaction had published.
    pub(super) fn commit(&self, key: K, value: V, published: Option<u32>) {
        let mut values = self.shard(&key).write();
        if let Some(index) = published {
            values.withdraw(&key, index);
        }
        values.committed.insert(key, value);
    }

    /// Changes the committed value, or `first` if there is none yet. Nothing changes if `change` gives `None`.
    pub(super) fn update<T, E>(
        &self,
        key: K,
        first: impl FnOnce() -> Result<V, E>,
        change: impl FnOnce(&mut V) -> Option<T>,
    ) -> Result<Option<T>, E> {
        let mut values = self.shard(&key).write();
        match values.committed.entry(key) {
            Entry::Occupied(entry) => {
                let value = entry.into_mut();
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
                    entry.insert(value);
                }
                Ok(result)
            }
        }
    }

    /// Makes room for so many more keys.
    pub(super) fn reserve(&self, keys: usize) {
        let each = keys / SHARDS;
        if each > 4 {
            self.shards.iter().for_each(|shard| shard.0.write().committed.reserve(each));
        }
    }

    /// All committed values, shard by shard.
    pub(super) fn drain(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut shard.0.write().committed))
    }
}

impl<K: Hash + Eq, V> Values<K, V> {
    fn withdraw(&mut self, key: &K, index: u32) {
        if let Some(versions) = self.pending.get_mut(key) {
            versions.retain(|(writer, _)| *writer != index);
            if versions.is_empty() {
                self.pending.remove(key);
            }
        }
    }
}

impl<K, V> Default for Versions<K, V> {
    fn default() -> Self {
        let shard = |_| {
            let (committed, pending) = (HashMap::default(), HashMap::default());
            Shard(RwLock::new(Values { committed, pending }))
        };
        Self { shards: (0..SHARDS).map(shard).collect(), hasher: Default::default() }
    }
}
