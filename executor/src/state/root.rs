//! The state root after a diff.

use alloy::{
    primitives::{Address, B256},
    rlp,
};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use millrace_crypto::keccak256_batch;
use millrace_proto::{AccountDiff, StateDiff};
use rayon::prelude::*;

use super::{AccountRecord, nodes::Nodes};
use crate::{
    store::{
        StoreError,
        db::{InTable, Reader},
        table::Table,
    },
    trie::{self, NodeChange, TrieUpdate, Update},
};

/// The state root after a diff, and what has to be written with it.
#[derive(Debug)]
pub(crate) struct RootUpdate {
    /// The state root.
    pub(crate) root: B256,
    /// Hash of the block on whose state the diff was put; zero below the genesis block.
    pub(crate) parent: B256,
    /// Every account of the diff, with its storage root.
    pub(crate) accounts: Vec<AccountChange>,
    /// Nodes of the account trie that change.
    pub(crate) account_nodes: Vec<NodeChange>,
    /// Nodes of storage tries that change, by hashed address.
    pub(crate) storage_nodes: Vec<(B256, Vec<NodeChange>)>,
}

/// An account before and after.
#[derive(Debug)]
pub(crate) struct AccountChange {
    pub(crate) address: Address,
    pub(crate) before: Option<AccountRecord>,
    pub(crate) after: Option<AccountRecord>,
}

/// An account after its storage trie is up to date.
struct Account {
    key: B256,
    change: AccountChange,
    nodes: Vec<NodeChange>,
}

/// Addresses that a thread hashes at once.
const KEYS: usize = 256;

/// The root after `diff` on top of what `reader` sees: storage tries first, each by itself, then the account trie.
pub(crate) fn state_root(
    reader: Reader<'_>,
    parent: B256,
    diff: &StateDiff,
) -> Result<RootUpdate, StoreError> {
    state_root_at(reader, None, parent, diff)
}

/// The same on top of an earlier block than the one that `reader` sees, if it is given.
pub(super) fn state_root_at(
    reader: Reader<'_>,
    at: Option<u64>,
    parent: B256,
    diff: &StateDiff,
) -> Result<RootUpdate, StoreError> {
    let addresses: Vec<_> = diff.accounts.keys().collect();
    let before = records(reader, at, &addresses)?;
    let keys = addresses.par_chunks(KEYS).flat_map_iter(keccak256_batch).collect::<Vec<_>>();
    let accounts: Vec<_> = diff.accounts.iter().zip(before).zip(keys).collect();
    let mut accounts = accounts
        .into_par_iter()
        .map(|(((address, diff), before), key)| account((reader, at), *address, key, diff, before))
        .collect::<Result<Vec<_>, _>>()?;
    accounts.sort_unstable_by_key(|account| account.key);

    let updates: Vec<_> = accounts
        .iter()
        .filter(|account| account.change.before != account.change.after)
        .map(|account| Update {
            key: Nibbles::unpack(account.key),
            value: account.change.after.map(|record| rlp::encode(record.to_trie())),
        })
        .collect();
    let TrieUpdate { root, changes } = trie::update(&Nodes::accounts(reader).at(at), &updates)?;

    let mut update = RootUpdate {
        root,
        parent,
        accounts: Vec::with_capacity(accounts.len()),
        account_nodes: changes,
        storage_nodes: Vec::new(),
    };
    for Account { key, change, nodes } in accounts {
        update.accounts.push(change);
        if !nodes.is_empty() {
            update.storage_nodes.push((key, nodes));
        }
    }
    Ok(update)
}

fn records(
    reader: Reader<'_>,
    at: Option<u64>,
    addresses: &[&Address],
) -> Result<Vec<Option<AccountRecord>>, StoreError> {
    let decode = |record: Option<&[u8]>| record.map(AccountRecord::decode).transpose();
    let records = match at {
        None => {
            let records = reader.get_sorted(Table::Accounts, addresses)?;
            records.iter().map(|record| decode(record.as_deref())).collect()
        }
        Some(number) => {
            let read =
                |address: &&Address| reader.get_at(Table::Accounts, address.as_slice(), number);
            let records: Vec<_> = addresses.iter().map(read).collect::<Result<_, _>>()?;
            records.iter().map(|record| decode(record.as_deref())).collect()
        }
    };
    Result::<_, _>::in_table(records, Table::Accounts)
}

fn account(
    (reader, at): (Reader<'_>, Option<u64>),
    address: Address,
    key: B256,
    diff: &AccountDiff,
    before: Option<AccountRecord>,
) -> Result<Account, StoreError> {
    if before.map(|record| record.info) != diff.before {
        let problem = "it was another before";
        return Err(StoreError::Diff { address, problem });
    }
    let changed = || diff.storage.iter().filter(|(_, slot)| slot.before != slot.after);
    let slots: Vec<_> = changed().map(|(slot, _)| slot).collect();
    let mut slots: Vec<_> = keccak256_batch(&slots)
        .into_iter()
        .zip(changed())
        .map(|(key, (_, values))| Update {
            key: Nibbles::unpack(key),
            value: (!values.after.is_zero()).then(|| rlp::encode(values.after)),
        })
        .collect();
    slots.sort_unstable_by_key(|update| update.key);

    let (storage_root, nodes) = if slots.is_empty() {
        (before.map_or(EMPTY_ROOT_HASH, |record| record.storage_root), Vec::new())
    } else {
        let TrieUpdate { root, changes } =
            trie::update(&Nodes::storage(reader, key).at(at), &slots)?;
        (root, changes)
    };
    if diff.after.is_none() && storage_root != EMPTY_ROOT_HASH {
        let problem = "it does not exist after, but keeps storage";
        return Err(StoreError::Diff { address, problem });
    }
    let after = diff.after.map(|info| AccountRecord { info, storage_root });
    Ok(Account { key, change: AccountChange { address, before, after }, nodes })
}
