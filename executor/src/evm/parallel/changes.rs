//! What a block changed since that was asked last: noted at the front, so that it does not have to be looked for in all that the block has changed.

use std::mem;

use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, HashMap},
};
use millrace_proto::{AccountDiff, SlotDiff, StateDiff};

use super::{
    accesses::AccessLog,
    state::{AccountState, SlotKey},
    view::Shared,
};
use crate::evm::{StateReadError, StateReader, diff};

/// What is noted at the front of what is committed there; most blocks want neither.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// For the block's access list.
    pub(super) accesses: Option<AccessLog>,
    /// For the diffs of an open block.
    pub(super) changes: Option<Changes>,
}

/// Places that were changed, with what they were.
#[derive(Debug, Default)]
pub(super) struct Changes {
    accounts: AddressMap<AccountState>,
    slots: HashMap<SlotKey, U256>,
}

impl Notes {
    /// Notes that an account was looked at.
    pub(super) fn account(&mut self, address: Address) {
        if let Some(accesses) = &mut self.accesses {
            accesses.account(address);
        }
    }

    /// Notes that a slot was looked at.
    pub(super) fn read(&mut self, address: Address, slot: U256) {
        if let Some(accesses) = &mut self.accesses {
            accesses.read(address, slot);
        }
    }

    /// Notes what became of an account.
    pub(super) fn change(&mut self, address: Address, before: &AccountState, after: &AccountState) {
        if let Some(accesses) = &mut self.accesses {
            accesses.change(address, before, after);
        }
        if let Some(changes) = &mut self.changes {
            changes.accounts.entry(address).or_insert(*before);
        }
    }

    /// Notes a slot's new value, before it is committed.
    pub(super) fn write(
        &mut self,
        shared: &Shared,
        key: &SlotKey,
        value: U256,
    ) -> Result<(), StateReadError> {
        if let Some(accesses) = &mut self.accesses {
            accesses.write(key, value);
        }
        if let Some(changes) = &mut self.changes
            && !changes.slots.contains_key(key)
        {
            changes.slots.insert(*key, shared.slot(key)?);
        }
        Ok(())
    }
}

impl Changes {
    /// What was changed since this was asked last, or since it was begun to be noted.
    pub(super) fn take(&mut self, shared: &Shared) -> Result<StateDiff, StateReadError> {
        let Self { accounts, slots } = mem::take(self);
        let mut written = AddressMap::<Vec<(u32, U256, U256)>>::default();
        for (SlotKey { address, generation, slot }, before) in slots {
            written.entry(address).or_default().push((generation, slot, before));
        }
        let mut ended = ended(shared, &accounts)?;
        let mut diff = StateDiff::default();
        // A slot's account is noted as well.
        for (address, before) in accounts {
            let written = written.remove(&address).unwrap_or_default();
            let mut slots = ended.remove(&address).unwrap_or_default();
            let after = shared.account(address)?;
            let old = written.iter().filter(|(generation, ..)| *generation == before.generation);
            // What storage that ended held is known as it was at its end.
            slots.extend(old.map(|(_, slot, before)| (*slot, *before)));
            if before.generation != after.generation {
                let new = written.iter().filter(|(generation, ..)| *generation == after.generation);
                for (_, slot, _) in new {
                    slots.entry(*slot).or_default();
                }
            }
            let mut account =
                AccountDiff { before: before.info, after: after.info, ..AccountDiff::default() };
            for (slot, before) in slots {
                let key = SlotKey { address, generation: after.generation, slot };
                let after = shared.slot(&key)?;
                if before != after {
                    account.storage.insert(B256::from(slot), SlotDiff { before, after });
                }
            }
            let code = |hash| shared.memory.code(hash);
            diff::add(&mut diff, address, account, &*shared.reader, code)?;
        }
        Ok(diff)
    }
}

/// The storage of accounts whose storage ended.
fn ended(
    shared: &Shared,
    noted: &AddressMap<AccountState>,
) -> Result<AddressMap<HashMap<U256, U256>>, StateReadError> {
    let mut ended = AddressMap::default();
    for (address, before) in noted {
        if before.info.is_some() && shared.account(*address)?.generation != before.generation {
            let slots = match before.generation {
                0 if shared.reader.account(*address)?.is_some() => {
                    shared.reader.storage_of(*address)?.into_iter().collect()
                }
                _ => HashMap::default(),
            };
            ended.insert(*address, slots);
        }
    }
    if !ended.is_empty() {
        shared.memory.slots.visit(|key, value| {
            if let Some(slots) = ended.get_mut(&key.address)
                && noted.get(&key.address).is_some_and(|of| of.generation == key.generation)
            {
                slots.insert(key.slot, *value);
            }
        });
    }
    Ok(ended)
}
