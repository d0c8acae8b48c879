//! What a block changed, made once it is over.

use alloy_primitives::{Address, B256, U256, map::AddressMap};
use millrace_proto::{AccountDiff, SlotDiff, StateDiff};

use super::{state::AccountState, view::Shared};
use crate::evm::{StateReadError, StateReader, diff};

/// Compares what the memory holds with the state before the block.
pub(super) fn of(shared: &Shared) -> Result<StateDiff, StateReadError> {
    let mut slots = AddressMap::<Vec<(u32, U256, U256)>>::default();
    shared.memory.slots.visit(|key, value| {
        slots.entry(key.address).or_default().push((key.generation, key.slot, *value));
    });
    let mut accounts = Vec::new();
    shared.memory.accounts.visit(|address, state| accounts.push((*address, *state)));
    let mut diff = StateDiff::default();
    // A slot's account is written as well, at least with what it was.
    for (address, state) in accounts {
        let slots = slots.remove(&address).unwrap_or_default();
        let account = account_diff(shared, address, &state, slots)?;
        let code = |hash| shared.memory.code(hash);
        diff::add(&mut diff, address, account, &*shared.reader, code)?;
    }
    for (address, slots) in slots {
        let state = shared.base_account(address)?;
        let account = account_diff(shared, address, &state, slots)?;
        if !account.storage.is_empty() {
            diff.accounts.insert(address, account);
        }
    }
    Ok(diff)
}

fn account_diff(
    shared: &Shared,
    address: Address,
    state: &AccountState,
    slots: Vec<(u32, U256, U256)>,
) -> Result<AccountDiff, StateReadError> {
    let before = shared.reader.account(address)?;
    let mut diff = AccountDiff { before, after: state.info, ..AccountDiff::default() };
    let mut add = |slot: U256, before: U256, after: U256| {
        if before != after {
            diff.storage.insert(B256::from(slot), SlotDiff { before, after });
        }
    };
    let current = slots.into_iter().filter(|(generation, ..)| *generation == state.generation);
    let existed = before.is_some();
    for (_, slot, after) in current.clone() {
        let before = if existed { shared.reader.storage(address, slot)? } else { U256::ZERO };
        add(slot, before, after);
    }
    if state.generation != 0 && existed {
        let written: Vec<U256> = current.map(|(_, slot, _)| slot).collect();
        for (slot, before) in shared.reader.storage_of(address)? {
            if !written.contains(&slot) {
                add(slot, before, U256::ZERO);
            }
        }
    }
    Ok(diff)
}
