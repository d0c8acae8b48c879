//! What each transaction of a block reads and writes, noted at the front and sorted once the block is over.

use std::mem;

use alloy::eips::eip7928::{
    AccountChanges, BalanceChange, BlockAccessIndex, BlockAccessList, CodeChange, NonceChange,
    SlotChanges, StorageChange,
};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, map::U256Map};

use super::{
    state::{AccountState, SlotKey},
    view::Shared,
};
use crate::evm::{StateReadError, StateReader};

/// Notes for the block access list (EIP-7928), in the order in which transactions are committed.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    /// The block access index of what is noted.
    index: u32,
    accounts: Vec<Address>,
    reads: Vec<(Address, U256)>,
    slots: Vec<(Address, U256, u32, U256)>,
    balances: Vec<(Address, u32, U256)>,
    nonces: Vec<(Address, u32, u64)>,
    codes: Vec<(Address, u32, B256)>,
    /// Accounts whose storage ended.
    wipes: Vec<(Address, u32)>,
}

impl AccessLog {
    /// What is noted from now on belongs to the transaction after the `included` that are in the block, or to the block's end.
    pub(super) const fn after(&mut self, included: usize) {
        self.index = included as u32 + 1;
    }

    /// Notes that an account was looked at.
    pub(super) fn account(&mut self, address: Address) {
        self.accounts.push(address);
    }

    /// Notes what became of an account.
    pub(super) fn change(&mut self, address: Address, before: &AccountState, after: &AccountState) {
        let (was, is) = (before.info.unwrap_or_default(), after.info.unwrap_or_default());
        if was.balance != is.balance {
            self.balances.push((address, self.index, is.balance));
        }
        if was.nonce != is.nonce {
            self.nonces.push((address, self.index, is.nonce));
        }
        if was.code_hash != is.code_hash {
            self.codes.push((address, self.index, is.code_hash));
        }
        if before.generation != after.generation && before.info.is_some() {
            self.wipes.push((address, self.index));
        }
    }

    /// Notes that a slot was looked at.
    pub(super) fn read(&mut self, address: Address, slot: U256) {
        self.reads.push((address, slot));
    }

    /// Notes a slot's new value.
    pub(super) fn write(&mut self, key: &SlotKey, value: U256) {
        self.slots.push((key.address, key.slot, self.index, value));
    }

    /// The block access list.
    pub(super) fn finish(mut self, shared: &Shared) -> Result<BlockAccessList, StateReadError> {
        self.accounts.sort_unstable();
        self.accounts.dedup();
        self.reads.sort_unstable();
        self.reads.dedup();
        // Stable: of two changes by one transaction the last counts.
        self.slots.sort_by_key(|(address, slot, index, _)| (*address, *slot, *index));
        self.balances.sort_by_key(|(address, ..)| *address);
        self.nonces.sort_by_key(|(address, ..)| *address);
        self.codes.sort_by_key(|(address, ..)| *address);
        self.wipes.sort_by_key(|(address, ..)| *address);

        let accounts = mem::take(&mut self.accounts);
        let mut rest = Rest {
            reads: &self.reads,
            slots: &self.slots,
            balances: &self.balances,
            nonces: &self.nonces,
            codes: &self.codes,
            wipes: &self.wipes,
        };
        accounts.into_iter().map(|address| rest.take(address, shared)).collect()
    }
}

/// Sorted notes of the accounts that are not listed yet.
struct Rest<'a> {
    reads: &'a [(Address, U256)],
    slots: &'a [(Address, U256, u32, U256)],
    balances: &'a [(Address, u32, U256)],
    nonces: &'a [(Address, u32, u64)],
    codes: &'a [(Address, u32, B256)],
    wipes: &'a [(Address, u32)],
}

