//! Removing history that is too old.

use super::{
    StoreError,
    chain::{ChainReader, meta},
    db::{Batch, InTable},
    diff_codec, keys,
    table::Table,
};

/// Blocks whose history goes in one commit, at most. More than one, so that a store whose window was made smaller gets
/// there.
const BLOCKS_PER_COMMIT: usize = 4;

/// Adds the removal of history that `head` no longer needs to its commit, oldest first. Returns the oldest block whose state
/// can be read afterwards, if that changes.
pub(super) fn prune(
    batch: &mut Batch<'_>,
    chain: ChainReader<'_>,
    head: u64,
    history_blocks: u64,
    keeps_diffs: bool,
) -> Result<Option<u64>, StoreError> {
    let oldest = chain.oldest()?;
    let wanted = head.saturating_sub(history_blocks).min(head - 1);
    if wanted <= oldest {
        return Ok(None);
    }
    // Of blocks that a batch's state diffs have passed over there is none.
    let numbers = chain.changed(oldest, wanted, BLOCKS_PER_COMMIT)?;
    let Some(last) = numbers.last().copied() else { return Ok(None) };
    for number in numbers {
        forget(batch, chain, number, keeps_diffs)?;
    }
    batch.put(Table::Meta, meta::OLDEST, last.to_be_bytes());
    Ok(Some(last))
}

/// Removes what block `number` put into the history tables, which only states before it need; what it changed stays where batches are made of that.
fn forget(
    batch: &mut Batch<'_>,
    chain: ChainReader<'_>,
    number: u64,
    keeps_diffs: bool,
) -> Result<(), StoreError> {
    let key = number.to_be_bytes();
    let missing = |table| StoreError::corrupt(table, format!("block {number} is missing"));

    let diff = chain.read(Table::Diffs, &key, diff_codec::decode_diff)?;
    let (diff, _) = diff.ok_or_else(|| missing(Table::Diffs))?;
    for (address, account) in &diff.accounts {
        batch.delete(Table::AccountHistory, keys::history(address.as_slice(), number));
        for slot in account.storage.keys() {
            let slot = keys::storage(*address, *slot);
            batch.delete(Table::StorageHistory, keys::history(&slot, number));
        }
    }
    if !keeps_diffs {
        batch.delete(Table::Diffs, key);
    }

    let changes = chain.0.get(Table::NodeChanges, key)?;
    let changes = changes.ok_or_else(|| missing(Table::NodeChanges))?;
    let (mut accounts, mut storage) = (Vec::new(), Vec::new());
    diff_codec::for_each_node_change(
        &changes,
        |path| accounts.push(keys::history(path, number)),
        |path| storage.push(keys::history(path, number)),
    )
    .in_table(Table::NodeChanges)?;
    accounts.iter().for_each(|key| batch.delete(Table::AccountNodeHistory, key));
    storage.iter().for_each(|key| batch.delete(Table::StorageNodeHistory, key));
    batch.delete(Table::NodeChanges, key);
    Ok(())
}
