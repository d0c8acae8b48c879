//! Whether a transaction does what the access list says, and whether the list says no more than that.

use std::fmt::Display;

use alloy::eips::eip7928::AccountChanges;
use alloy_primitives::{Address, B256, U256, map::U256Map};
use millrace_proto::AccountInfo;
use revm::state::{Account, EvmState, EvmStorageSlot};

use super::{
    AccessListError,
    index::{Listed, ListedSlot, at},
    view::ListedView,
};
use crate::evm::{StateReadError, StateReader, block_state::from_evm, parallel::state::Life};

/// What of the list is found in the block.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// By account: whether it is read.
    seen: Vec<bool>,
    /// By account: how many of its changes are made.
    made: Vec<u32>,
    /// By number: whether a slot that is only read is read.
    reads: Vec<bool>,
}

impl Marks {
    pub(super) fn new(listed: &Listed) -> Self {
        let accounts = listed.list.len();
        Self {
            seen: vec![false; accounts],
            made: vec![0; accounts],
            reads: vec![false; listed.reads()],
        }
    }

    pub(super) fn see(&mut self, account: u32) {
        self.seen[account as usize] = true;
    }

    pub(super) fn read(&mut self, number: usize) {
        self.reads[number] = true;
    }

    fn make(&mut self, account: u32) {
        self.made[account as usize] += 1;
    }

    /// Adds those of another thread.
    pub(super) fn merge(&mut self, other: Self) {
        let Self { seen, made, reads } = other;
        self.seen.iter_mut().zip(seen).for_each(|(all, one)| *all |= one);
        self.made.iter_mut().zip(made).for_each(|(all, one)| *all += one);
        self.reads.iter_mut().zip(reads).for_each(|(all, one)| *all |= one);
    }

    /// Whether all that is listed is in the block. No change is made twice, so that counting them is enough.
    pub(super) fn complete(&self, listed: &Listed) -> Result<(), AccessListError> {
        for (account, changes) in listed.list.iter().enumerate() {
            let address = changes.address;
            if !self.seen[account] {
                return Err(AccessListError::NotRead { address, slot: None });
            }
            let (count, made) = (count(changes), self.made[account] as usize);
            if count != made {
                return Err(AccessListError::NotMade { address, listed: count, made });
            }
            for (number, slot) in listed.reads_of(account as u32).zip(&changes.storage_reads) {
                if !self.reads[number] {
                    return Err(AccessListError::NotRead { address, slot: Some(*slot) });
                }
            }
        }
        Ok(())
    }
}

/// How many changes of an account are listed.
fn count(changes: &AccountChanges) -> usize {
    let slots: usize = changes.storage_changes.iter().map(|slot| slot.changes.len()).sum();
    let fields =
        [changes.balance_changes.len(), changes.nonce_changes.len(), changes.code_changes.len()];
    slots + fields.iter().sum::<usize>()
}

impl ListedView {
    /// Checks what a transaction left in its journal against the list.
    pub(super) fn check(&mut self, state: &EvmState) -> Result<(), AccessListError> {
        for (address, account) in state {
            self.check_account(*address, account)?;
        }
        // Slots of an account that the transaction creates are zero without being read, also when the creation fails.
        let used: usize = state.values().map(|account| account.storage.len()).sum();
        if used != self.slots {
            for (address, account) in state {
                let (number, _) = self.found(*address)?;
                account
                    .storage
                    .keys()
                    .try_for_each(|slot| self.check_read(*address, number, *slot))?;
            }
        }
        Ok(())
    }

    fn check_account(
        &mut self,
        address: Address,
        account: &Account,
    ) -> Result<(), AccessListError> {
        // revm's own note of it is another once a payment has failed for an overflow.
        let (number, found) = self.found(address)?;
        let before = found.unwrap_or_default();
        let life = Life::of(account);
        let ends = life == Life::Ends;
        let removed = account.is_touched() && account.info.is_empty();
        if account.is_touched() {
            let after = if ends { Default::default() } else { from_evm(&account.info) };
            self.check_info(number, &before, &after)?;
        }
        if life != Life::Goes || removed {
            return self.check_new_storage(address, number, account, found.is_some());
        }
        for (slot, value) in &account.storage {
            if value.is_changed() {
                self.check_slot(address, number, *slot, value.present_value)?;
            }
        }
        Ok(())
    }

    /// What becomes of an account but for its storage.
    pub(super) fn check_info(
        &mut self,
        account: u32,
        before: &AccountInfo,
        after: &AccountInfo,
    ) -> Result<(), AccessListError> {
        if before.balance != after.balance {
            self.expect_balance(account, after.balance)?;
        }
        if before.nonce != after.nonce {
            self.expect_nonce(account, after.nonce)?;
        }
        if before.code_hash != after.code_hash {
            self.expect_code(account, after.code_hash)?;
        }
        Ok(())
    }

