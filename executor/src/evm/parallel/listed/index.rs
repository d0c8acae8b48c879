//! An access list over the state before the block: what is where, before which transaction.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use alloy::eips::eip7928::{AccountChanges, BlockAccessIndex, BlockAccessList, SlotChanges};
use alloy_primitives::{
    Address, B256, U256, keccak256,
    map::{AddressMap, B256Map, DefaultHashBuilder, HashMap},
};
use hashbrown::HashTable;
use millrace_proto::AccountInfo;
use revm::{bytecode::Bytecode, primitives::hardfork::SpecId};

use super::AccessListError;
use crate::evm::{
    CodeCache, EvmEnv, StateReadError, StateReader,
    code_cache::analyse,
    parallel::{state::is_empty, view::SharedReader},
};

/// The state before each transaction of a block, by its access list, under rules that remove empty accounts (EIP-161).
pub(super) struct Listed {
    pub(super) list: Arc<BlockAccessList>,
    pub(super) reader: SharedReader,
    codes: Arc<CodeCache>,
    accounts: AddressMap<u32>,
    slots: HashTable<SlotPlace>,
    hasher: DefaultHashBuilder,
    /// Number of each account's first slot that is only read, among all of them.
    first_reads: Vec<u32>,
    code: B256Map<Bytecode>,
    /// Hashes of changed code, by account and change.
    code_hashes: HashMap<(u32, u32), B256>,
}

/// Where a slot is in the list: an account, and one of its changed slots or, counted on, of those only read.
#[derive(Debug, Clone, Copy)]
struct SlotPlace {
    account: u32,
    place: u32,
}

/// A slot in the list.
pub(super) enum ListedSlot<'a> {
    /// Some transaction changes it.
    Changed(&'a SlotChanges),
    /// It is only read; with its number among all such slots.
    Read(usize),
}

impl Listed {
    pub(super) fn new(
        list: Arc<BlockAccessList>,
        env: &EvmEnv,
        reader: SharedReader,
        codes: Arc<CodeCache>,
    ) -> Self {
        let spec = env.cfg.spec;
        let count = list.iter().map(|account| account.storage_slots().count()).sum();
        let mut slots = HashTable::with_capacity(count);
        let hasher = DefaultHashBuilder::default();
        let mut accounts = AddressMap::with_capacity_and_hasher(list.len(), Default::default());
        let mut first_reads = Vec::with_capacity(list.len() + 1);
        let mut codes_by_hash = B256Map::default();
        let mut code_hashes = HashMap::default();
        let mut reads = 0;
        for (number, account) in list.iter().enumerate() {
            let number = number as u32;
            accounts.insert(account.address, number);
            first_reads.push(reads);
            reads += account.storage_reads.len() as u32;
            for (place, slot) in account.storage_slots().enumerate() {
                let place = SlotPlace { account: number, place: place as u32 };
                slots.insert_unique(hash(&hasher, number, &slot), place, |of| {
                    hash(&hasher, of.account, &slot_of(&list[of.account as usize], of.place))
                });
            }
            for (place, change) in account.code_changes.iter().enumerate() {
                let code = &change.new_code;
                let hash = keccak256(code);
                code_hashes.insert((number, place as u32), hash);
                let prague = spec.is_enabled_in(SpecId::PRAGUE);
                let of = if prague { analyse } else { Bytecode::new_legacy };
                codes_by_hash.insert(hash, of(code.clone()));
            }
        }
        first_reads.push(reads);
        Self {
            list,
            reader,
            codes,
            accounts,
            slots,
            hasher,
            first_reads,
            code: codes_by_hash,
            code_hashes,
        }
    }

    /// How many slots are only read.
    pub(super) fn reads(&self) -> usize {
        self.first_reads.last().map_or(0, |reads| *reads as usize)
    }

    /// The numbers of an account's slots that are only read.
    pub(super) fn reads_of(&self, account: u32) -> std::ops::Range<usize> {
        let bounds = &self.first_reads[account as usize..][..2];
        bounds[0] as usize..bounds[1] as usize
    }

    pub(super) fn account(&self, address: &Address) -> Option<u32> {
        self.accounts.get(address).copied()
    }

