//! The state during a block: a flat overlay over the state before it.

use std::{fmt, sync::Arc};

use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, HashMap, hash_map::Entry},
};
use millrace_proto::{AccountDiff, AccountInfo, SlotDiff, StateDiff};
use revm::{
    Database,
    bytecode::Bytecode,
    primitives::hardfork::SpecId,
    state::{Account, AccountInfo as EvmAccount, EvmState},
};

use super::{
    CodeCache, StateReadError, StateReader,
    code_cache::analyse,
    diff,
    hashes::{Hashes, KeepsHashes},
};

/// What the block has read and written so far. One map of accounts, each with its slots: reads fill it, a
/// transaction's changes are written through, and the diff falls out at the end.
pub(crate) struct BlockState<R> {
    reader: R,
    codes: Arc<CodeCache>,
    /// EIP-161: accounts that a transaction leaves empty are removed.
    removes_empty: bool,
    accounts: AddressMap<CachedAccount>,
    /// Code that the block made or has used.
    used_code: B256Map<Bytecode>,
    hashes: Hashes,
}

/// What an account is assumed to be instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assumed {
    pub(crate) balance: Option<U256>,
    pub(crate) nonce: Option<u64>,
    pub(crate) code: Option<Bytes>,
    pub(crate) slots: HashMap<U256, U256>,
    /// Slots that are not in `slots` are zero.
    pub(crate) whole_storage: bool,
}

/// An account of the block, kept small: blocks of many accounts are as fast as memory is. What it was before is read again for the diff,
/// off the hot path.
#[derive(Default)]
struct CachedAccount {
    now: Option<AccountInfo>,
    /// It existed before the block.
    existed: bool,
    /// It may differ from what it was before the block.
    written: bool,
    /// Destroyed or created in this block: slots that are not in `slots` are zero.
    wiped: bool,
    slots: CachedSlots,
}

/// Slots of an account; most have none.
#[derive(Default)]
struct CachedSlots(Option<Box<HashMap<U256, CachedSlot>>>);

#[derive(Clone, Copy)]
struct CachedSlot {
    now: U256,
    /// It may differ from what it was before the block.
    written: bool,
}

impl<R: StateReader> BlockState<R> {
    pub(super) fn new(reader: R, codes: Arc<CodeCache>, removes_empty: bool) -> Self {
        Self {
            reader,
            codes,
            removes_empty,
            accounts: AddressMap::default(),
            used_code: B256Map::default(),
            hashes: Hashes::default(),
        }
    }

    /// By the rules of a hardfork.
    pub(crate) fn of(spec: SpecId, reader: R, codes: Arc<CodeCache>) -> Self {
        Self::new(reader, codes, spec.is_enabled_in(SpecId::SPURIOUS_DRAGON))
    }

    /// What it is read from.
    pub(crate) const fn reader(&self) -> &R {
        &self.reader
    }

    pub(crate) const fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Replaces what an account is.
    pub(crate) fn assume(
        &mut self,
        address: Address,
        assumed: Assumed,
    ) -> Result<(), StateReadError> {
        let Assumed { balance, nonce, code, slots, whole_storage } = assumed;
        let code = code.map(|code| (keccak256(&code), analyse(code)));
        let account = self.load(address)?;
        account.written = true;
        let info = account.now.get_or_insert_default();
        info.balance = balance.unwrap_or(info.balance);
        info.nonce = nonce.unwrap_or(info.nonce);
        info.code_hash = code.as_ref().map_or(info.code_hash, |(hash, _)| *hash);
        if whole_storage {
            account.wipe();
        }
        let written =
            slots.into_iter().map(|(slot, now)| (slot, CachedSlot { now, written: true }));
        account.slots.all().extend(written);
        self.used_code.extend(code);
        Ok(())
    }

