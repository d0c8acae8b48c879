//! What a block writes: its state with the values before it, itself, its indexes.

use millrace_proto::{ExecutedBlock, SealedHeader, StateDiff};

use super::{block_codec, chain::meta, codec::trimmed, db::Batch, diff_codec, keys, table::Table};
use crate::{
    state::{AccountRecord, RootUpdate},
    trie::NodeChange,
};

/// Whether values before a block are kept as history.
#[derive(Debug, Clone, Copy)]
pub(super) enum History {
    /// As history of this block.
    Of(u64),
    /// Not kept: nothing is before the genesis block.
    None,
}

/// Writes the state after `diff`, whose root is `update`.
pub(super) fn state(
    batch: &mut Batch<'_>,
    diff: &StateDiff,
    update: &RootUpdate,
    history: History,
) {
    // In the order of their keys, as all that goes into a table: RocksDB finds the place of the next one near the last one's.
    let mut accounts: Vec<_> = update.accounts.iter().collect();
    accounts.sort_unstable_by_key(|change| change.address);
    for change in accounts {
        if change.before == change.after {
            continue;
        }
        let key = change.address.as_slice();
        let before = change.before.map(AccountRecord::to_vec);
        let after = change.after.map(AccountRecord::to_vec);
        set(batch, Table::Accounts, key, before.as_deref(), after.as_deref(), history);
    }
    for (address, account) in &diff.accounts {
        for (slot, values) in &account.storage {
            if values.before == values.after {
                continue;
            }
            let key = keys::storage(*address, *slot);
            let before = values.before.to_be_bytes::<32>();
            let after = values.after.to_be_bytes::<32>();
            let value = |bytes| Some(trimmed(bytes)).filter(|bytes| !bytes.is_empty());
            set(batch, Table::Storage, &key, value(&before), value(&after), history);
        }
    }
    for (hash, code) in &diff.code {
        batch.put(Table::Code, hash, code);
    }
    nodes(batch, Table::AccountNodes, &[], &update.account_nodes, history);
    for (owner, changes) in &update.storage_nodes {
        nodes(batch, Table::StorageNodes, owner.as_slice(), changes, history);
    }
    if let History::Of(number) = history {
        let key = number.to_be_bytes();
        batch.put(Table::Diffs, key, diff_codec::encode_diff(diff));
        batch.put(Table::NodeChanges, key, diff_codec::encode_node_changes(update));
    }
}

fn nodes(
    batch: &mut Batch<'_>,
    table: Table,
    owner: &[u8],
    changes: &[NodeChange],
    history: History,
) {
    for NodeChange { path, before, after } in changes {
        let key = keys::node(owner, path);
        set(batch, table, &key, before.as_deref(), after.as_deref(), history);
    }
}

/// Puts a value in the place of another, which becomes history. An empty entry of history means that nothing was there, as no
/// value of these tables is empty.
fn set(
    batch: &mut Batch<'_>,
    table: Table,
    key: &[u8],
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    history: History,
) {
    if let (History::Of(number), Some(table)) = (history, table.history()) {
        batch.put(table, keys::history(key, number), before.unwrap_or_default());
    }
    batch.set(table, key, after);
}

/// Writes a block without the index of its transactions, and makes it the head.
pub(super) fn block(batch: &mut Batch<'_>, block: &ExecutedBlock) {
    let number = block.number().to_be_bytes();
    batch.put(Table::Bodies, number, block_codec::encode_body(&block.transactions));
    batch.put(Table::Receipts, number, block_codec::encode_receipts(&block.receipts));
    header(batch, &block.header);
}

/// Writes where each transaction of a block is.
pub(super) fn locations(batch: &mut Batch<'_>, block: &ExecutedBlock) {
    let mut hashes: Vec<_> =
        (0u32..).zip(&block.transactions).map(|(index, tx)| (tx.hash(), index)).collect();
    hashes.sort_unstable();
    for (hash, index) in hashes {
        let mut location = [0; 12];
        location[..8].copy_from_slice(&block.number().to_be_bytes());
        location[8..].copy_from_slice(&index.to_be_bytes());
        batch.put(Table::Transactions, hash, location);
    }
}

/// Writes a header and makes its block the head.
pub(super) fn header(batch: &mut Batch<'_>, header: &SealedHeader) {
    let number = header.number.to_be_bytes();
    batch.put(Table::Headers, number, block_codec::encode_header(header));
    batch.put(Table::BlockNumbers, header.seal(), number);
    let head = [&number[..], header.seal().as_slice()].concat();
    batch.put(Table::Meta, meta::HEAD, head);
}