    pub(super) fn changes(&self, account: u32) -> &AccountChanges {
        &self.list[account as usize]
    }

    pub(super) fn slot(&self, account: u32, slot: &U256) -> Option<ListedSlot<'_>> {
        let changes = self.changes(account);
        let changed = &changes.storage_changes;
        let is = |at: &SlotPlace| at.account == account && slot_of(changes, at.place) == *slot;
        let found = self.slots.find(hash(&self.hasher, account, slot), is)?;
        let place = found.place as usize;
        Some(match changed.get(place) {
            Some(changes) => ListedSlot::Changed(changes),
            None => {
                let first = self.first_reads[account as usize] as usize;
                ListedSlot::Read(first + place - changed.len())
            }
        })
    }

    /// An account as the transaction at `index` finds it.
    pub(super) fn account_before(
        &self,
        account: u32,
        index: u32,
    ) -> Result<Option<AccountInfo>, StateReadError> {
        let changes = self.changes(account);
        let base = self.reader.account(changes.address)?;
        if base.as_ref().is_some_and(is_empty) {
            return Err(StateReadError::source(AccessListError::Unsupported));
        }
        let mut info = base.unwrap_or_default();
        let mut changed = false;
        if let Some(at) = last(&changes.balance_changes, index, |change| change.block_access_index)
        {
            info.balance = changes.balance_changes[at].post_balance;
            changed = true;
        }
        if let Some(at) = last(&changes.nonce_changes, index, |change| change.block_access_index) {
            info.nonce = changes.nonce_changes[at].new_nonce;
            changed = true;
        }
        if let Some(at) = last(&changes.code_changes, index, |change| change.block_access_index) {
            let hash = self.code_hashes.get(&(account, at as u32)).copied();
            info.code_hash = hash.unwrap_or(info.code_hash);
            changed = true;
        }
        if !changed {
            return Ok(base);
        }
        Ok((!is_empty(&info)).then_some(info))
    }

    /// A changed slot as the transaction at `index` finds it.
    pub(super) fn slot_before(
        &self,
        address: Address,
        changes: &SlotChanges,
        index: u32,
    ) -> Result<U256, StateReadError> {
        match last(&changes.changes, index, |change| change.block_access_index) {
            Some(at) => Ok(changes.changes[at].new_value),
            None => self.reader.storage(address, changes.slot),
        }
    }

    pub(super) fn code(&self, hash: B256) -> Result<Bytecode, StateReadError> {
        match self.changed_code(hash) {
            Some(code) => Ok(code.clone()),
            None => self.codes.read(hash, &*self.reader),
        }
    }

    /// Code that the block gives to an account.
    pub(super) fn changed_code(&self, hash: B256) -> Option<&Bytecode> {
        self.code.get(&hash)
    }

    /// The hash of the code that one of an account's changes sets.
    pub(super) fn code_hash(&self, account: u32, change: usize) -> Option<B256> {
        self.code_hashes.get(&(account, change as u32)).copied()
    }
}

fn hash(hasher: &DefaultHashBuilder, account: u32, slot: &U256) -> u64 {
    let mut hasher = hasher.build_hasher();
    slot.as_limbs().iter().for_each(|limb| hasher.write_u64(*limb));
    hasher.write_u32(account);
    hasher.finish()
}

/// The slot at a place: among the changed ones or, counted on, among those only read.
fn slot_of(changes: &AccountChanges, place: u32) -> U256 {
    let changed = &changes.storage_changes;
    match changed.get(place as usize) {
        Some(changes) => changes.slot,
        None => changes.storage_reads[place as usize - changed.len()],
    }
}

/// The last change before `index`, of changes in order.
fn last<T>(changes: &[T], index: u32, of: impl Fn(&T) -> BlockAccessIndex) -> Option<usize> {
    if changes.is_empty() {
        return None;
    }
    changes.partition_point(|change| of(change).get() < u64::from(index)).checked_sub(1)
}

/// The change at `index`, of changes in order.
pub(super) fn at<T>(
    changes: &[T],
    index: u32,
    of: impl Fn(&T) -> BlockAccessIndex,
) -> Option<usize> {
    changes.binary_search_by_key(&u64::from(index), |change| of(change).get()).ok()
}