    fn load(&mut self, address: Address) -> Result<&mut CachedAccount, StateReadError> {
        match self.accounts.entry(address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let before = self.reader.account(address)?;
                Ok(entry.insert(CachedAccount {
                    now: before,
                    existed: before.is_some(),
                    ..CachedAccount::default()
                }))
            }
        }
    }

    /// An account as it is now.
    pub(super) fn info(&mut self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        Ok(self.load(address)?.now)
    }

    /// Whether there is code at an address now.
    pub(super) fn has_code(&mut self, address: Address) -> Result<bool, StateReadError> {
        let account = self.load(address)?.now;
        Ok(account.is_some_and(|info| info.code_hash != KECCAK256_EMPTY))
    }

    /// The slots that are not zero of an account whose storage ends with a transaction that left this of it.
    pub(super) fn wiped_by(
        &mut self,
        address: Address,
        account: &Account,
    ) -> Result<Vec<(U256, U256)>, StateReadError> {
        let removed = self.removes_empty && account.is_touched() && account.is_empty();
        if !(account.is_selfdestructed() || account.is_created() || removed) {
            return Ok(Vec::new());
        }
        self.load(address)?;
        let Some(cached) = self.accounts.get(&address) else { return Ok(Vec::new()) };
        cached.all_slots(address, &self.reader)
    }

    /// Writes through what a transaction left in its journal.
    pub(super) fn commit(&mut self, state: &mut EvmState) -> Result<(), StateReadError> {
        for (address, account) in state.drain() {
            if account.is_touched() {
                self.commit_account(address, account)?;
            }
        }
        Ok(())
    }

    fn commit_account(&mut self, address: Address, account: Account) -> Result<(), StateReadError> {
        let removes_empty = self.removes_empty;
        let cached = self.load(address)?;
        cached.written = true;
        if account.is_selfdestructed() || (removes_empty && account.is_empty()) {
            cached.wipe();
            cached.now = None;
            return Ok(());
        }
        if account.is_created() {
            cached.wipe();
        }
        for (slot, value) in account.changed_storage_slots() {
            let now = CachedSlot { now: value.present_value, written: true };
            cached.slots.all().insert(*slot, now);
        }
        let info = from_evm(&account.info);
        let before = cached.now.replace(info).map_or(KECCAK256_EMPTY, |info| info.code_hash);
        if info.code_hash != before
            && info.code_hash != KECCAK256_EMPTY
            && let Some(code) = account.info.code
        {
            self.used_code.insert(info.code_hash, code);
        }
        Ok(())
    }

    /// Adds to a balance and bumps the nonce, outside any transaction's execution. Gives the account before and after.
    pub(super) fn mint_and_bump(
        &mut self,
        address: Address,
        amount: U256,
    ) -> Result<[AccountInfo; 2], StateReadError> {
        let account = self.load(address)?;
        account.written = true;
        let info = account.now.get_or_insert_default();
        let before = *info;
        *info = minted(before, amount);
        Ok([before, *info])
    }

    /// What the block changed.
    pub(super) fn diff(&self) -> Result<StateDiff, StateReadError> {
        let Self { reader, accounts, used_code, .. } = self;
        let mut diff = StateDiff::default();
        for (address, cached) in accounts {
            if !cached.written {
                continue;
            }
            let account = cached.diff(reader, *address)?;
            let code = |hash| used_code.get(&hash).cloned();
            diff::add(&mut diff, *address, account, reader, code)?;
        }
        Ok(diff)
    }
}

impl CachedAccount {
    /// The slots that are not zero.
    fn all_slots(
        &self,
        address: Address,
        reader: &impl StateReader,
    ) -> Result<Vec<(U256, U256)>, StateReadError> {
        let mut slots =
            if self.existed && !self.wiped { reader.storage_of(address)? } else { Vec::new() };
        slots.retain(|(slot, _)| self.slots.get(slot).is_none());
        slots.extend(self.slots.iter().map(|(slot, value)| (*slot, value.now)));
        slots.retain(|(_, value)| !value.is_zero());
        Ok(slots)
    }

    fn wipe(&mut self) {
        self.wiped = true;
        for slot in self.slots.0.iter_mut().flat_map(|slots| slots.values_mut()) {
            *slot = CachedSlot { now: U256::ZERO, written: true };
        }
    }

