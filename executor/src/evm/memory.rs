//! A state in memory.

use std::collections::BTreeMap;

use alloy::genesis::GenesisAccount;
use alloy_primitives::{
    Address, B256, Bytes, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use millrace_proto::{AccountInfo, StateDiff};

use super::{StateReadError, StateReader};

/// A whole state in memory: what tests and tools execute on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    accounts: AddressMap<AccountInfo>,
    storage: AddressMap<HashMap<U256, U256>>,
    code: B256Map<Bytes>,
    block_hashes: HashMap<u64, B256>,
}

impl MemoryState {
    /// The state that a genesis allocation describes.
    pub fn from_alloc(alloc: &BTreeMap<Address, GenesisAccount>) -> Self {
        let mut state = Self::default();
        for (address, account) in alloc {
            let mut info = AccountInfo {
                balance: account.balance,
                nonce: account.nonce.unwrap_or(0),
                ..AccountInfo::default()
            };
            if let Some(code) = account.code.as_ref().filter(|code| !code.is_empty()) {
                info.code_hash = keccak256(code);
                state.code.insert(info.code_hash, code.clone());
            }
            state.accounts.insert(*address, info);
            for (slot, value) in account.storage.iter().flatten() {
                state.set_slot(*address, (*slot).into(), (*value).into());
            }
        }
        state
    }

    /// Tells the state the hash of a block, for the EVM's `BLOCKHASH`.
    pub fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// Applies what a block changed.
    pub fn apply(&mut self, diff: &StateDiff) {
        for (address, account) in &diff.accounts {
            match account.after {
                Some(after) => self.accounts.insert(*address, after),
                None => self.accounts.remove(address),
            };
            for (slot, value) in &account.storage {
                self.set_slot(*address, (*slot).into(), value.after);
            }
        }
        self.code.extend(diff.code.iter().map(|(hash, code)| (*hash, code.clone())));
    }

    /// Sets an account, or removes it; its storage stays as it is.
    pub fn set_account(&mut self, address: Address, account: Option<AccountInfo>) {
        match account {
            Some(account) => self.accounts.insert(address, account),
            None => self.accounts.remove(&address),
        };
    }

    /// Adds code.
    ///
    /// Returns its hash, which accounts name it by.
    pub fn add_code(&mut self, code: Bytes) -> B256 {
        let hash = keccak256(&code);
        self.code.insert(hash, code);
        hash
    }

    /// All code, by hash.
    pub fn codes(&self) -> impl Iterator<Item = (B256, Bytes)> + '_ {
        self.code.iter().map(|(hash, code)| (*hash, code.clone()))
    }

    /// Every account.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, AccountInfo)> + '_ {
        self.accounts.iter().map(|(address, account)| (*address, *account))
    }

    /// Every slot of an account that is not zero.
    pub fn slots(&self, address: Address) -> impl Iterator<Item = (U256, U256)> + '_ {
        let slots = self.storage.get(&address).into_iter().flatten();
        slots.map(|(slot, value)| (*slot, *value))
    }

    /// Sets a storage slot.
    pub fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        let storage = self.storage.entry(address).or_default();
        if value.is_zero() {
            storage.remove(&slot);
            if storage.is_empty() {
                self.storage.remove(&address);
            }
        } else {
            storage.insert(slot, value);
        }
    }
}

impl StateReader for MemoryState {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        Ok(self.accounts.get(&address).copied())
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let storage = self.storage.get(&address);
        Ok(storage.and_then(|storage| storage.get(&slot)).copied().unwrap_or_default())
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        Ok(self.slots(address).collect())
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        Ok(self.code.get(&hash).cloned())
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        Ok(self.block_hashes.get(&number).copied())
    }
}
