//! The state as one transaction finds it, by the block's access list.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use millrace_proto::AccountInfo;
use revm::{Database, bytecode::Bytecode, state::AccountInfo as EvmAccount};

use super::{
    AccessListError,
    check::Marks,
    index::{Listed, ListedSlot},
};
use crate::evm::{
    StateReadError, StateReader,
    block_state::to_evm,
    hashes::{Hashes, KeepsHashes},
    parallel::lane_cache::LaneCache,
};

/// revm's database for the transactions that a thread executes.
pub(super) struct ListedView {
    pub(super) listed: Arc<Listed>,
    /// The block access index of the transaction.
    pub(super) index: u32,
    /// The accounts that it has read, with their number in the list.
    known: Vec<(Address, u32, Option<AccountInfo>)>,
    /// How many slots it has read.
    pub(super) slots: usize,
    /// What the thread's transactions have read and changed of the list.
    pub(super) marks: Marks,
    pub(super) cache: LaneCache,
}

impl ListedView {
    pub(super) fn new(listed: Arc<Listed>, mut cache: LaneCache) -> Self {
        cache.begin();
        let marks = Marks::new(&listed);
        Self { listed, index: 0, known: Vec::new(), slots: 0, marks, cache }
    }

    pub(super) fn begin(&mut self, index: u32) {
        self.index = index;
        self.known.clear();
        self.slots = 0;
    }

    /// What the transaction uses is not in the list.
    pub(super) const fn not_listed(&self, address: Address, slot: Option<U256>) -> AccessListError {
        AccessListError::NotListed { index: self.index, address, slot }
    }

    /// An account as the transaction has found it, with its number in the list.
    pub(super) fn found(
        &self,
        address: Address,
    ) -> Result<(u32, Option<AccountInfo>), AccessListError> {
        match self.known.iter().find(|(of, ..)| *of == address) {
            Some((_, account, info)) => Ok((*account, *info)),
            None => Ok((self.account(address)?, None)),
        }
    }

    /// An account's number in the list.
    pub(super) fn account(&self, address: Address) -> Result<u32, AccessListError> {
        self.listed.account(&address).ok_or_else(|| self.not_listed(address, None))
    }
}

impl Database for ListedView {
    type Error = StateReadError;

    fn basic(&mut self, address: Address) -> Result<Option<EvmAccount>, StateReadError> {
        let account = self.account(address).map_err(StateReadError::source)?;
        self.marks.see(account);
        let info = self.listed.account_before(account, self.index)?;
        self.known.push((address, account, info));
        Ok(info.map(to_evm))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateReadError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        let Self { cache, listed, .. } = self;
        cache.code(hash, || listed.code(hash))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let (account, _) = self.found(address).map_err(StateReadError::source)?;
        self.slots += 1;
        match self.listed.slot(account, &slot) {
            Some(ListedSlot::Changed(changes)) => {
                self.listed.slot_before(address, changes, self.index)
            }
            Some(ListedSlot::Read(number)) => {
                self.marks.read(number);
                self.listed.reader.storage(address, slot)
            }
            None => Err(StateReadError::source(self.not_listed(address, Some(slot)))),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateReadError> {
        Ok(self.listed.reader.block_hash(number)?.unwrap_or_default())
    }
}

/// The state before a place of the block, for the calls of the system there.
pub(super) struct ListedState {
    pub(super) listed: Arc<Listed>,
    pub(super) index: u32,
}

impl StateReader for ListedState {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        match self.listed.account(&address) {
            Some(account) => self.listed.account_before(account, self.index),
            None => self.listed.reader.account(address),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let listed = self.listed.account(&address);
        match listed.and_then(|account| self.listed.slot(account, &slot)) {
            Some(ListedSlot::Changed(changes)) => {
                self.listed.slot_before(address, changes, self.index)
            }
            _ => self.listed.reader.storage(address, slot),
        }
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        self.listed.storage_before(address, self.index)
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        match self.listed.changed_code(hash) {
            Some(code) => Ok(Some(code.original_bytes())),
            None => self.listed.reader.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.listed.reader.block_hash(number)
    }
}

impl KeepsHashes for ListedView {
    fn hashes(&mut self) -> &mut Hashes {
        &mut self.cache.hashes
    }
}

impl fmt::Debug for ListedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedView").field("index", &self.index).finish_non_exhaustive()
    }
}