    fn diff(
        &self,
        reader: &impl StateReader,
        address: Address,
    ) -> Result<AccountDiff, StateReadError> {
        let existed = self.existed;
        let mut diff = AccountDiff {
            before: if existed { reader.account(address)? } else { None },
            after: self.now,
            ..AccountDiff::default()
        };
        for (slot, value) in self.slots.iter().filter(|(_, value)| value.written) {
            let before = if existed { reader.storage(address, *slot)? } else { U256::ZERO };
            if before != value.now {
                diff.storage.insert(B256::from(*slot), SlotDiff { before, after: value.now });
            }
        }
        if self.wiped && existed {
            for (slot, before) in reader.storage_of(address)? {
                if !before.is_zero() && self.slots.get(&slot).is_none() {
                    let gone = SlotDiff { before, after: U256::ZERO };
                    diff.storage.insert(B256::from(slot), gone);
                }
            }
        }
        Ok(diff)
    }
}

impl CachedSlots {
    fn get(&self, slot: &U256) -> Option<&CachedSlot> {
        self.0.as_ref()?.get(slot)
    }

    fn iter(&self) -> impl Iterator<Item = (&U256, &CachedSlot)> {
        self.0.iter().flat_map(|slots| slots.iter())
    }

    /// All of them, to be changed.
    fn all(&mut self) -> &mut HashMap<U256, CachedSlot> {
        self.0.get_or_insert_default()
    }
}

impl<R: StateReader> Database for BlockState<R> {
    type Error = StateReadError;

    fn basic(&mut self, address: Address) -> Result<Option<EvmAccount>, StateReadError> {
        Ok(self.load(address)?.now.map(to_evm))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateReadError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        match self.used_code.entry(hash) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => Ok(entry.insert(self.codes.read(hash, &self.reader)?).clone()),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        self.load(address)?;
        let Self { accounts, reader, .. } = self;
        let Some(account) = accounts.get_mut(&address) else { return Ok(U256::ZERO) };
        match account.slots.all().entry(slot) {
            Entry::Occupied(entry) => Ok(entry.get().now),
            Entry::Vacant(_) if account.wiped || !account.existed => Ok(U256::ZERO),
            Entry::Vacant(entry) => {
                let value = reader.storage(address, slot)?;
                entry.insert(CachedSlot { now: value, written: false });
                Ok(value)
            }
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateReadError> {
        Ok(self.reader.block_hash(number)?.unwrap_or_default())
    }
}

/// The state in the middle of a block, or after it.
impl<R: StateReader> StateReader for BlockState<R> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        match self.accounts.get(&address) {
            Some(cached) => Ok(cached.now),
            None => self.reader.account(address),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let Some(cached) = self.accounts.get(&address) else {
            return self.reader.storage(address, slot);
        };
        match cached.slots.get(&slot) {
            Some(value) => Ok(value.now),
            None if cached.wiped || !cached.existed => Ok(U256::ZERO),
            None => self.reader.storage(address, slot),
        }
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        let Some(cached) = self.accounts.get(&address) else {
            return self.reader.storage_of(address);
        };
        cached.all_slots(address, &self.reader)
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        match self.used_code.get(&hash) {
            Some(code) => Ok(Some(code.original_bytes())),
            None => self.reader.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.reader.block_hash(number)
    }
}

impl<R> KeepsHashes for BlockState<R> {
    fn hashes(&mut self) -> &mut Hashes {
        &mut self.hashes
    }
}

impl<R> fmt::Debug for BlockState<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockState").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

/// An account after a deposit to it that could not be executed: it gets what was minted, and its nonce counts.
pub(super) const fn minted(before: AccountInfo, amount: U256) -> AccountInfo {
    let balance = before.balance.saturating_add(amount);
    AccountInfo { balance, nonce: before.nonce.saturating_add(1), ..before }
}

/// As revm's account, without its code: that is asked for by its hash where it is needed.
pub(super) const fn to_evm(info: AccountInfo) -> EvmAccount {
    EvmAccount {
        balance: info.balance,
        nonce: info.nonce,
        code_hash: info.code_hash,
        account_id: None,
        code: None,
    }
}

pub(super) fn from_evm(info: &EvmAccount) -> AccountInfo {
    AccountInfo { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash }
}
