//! The access list of a block that is executed in order, by revm's own builder.

use alloy::eips::eip7928::{BlockAccessIndex, BlockAccessList};
use alloy_primitives::{Address, U256, map::AddressMap};
use millrace_proto::AccountInfo;
use revm::{
    handler::SYSTEM_ADDRESS,
    state::{Account, EvmState, bal::Bal},
};

use super::{
    StateReadError, StateReader,
    block_state::{BlockState, from_evm, to_evm},
};

/// What each transaction of a block reads and writes (EIP-7928).
///
/// Rules before Cancun let a transaction destroy storage that it never named. Such a slot is listed as changed to zero, so that the
/// list says all that the block changes under any rules.
#[derive(Debug, Default)]
pub(super) struct AccessListBuilder {
    list: Bal,
    index: BlockAccessIndex,
    /// What the system's calls at this index found first. Several share one, and revm's builder compares only with what the last found.
    found: AddressMap<Account>,
}

impl AccessListBuilder {
    /// What comes now belongs to the transaction after the `included` that are in the block, or to the block's end.
    pub(super) fn after(&mut self, included: usize) {
        self.index = BlockAccessIndex::from_tx_index(included as u64);
        self.found.clear();
    }

    /// Adds a transaction or a system call by what it left in its journal, before that is committed to `block`.
    pub(super) fn add<R: StateReader>(
        &mut self,
        state: &EvmState,
        block: &mut BlockState<R>,
        system: bool,
    ) -> Result<(), StateReadError> {
        for (address, account) in state {
            // The caller of system calls does not count, unless it is changed.
            if system && *address == SYSTEM_ADDRESS && !account.is_changed() {
                continue;
            }
            if !account.is_touched() {
                // Nothing of it is committed.
                let slots = account.storage.keys().copied();
                self.list.accounts.entry(*address).or_default().storage.update_reads(slots);
                continue;
            }
            let gone = block.wiped_by(*address, account)?;
            let before = block.info(*address)?.unwrap_or_default();
            if !system && from_evm(&account.original_info()) == before {
                self.list.update_account(self.index, *address, account);
            } else {
                // revm notes the account anew after a payment that failed for an overflow.
                let mut account = account.clone();
                *account.original_info_mut() = to_evm(before);
                if system {
                    self.compare_with_first(*address, &mut account);
                }
                self.list.update_account(self.index, *address, &account);
            }
            self.wipe(*address, account, gone);
        }
        Ok(())
    }

    /// Lets an account that a call of the system left be compared with what the first call at this index found.
    fn compare_with_first(&mut self, address: Address, account: &mut Account) {
        let found = self.found.entry(address).or_insert_with(|| account.clone());
        *account.original_info_mut() = found.original_info();
        for (slot, value) in &mut account.storage {
            let first = found.storage.entry(*slot).or_insert_with(|| value.clone());
            value.original_value = first.original_value;
        }
    }

    /// Adds a mint, and the nonce's bump, outside any transaction's execution.
    pub(super) fn mint_and_bump(&mut self, address: Address, [before, after]: [AccountInfo; 2]) {
        let account = self.list.accounts.entry(address).or_default();
        account.balance_update(self.index, &before.balance, after.balance);
        account.nonce_update(self.index, &before.nonce, after.nonce);
    }

    pub(super) fn finish(self) -> BlockAccessList {
        self.list.into_alloy_bal()
    }

    /// The slots of storage that ends with the transaction, with their values so far.
    fn wipe(&mut self, address: Address, account: &Account, slots: Vec<(U256, U256)>) {
        if slots.is_empty() {
            return;
        }
        let listed = &mut self.list.accounts.entry(address).or_default().storage.storage;
        for (slot, before) in slots {
            let written = account.storage.get(&slot).filter(|_| !account.is_selfdestructed());
            let after = written.map_or(U256::ZERO, |value| value.present_value);
            listed.entry(slot).or_default().update(self.index, &before, after);
        }
    }
}