impl Rest<'_> {
    /// The next account's part of the list.
    fn take(
        &mut self,
        address: Address,
        shared: &Shared,
    ) -> Result<AccountChanges, StateReadError> {
        let mut changes = AccountChanges::new(address);
        let index = |index: u32| BlockAccessIndex::new(index.into());
        let base = || Ok::<_, StateReadError>(shared.reader.account(address)?.unwrap_or_default());

        let noted = take_while(&mut self.balances, |(of, ..)| *of == address);
        let noted = noted.iter().map(|(_, index, balance)| (*index, *balance));
        for (at, balance) in net(noted.collect(), || Ok(base()?.balance))? {
            changes.balance_changes.push(BalanceChange::new(index(at), balance));
        }
        let noted = take_while(&mut self.nonces, |(of, ..)| *of == address);
        let noted = noted.iter().map(|(_, index, nonce)| (*index, *nonce));
        for (at, nonce) in net(noted.collect(), || Ok(base()?.nonce))? {
            changes.nonce_changes.push(NonceChange::new(index(at), nonce));
        }
        let noted = take_while(&mut self.codes, |(of, ..)| *of == address);
        let noted = noted.iter().map(|(_, index, hash)| (*index, *hash));
        for (at, hash) in net(noted.collect(), || Ok(base()?.code_hash))? {
            let code = if hash == KECCAK256_EMPTY {
                Default::default()
            } else {
                shared.code(hash)?.original_bytes()
            };
            changes.code_changes.push(CodeChange::new(index(at), code));
        }
        let slots = take_while(&mut self.slots, |(of, ..)| *of == address);
        let wipes = take_while(&mut self.wipes, |(of, _)| *of == address);
        let reads = take_while(&mut self.reads, |(of, _)| *of == address);
        let mut reads: Vec<U256> = reads.iter().map(|(_, slot)| *slot).collect();
        let value_before = |slot| shared.reader.storage(address, slot);
        if wipes.is_empty() {
            for of_slot in slots.chunk_by(|a, b| a.1 == b.1) {
                let slot = of_slot[0].1;
                let noted = of_slot.iter().map(|(.., index, value)| (*index, *value));
                let noted = net(noted.collect(), || value_before(slot))?;
                add_slot(&mut changes, &mut reads, slot, noted);
            }
        } else {
            let mut by_slot = U256Map::<Vec<(u32, U256)>>::default();
            for (slot, _) in shared.reader.storage_of(address)? {
                by_slot.entry(slot).or_default();
            }
            for (_, slot, index, value) in slots {
                by_slot.entry(*slot).or_default().push((*index, *value));
            }
            for (slot, mut noted) in by_slot {
                // What a transaction writes to storage that starts anew counts after the end of the old.
                noted.splice(0..0, wipes.iter().map(|(_, index)| (*index, U256::ZERO)));
                noted.sort_by_key(|(index, _)| *index);
                let noted = settle(noted, value_before(slot)?);
                add_slot(&mut changes, &mut reads, slot, noted);
            }
            changes.storage_changes.sort_unstable_by_key(|changes| changes.slot);
        }
        let changed = &changes.storage_changes;
        reads.retain(|slot| changed.binary_search_by_key(slot, |changes| changes.slot).is_err());
        changes.storage_reads = reads;
        Ok(changes)
    }
}

fn add_slot(
    changes: &mut AccountChanges,
    reads: &mut Vec<U256>,
    slot: U256,
    noted: Vec<(u32, U256)>,
) {
    if noted.is_empty() {
        if let Err(place) = reads.binary_search(&slot) {
            reads.insert(place, slot);
        }
        return;
    }
    let change =
        |(index, value): (u32, _)| StorageChange::new(BlockAccessIndex::new(index.into()), value);
    let noted = noted.into_iter().map(change).collect();
    changes.storage_changes.push(SlotChanges::new(slot, noted));
}

fn take_while<'a, T>(rest: &mut &'a [T], of: impl Fn(&T) -> bool) -> &'a [T] {
    let count = rest.iter().take_while(|item| of(item)).count();
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

/// Changes that count: the last by each transaction, if that is one. Only system calls, of which more have the same index, note more.
fn net<T: PartialEq + Copy>(
    changes: Vec<(u32, T)>,
    before: impl FnOnce() -> Result<T, StateReadError>,
) -> Result<Vec<(u32, T)>, StateReadError> {
    if changes.windows(2).all(|pair| pair[0].0 != pair[1].0) {
        return Ok(changes);
    }
    Ok(settle(changes, before()?))
}

/// The last change of each index, unless it changes nothing.
fn settle<T: PartialEq + Copy>(changes: Vec<(u32, T)>, mut value: T) -> Vec<(u32, T)> {
    let mut settled = Vec::with_capacity(changes.len());
    for of_index in changes.chunk_by(|a, b| a.0 == b.0) {
        let Some((index, after)) = of_index.last().copied() else { continue };
        if after != value {
            settled.push((index, after));
            value = after;
        }
    }
    settled
}
