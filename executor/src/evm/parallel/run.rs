//! What running a transaction gave, before it is part of the block.

use alloy_primitives::{Address, Log, U256};
use revm::{
    context::result::ExecutionResult,
    state::{Account, EvmState},
};

use super::{
    notes::Notes,
    state::{AccountRead, AccountState, AccountWrite, Life, SlotKey, SlotRead, SlotWrite},
    view::Shared,
};

/// A transaction's result, what it depends on, and what it changes.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) accounts: Vec<AccountRead>,
    pub(super) slots: Vec<SlotRead>,
    pub(super) writes: Vec<AccountWrite>,
    pub(super) slot_writes: Vec<SlotWrite>,
    /// What the beneficiary gets; `None` if that is among the writes.
    pub(super) reward: Option<U256>,
    pub(super) success: bool,
    pub(super) gas_used: u64,
    pub(super) logs: Vec<Log>,
}

/// A value that a run shows to later transactions.
pub(super) enum Published {
    Account(Address, AccountState),
    Slot(SlotKey, U256),
}

impl Run {
    /// Takes what the EVM read, and writes down what it changed.
    pub(super) fn take(
        shared: &Shared,
        (accounts, slots): (Vec<AccountRead>, Vec<SlotRead>),
        notes: &Notes,
        state: EvmState,
        result: ExecutionResult,
    ) -> Self {
        let mut run = Self {
            accounts,
            slots,
            reward: notes.reward,
            success: result.is_success(),
            gas_used: result.tx_gas_used(),
            logs: result.into_logs(),
            ..Self::default()
        };
        for read in &mut run.accounts {
            read.exact = notes.has_balance_of(&read.address) || read.seen.is_huge();
        }
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            let seen = run.accounts.iter().find(|read| read.address == address);
            let Some(seen) = seen.copied() else { continue };
            run.write(shared, seen, account);
        }
        run
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
            visit(Published::Account(write.address, after));
        }
    }

    fn write(&mut self, shared: &Shared, read: AccountRead, account: Account) {
        let seen = read.seen.info.unwrap_or_default();
        let life = match (account.is_selfdestructed(), account.is_created()) {
            (true, _) => Life::Ends,
            (false, true) => Life::Begins,
            (false, false) => Life::Goes,
        };
        let info = &account.info;
        let write = AccountWrite {
            address: read.address,
            balance: info.balance.wrapping_sub(seen.balance),
            nonce: (info.nonce != seen.nonce).then_some(info.nonce),
            code_hash: (info.code_hash != seen.code_hash).then_some(info.code_hash),
            life,
        };
        if let (Some(hash), Some(code)) = (write.code_hash, &info.code)
            && !code.is_empty()
        {
            shared.memory.add_code(hash, code.clone());
        }
        let index = self.writes.len() as u32;
        let before = self.slot_writes.len();
        if life != Life::Ends {
            let changed = account.changed_storage_slots();
            self.slot_writes.extend(changed.map(|(slot, value)| SlotWrite {
                account: index,
                slot: *slot,
                value: value.present_value,
            }));
        }
        // An empty account that is touched goes, so it counts as changed.
        if self.slot_writes.len() > before
            || life != Life::Goes
            || !write.balance.is_zero()
            || write.nonce.is_some()
            || write.code_hash.is_some()
            || read.seen.is_empty()
        {
            self.writes.push(write);
        }
    }
}