    /// A balance that the transaction leaves, and found another.
    pub(super) fn expect_balance(
        &mut self,
        account: u32,
        balance: U256,
    ) -> Result<(), AccessListError> {
        let of = &self.listed.changes(account).balance_changes;
        let listed = at(of, self.index, |change| change.block_access_index);
        let listed = listed.map(|at| of[at].post_balance);
        self.compare(account, || "the balance".to_owned(), balance, listed)
    }

    /// A nonce that the transaction leaves, and found another.
    pub(super) fn expect_nonce(&mut self, account: u32, nonce: u64) -> Result<(), AccessListError> {
        let of = &self.listed.changes(account).nonce_changes;
        let listed = at(of, self.index, |change| change.block_access_index);
        let listed = listed.map(|at| of[at].new_nonce);
        self.compare(account, || "the nonce".to_owned(), nonce, listed)
    }

    /// Code that the transaction leaves, and found other.
    pub(super) fn expect_code(&mut self, account: u32, hash: B256) -> Result<(), AccessListError> {
        let of = &self.listed.changes(account).code_changes;
        let listed = at(of, self.index, |change| change.block_access_index);
        let listed = listed.and_then(|at| self.listed.code_hash(account, at));
        self.compare(account, || "the code hash".to_owned(), hash, listed)
    }

    /// A slot that a transaction changes.
    pub(super) fn check_slot(
        &mut self,
        address: Address,
        account: u32,
        slot: U256,
        value: U256,
    ) -> Result<(), AccessListError> {
        let said = match self.listed.slot(account, &slot) {
            Some(ListedSlot::Changed(changes)) => {
                let of = &changes.changes;
                at(of, self.index, |change| change.block_access_index).map(|at| of[at].new_value)
            }
            Some(ListedSlot::Read(_)) => None,
            None => return Err(self.not_listed(address, Some(slot))),
        };
        self.compare(account, || format!("slot {slot:#x}"), value, said)
    }

    /// A slot that a transaction reads.
    pub(super) fn check_read(
        &mut self,
        address: Address,
        account: u32,
        slot: U256,
    ) -> Result<(), AccessListError> {
        match self.listed.slot(account, &slot) {
            Some(ListedSlot::Changed(_)) => {}
            Some(ListedSlot::Read(number)) => self.marks.read(number),
            None => return Err(self.not_listed(address, Some(slot))),
        }
        Ok(())
    }

    /// The slots of an account whose storage the transaction starts anew, or ends.
    fn check_new_storage(
        &mut self,
        address: Address,
        number: u32,
        account: &Account,
        found: bool,
    ) -> Result<(), AccessListError> {
        let mut before = U256Map::default();
        if found {
            before.extend(self.listed.storage_before(address, self.index)?);
        }
        let ends = Life::of(account) == Life::Ends;
        let after = |value: &EvmStorageSlot| {
            if ends { U256::ZERO } else { value.present_value }
        };
        for (slot, value) in &account.storage {
            let was = before.remove(slot).unwrap_or_default();
            if was != after(value) {
                self.check_slot(address, number, *slot, after(value))?;
            }
        }
        for slot in before.into_keys() {
            self.check_slot(address, number, slot, U256::ZERO)?;
        }
        Ok(())
    }

    fn compare<T: PartialEq + Display>(
        &mut self,
        account: u32,
        part: impl FnOnce() -> String,
        got: T,
        listed: Option<T>,
    ) -> Result<(), AccessListError> {
        if listed.as_ref() == Some(&got) {
            self.marks.make(account);
            return Ok(());
        }
        Err(AccessListError::Change {
            index: self.index,
            address: self.listed.changes(account).address,
            part: part(),
            got: got.to_string(),
            listed: listed.map_or_else(|| "it does not".to_owned(), |listed| listed.to_string()),
        })
    }
}

impl Listed {
    /// Every slot of an account that is not zero, as the transaction at `index` finds it.
    pub(super) fn storage_before(
        &self,
        address: Address,
        index: u32,
    ) -> Result<Vec<(U256, U256)>, StateReadError> {
        let mut slots: U256Map<U256> = self.reader.storage_of(address)?.into_iter().collect();
        let account = self.account(&address);
        for changes in account.iter().flat_map(|account| &self.changes(*account).storage_changes) {
            slots.insert(changes.slot, self.slot_before(address, changes, index)?);
        }
        Ok(slots.into_iter().filter(|(_, value)| !value.is_zero()).collect())
    }
}
