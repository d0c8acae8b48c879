//! Access lists that are not those of their blocks.

use alloy::eips::eip7928::{
    AccountChanges, BalanceChange, BlockAccessIndex, BlockAccessList, CodeChange, NonceChange,
    SlotChanges, StorageChange,
};
use alloy_primitives::{Address, U256};
use rand::{Rng, RngExt};

/// Changes one thing in an access list, which keeps its form. Gives what was changed.
pub(super) fn tamper(list: &mut BlockAccessList, end: u64, random: &mut impl Rng) -> &'static str {
    if list.is_empty() || random.random_ratio(1, 12) {
        insert_account(list, random);
        return "an account more";
    }
    let number = random.random_range(0..list.len());
    if random.random_ratio(1, 12) {
        list.remove(number);
        return "an account less";
    }
    let account = &mut list[number];
    for _ in 0..8 {
        let index = BlockAccessIndex::new(random.random_range(0..=end));
        let value = U256::from(random.random::<u64>());
        match random.random_range(0..8) {
            0 => {
                let slot = U256::from(random.random::<u64>());
                let place = account.storage_reads.binary_search(&slot);
                if let Err(place) = place
                    && account.storage_changes.iter().all(|changes| changes.slot != slot)
                {
                    account.storage_reads.insert(place, slot);
                    return "a slot more";
                }
            }
            1 if !account.storage_reads.is_empty() => {
                let place = random.random_range(0..account.storage_reads.len());
                account.storage_reads.remove(place);
                return "a slot less";
            }
            2 if !account.storage_changes.is_empty() => {
                let place = random.random_range(0..account.storage_changes.len());
                let slot = account.storage_changes[place].clone();
                return change_slot(account, place, slot, index, value, random);
            }
            3 => {
                let of = |change: &BalanceChange| change.block_access_index;
                let make = BalanceChange::new(index, value);
                return change(&mut account.balance_changes, of, make, random);
            }
            4 => {
                let of = |change: &NonceChange| change.block_access_index;
                let make = NonceChange::new(index, random.random());
                return change(&mut account.nonce_changes, of, make, random);
            }
            5 => {
                let of = |change: &CodeChange| change.block_access_index;
                let code = vec![0; random.random_range(1..9)];
                let make = CodeChange::new(index, code.into());
                return change(&mut account.code_changes, of, make, random);
            }
            6 if !account.storage_reads.is_empty() => {
                // What is only read is said to change.
                let place = random.random_range(0..account.storage_reads.len());
                let slot = account.storage_reads.remove(place);
                let changes = SlotChanges::new(slot, vec![StorageChange::new(index, value)]);
                let place = account.storage_changes.partition_point(|other| other.slot < slot);
                account.storage_changes.insert(place, changes);
                return "a slot that changes";
            }
            _ => {}
        }
    }
    insert_account(list, random);
    "an account more"
}

fn insert_account(list: &mut BlockAccessList, random: &mut impl Rng) {
    let address = Address::from(random.random::<[u8; 20]>());
    let place = list.partition_point(|account| account.address < address);
    list.insert(place, AccountChanges::new(address));
}

fn change_slot(
    account: &mut AccountChanges,
    place: usize,
    mut slot: SlotChanges,
    index: BlockAccessIndex,
    value: U256,
    random: &mut impl Rng,
) -> &'static str {
    let of = |change: &StorageChange| change.block_access_index;
    let what = change(&mut slot.changes, of, StorageChange::new(index, value), random);
    if slot.changes.is_empty() {
        // A slot that does not change any more is one that is read.
        account.storage_changes.remove(place);
        let place = account.storage_reads.partition_point(|other| *other < slot.slot);
        account.storage_reads.insert(place, slot.slot);
    } else {
        account.storage_changes[place] = slot;
    }
    what
}

/// Takes a change away, puts another in the place of one, or adds one.
fn change<T>(
    changes: &mut Vec<T>,
    of: impl Fn(&T) -> BlockAccessIndex,
    make: T,
    random: &mut impl Rng,
) -> &'static str {
    if !changes.is_empty() && random.random_ratio(1, 3) {
        changes.remove(random.random_range(0..changes.len()));
        return "a change less";
    }
    match changes.binary_search_by_key(&of(&make), of) {
        Ok(place) => {
            changes[place] = make;
            "another value"
        }
        Err(place) => {
            changes.insert(place, make);
            "a change more"
        }
    }
}
