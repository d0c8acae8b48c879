//! The posted batches that make the chain, as far as their headers tell: each begins where the one before ends.

use millrace_proto::PostedBatch;
use rocksdb::Direction;

use super::{
    StoreError, posted,
    records::PostedRecord,
    tables::{Change, Table, Tables},
};

/// The end of the chain of joined batches: batch and last block, zeros before the first.
pub(super) type Tip = (u64, u64);

/// Takes the joined batches from `batch` on back, and returns the tip that is left.
pub(super) fn remove_joined_from(
    tables: &Tables,
    change: &mut Change<'_>,
    batch: u64,
) -> Result<Tip, StoreError> {
    for entry in tables.scan::<u64>(Table::Joined, None, Direction::Reverse) {
        let (last_block, joined) = entry?;
        if joined < batch {
            return Ok((joined, last_block));
        }
        change.delete(Table::Joined, last_block);
    }
    Ok((0, 0))
}

/// Joins the posted batches from `batch` on to the tip, as far as their headers fit.
pub(super) fn extend_joined(
    tables: &Tables,
    change: &mut Change<'_>,
    mut tip: Tip,
    batch: u64,
) -> Result<(), StoreError> {
    for entry in tables.scan::<PostedRecord>(Table::Posted, Some(batch), Direction::Forward) {
        let (number, record) = entry?;
        tip = join(change, tip, &posted(number, record)?);
    }
    Ok(())
}

/// The tip after a posted batch, which joins the chain if it fits the tip.
pub(super) fn join(change: &mut Change<'_>, tip: Tip, batch: &PostedBatch) -> Tip {
    let header = &batch.header;
    if tip.1.checked_add(1) != Some(header.first_block) || header.last_block < header.first_block {
        return tip;
    }
    change.put(Table::Joined, header.last_block, &header.number);
    (header.number, header.last_block)
}
