//! What running a transaction gave.

use alloy_primitives::{Address, U256};
use revm::{
    context::result::ExecutionResult,
    state::{Account, EvmState},
};

use super::{
    notes::Notes,
    state::{AccountRead, AccountState, AccountWrite, Life, SlotKey, SlotRead, SlotWrite},
    view::Shared,
};

/// The result of a transaction in its place.
pub(super) struct Ran {
    pub(super) result: ExecutionResult,
    pub(super) state: EvmState,
    /// What the beneficiary gets; `None` if that is in the state.
    pub(super) reward: Option<U256>,
}

/// A transaction that was run ahead: its result, what that depends on, and what it changes.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) accounts: Vec<AccountRead>,
    pub(super) slots: Vec<SlotRead>,
    /// All slots that it used, for the block's access list, if some are zero without being read: those of accounts that it creates, for
    /// good or until the creation fails.
    pub(super) own_slots: Vec<(Address, U256)>,
    pub(super) writes: Vec<AccountWrite>,
    pub(super) slot_writes: Vec<SlotWrite>,
    /// What the beneficiary gets; `None` if that is among the writes.
    pub(super) reward: Option<U256>,
    /// `None` once it is taken.
    pub(super) result: Option<ExecutionResult>,
    /// Whether it depends on a value that was not committed.
    pub(super) early: bool,
    /// Whether some of its writes are shown to later transactions.
    pub(super) published: bool,
}

/// A value that a run shows to later transactions.
pub(super) enum Published {
    Account(Address, AccountState),
    Slot(SlotKey, U256),
}

impl Run {
    /// Empties it, to be used again.
    pub(super) fn clear(&mut self) {
        self.accounts.clear();
        self.slots.clear();
        self.own_slots.clear();
        self.writes.clear();
        self.slot_writes.clear();
        self.reward = None;
        self.result = None;
        self.early = false;
        self.published = false;
    }

    /// Fills in what the EVM changed, with the reads there already. Gives back the emptied map of accounts.
    pub(super) fn fill(&mut self, shared: &Shared, notes: &Notes, ran: Ran) -> EvmState {
        let Ran { result, mut state, reward } = ran;
        self.result = Some(result);
        self.reward = reward;
        // What is paid out of a huge balance may overflow any other.
        let huge = self.accounts.iter().any(|read| read.seen.is_huge());
        for read in &mut self.accounts {
            read.exact = huge || notes.has_balance_of(&read.address);
        }
        self.early = self.slots.iter().any(|read| read.early)
            || self.accounts.iter().any(|read| read.early && read.exact);
        if shared.env.access_list {
            let used: usize = state.values().map(|account| account.storage.len()).sum();
            if used != self.slots.len() {
                self.own_slots.extend(state.iter().flat_map(|(address, account)| {
                    account.storage.keys().map(|slot| (*address, *slot))
                }));
            }
        }
        for (address, account) in state.drain() {
            if !account.is_touched() {
                continue;
            }
            let seen = self.accounts.iter().find(|read| read.address == address);
            let Some(seen) = seen.map(|read| read.seen) else { continue };
            self.write(shared, address, seen, account);
        }
        state
    }

    fn write(&mut self, shared: &Shared, address: Address, seen: AccountState, account: Account) {
        let before = seen.info.unwrap_or_default();
        let (info, life) = (&account.info, Life::of(&account));
        let write = AccountWrite {
            address,
            balance: info.balance.wrapping_sub(before.balance),
            nonce: (info.nonce != before.nonce).then_some(info.nonce),
            code_hash: (info.code_hash != before.code_hash).then_some(info.code_hash),
            life,
        };
        if write.code_hash.is_some() {
            shared.add_code(info);
        }
        let index = self.writes.len() as u32;
        let slots = self.slot_writes.len();
        if life != Life::Ends {
            let changed = account.changed_storage_slots();
            self.slot_writes.extend(changed.map(|(slot, value)| SlotWrite {
                account: index,
                slot: *slot,
                value: value.present_value,
            }));
        }
        // An empty account that is touched goes, so it counts as changed.
        if self.slot_writes.len() > slots
            || life != Life::Goes
            || !write.balance.is_zero()
            || write.nonce.is_some()
            || write.code_hash.is_some()
            || seen.is_empty()
        {
            self.writes.push(write);
        }
    }

    /// Every value that later transactions should see of this run, as far as it can be told before it is committed.
    pub(super) fn visit_published(
        &self,
        index: u32,
        removes_empty: bool,
        mut visit: impl FnMut(Published),
    ) {
        let mut slots = self.slot_writes.iter().peekable();
        for (number, write) in self.writes.iter().enumerate() {
            let seen = self.accounts.iter().find(|read| read.address == write.address);
            let Some(seen) = seen else { continue };
            let after = write.apply(&seen.seen, index, removes_empty);
            while let Some(slot) = slots.next_if(|slot| slot.account as usize == number) {
                let (address, generation) = (write.address, after.generation);
                let key = SlotKey { address, generation, slot: slot.slot };
                visit(Published::Slot(key, slot.value));
            }
            // Where only slots are written, the account is as those before left it.
            if after != seen.seen {
                visit(Published::Account(write.address, after));
            }
        }
    }
}
