//! The head's state, kept warm from block to block.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{AccountInfo, SealedHeader, StateDiff};
use parking_lot::RwLock;
use quick_cache::sync::Cache;

use crate::{
    chain::ParentState,
    evm::{StateReadError, StateReader},
};

/// Accounts and slots of the head's state that were read lately. Follows the head: each block's changes are applied to it.
pub(crate) struct WarmState {
    accounts: Cache<Address, Option<AccountInfo>>,
    slots: Cache<(Address, U256), U256>,
    /// The hash of the block whose state this is. Locked for writing while that changes, so that a value read from another state
    /// is not added to this one.
    block: RwLock<B256>,
}

/// How many accounts are kept: some 20 MB.
const ACCOUNTS: usize = 1 << 17;
/// How many slots are kept: some 50 MB.
const SLOTS: usize = 1 << 18;

impl WarmState {
    /// Empty, at a block.
    pub(crate) fn new(block: B256) -> Self {
        Self { accounts: Cache::new(ACCOUNTS), slots: Cache::new(SLOTS), block: RwLock::new(block) }
    }

    /// Reads a state through it.
    pub(crate) fn reader(self: &Arc<Self>, state: ParentState) -> WarmReader {
        WarmReader { state, warm: self.clone() }
    }

    /// Moves to a block. `diff` is what it changed, if it is the next one.
    pub(crate) fn follow(&self, block: &SealedHeader, diff: &StateDiff) {
        let mut at = self.block.write();
        if block.parent_hash != *at {
            self.clear(&mut at, block.seal());
        } else {
            for (address, account) in &diff.accounts {
                self.accounts.insert(*address, account.after);
                for (slot, value) in &account.storage {
                    self.slots.insert((*address, (*slot).into()), value.after);
                }
            }
            *at = block.seal();
        }
    }

    /// Begins again at a block, knowing nothing.
    pub(crate) fn forget(&self, block: B256) {
        self.clear(&mut self.block.write(), block);
    }

    fn clear(&self, at: &mut B256, block: B256) {
        self.accounts.clear();
        self.slots.clear();
        *at = block;
    }

    /// The value that `cache` keeps, or that `read` gives for the state after `block`.
    fn get<K: std::hash::Hash + Eq + Copy, V: Copy>(
        &self,
        cache: &Cache<K, V>,
        key: K,
        block: B256,
        read: impl FnOnce() -> Result<V, StateReadError>,
    ) -> Result<V, StateReadError> {
        let at = self.block.read();
        if *at == block
            && let Some(value) = cache.get(&key)
        {
            return Ok(value);
        }
        drop(at);
        let value = read()?;
        let at = self.block.read();
        if *at == block {
            cache.insert(key, value);
        }
        Ok(value)
    }
}

/// The state after a block, read through what is warm.
#[derive(Debug)]
pub(crate) struct WarmReader {
    state: ParentState,
    warm: Arc<WarmState>,
}

impl WarmReader {
    fn block(&self) -> B256 {
        self.state.header().seal()
    }
}

impl StateReader for WarmReader {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        let read = || self.state.account(address);
        self.warm.get(&self.warm.accounts, address, self.block(), read)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let read = || self.state.storage(address, slot);
        self.warm.get(&self.warm.slots, (address, slot), self.block(), read)
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        self.state.storage_of(address)
    }

    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        self.state.storage_of_at_most(address, limit)
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        self.state.code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.state.block_hash(number)
    }

    fn keeps_reads(&self) -> bool {
        true
    }
}

impl fmt::Debug for WarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmState")
            .field("block", &*self.block.read())
            .field("accounts", &self.accounts.len())
            .field("slots", &self.slots.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        genesis::{Genesis, GenesisAccount},
        primitives::Sealable,
    };
    use millrace_proto::{AccountDiff, BlockSelector, ChainSpec, Header, SlotDiff};

    use super::*;
    use crate::{chain::Chain, store::StoreConfig};

    const ADDRESS: Address = Address::repeat_byte(0xac);
    const SLOT: B256 = B256::with_last_byte(1);

    #[test]
    fn what_was_read_is_kept_and_follows_the_head() {
        let account = GenesisAccount {
            balance: U256::from(5),
            storage: Some([(SLOT, B256::with_last_byte(7))].into()),
            ..GenesisAccount::default()
        };
        let genesis = Genesis { alloc: [(ADDRESS, account)].into(), ..Genesis::default() };
        let spec = ChainSpec::new(genesis).expect("a plain genesis is valid");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = StoreConfig {
            cache_bytes: 8 << 20,
            write_buffer_bytes: 4 << 20,
            ..StoreConfig::default()
        };
        let chain = Chain::open(folder.path(), &config, Arc::new(spec)).expect("the store opens");
        let state = chain.state(BlockSelector::Latest).expect("the head is there");
        let genesis = chain.head();
        let warm = Arc::new(WarmState::new(genesis.seal()));
        let reader = warm.reader(ParentState::new(state, None));
        assert!(reader.keeps_reads(), "reading ahead of transactions that wait pays");

        let read = |reader: &WarmReader| {
            let account = reader.account(ADDRESS).expect("the state is there");
            (account, reader.storage(ADDRESS, SLOT.into()).expect("the state is there"))
        };
        let kept = || (warm.accounts.get(&ADDRESS), warm.slots.get(&(ADDRESS, SLOT.into())));
        let before = read(&reader);
        assert_eq!(before.1, U256::from(7));
        assert_eq!(kept(), (Some(before.0), Some(before.1)));

        let after = AccountInfo { balance: U256::from(6), ..before.0.expect("it exists") };
        let slot = SlotDiff { before: before.1, after: U256::from(8) };
        let account =
            AccountDiff { before: before.0, after: Some(after), storage: [(SLOT, slot)].into() };
        let mut diff = StateDiff::default();
        diff.accounts.insert(ADDRESS, account);
        let next = |parent: B256, gas_used| {
            let header = Header { parent_hash: parent, number: 1, gas_used, ..Header::default() };
            header.seal_slow()
        };
        let block = next(genesis.seal(), 1);
        warm.follow(&block, &diff);
        let now = (Some(Some(after)), Some(U256::from(8)));
        assert_eq!(kept(), now);
        assert_eq!(read(&reader), before, "the reader is of the block before");
        assert_eq!(kept(), now, "and keeps nothing of it for the next");

        // Another block of the same number, as one that is built again.
        let other = next(genesis.seal(), 2);
        warm.follow(&other, &diff);
        assert_eq!(kept(), (None, None));
        assert_eq!(read(&reader), before);
        assert_eq!(kept(), (None, None), "the reader is of none of the two");

        // A block that does not come next.
        warm.follow(&next(block.seal(), 3), &diff);
        assert_eq!(kept(), (None, None));
    }
}
