//! Taking back the head: everything becomes as it was before that block.

use millrace_proto::{BlockSelector, SealedHeader};

use super::{
    StoreError,
    chain::{ChainReader, meta},
    db::{Batch, InTable},
    diff_codec, keys,
    table::Table,
};

/// Adds the removal of the head to a batch, and returns the header before it. The code that the block stored first stays, as code is
/// stored by its hash.
///
/// # Errors
/// [`StoreError::StatePruned`] if the state before it is not kept any more.
pub(super) fn unwind(
    batch: &mut Batch<'_>,
    chain: ChainReader<'_>,
    head: &SealedHeader,
) -> Result<SealedHeader, StoreError> {
    let number = head.number;
    let oldest = chain.oldest()?;
    let Some(before) = chain.before(number)?.filter(|before| *before >= oldest) else {
        return Err(StoreError::StatePruned { block: number.saturating_sub(1), oldest });
    };
    let missing = |table| StoreError::corrupt(table, format!("block {number} is missing"));
    let parent = chain.header(BlockSelector::Number(before))?;
    let parent = parent.ok_or_else(|| missing(Table::Headers))?;
    let key = number.to_be_bytes();

    let diff = chain.read(Table::Diffs, &key, diff_codec::decode_diff)?;
    let (diff, _) = diff.ok_or_else(|| missing(Table::Diffs))?;
    for (address, account) in &diff.accounts {
        restore(batch, chain, Table::Accounts, address.as_slice(), number)?;
        for slot in account.storage.keys() {
            let slot = keys::storage(*address, *slot);
            restore(batch, chain, Table::Storage, &slot, number)?;
        }
    }
    let changes = chain.0.get(Table::NodeChanges, key)?;
    let changes = changes.ok_or_else(|| missing(Table::NodeChanges))?;
    let (mut accounts, mut storage) = (Vec::new(), Vec::new());
    diff_codec::for_each_node_change(
        &changes,
        |path| accounts.push(path.to_vec()),
        |path| storage.push(path.to_vec()),
    )
    .in_table(Table::NodeChanges)?;
    for path in accounts {
        restore(batch, chain, Table::AccountNodes, &path, number)?;
    }
    for path in storage {
        restore(batch, chain, Table::StorageNodes, &path, number)?;
    }

    if chain.stretch(number)?.is_none() {
        let block = chain.block(BlockSelector::Number(number))?;
        for tx in &block.ok_or_else(|| missing(Table::Headers))?.transactions {
            batch.delete(Table::Transactions, tx.hash());
        }
    }
    batch.delete(Table::Meta, meta::stretch(number));
    batch.delete(Table::Meta, meta::before(number));
    for table in [Table::Diffs, Table::NodeChanges, Table::Bodies, Table::Receipts, Table::Headers]
    {
        batch.delete(table, key);
    }
    batch.delete(Table::BlockNumbers, head.seal());
    let head = [&before.to_be_bytes()[..], parent.seal().as_slice()].concat();
    batch.put(Table::Meta, meta::HEAD, head);
    Ok(parent)
}

/// Puts back what was under a key before a block, if the block changed it.
fn restore(
    batch: &mut Batch<'_>,
    chain: ChainReader<'_>,
    table: Table,
    key: &[u8],
    number: u64,
) -> Result<(), StoreError> {
    let Some(history) = table.history() else { return Ok(()) };
    let entry = keys::history(key, number);
    let Some(before) = chain.0.get(history, &entry)? else { return Ok(()) };
    batch.set(table, key, Some(&*before).filter(|before| !before.is_empty()));
    batch.delete(history, entry);
    Ok(())
}
