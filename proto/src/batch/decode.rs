//! Decoding: the columns are read one after another, then joined into blocks.

use super::{
    Batch, BatchBlock, BatchDecodeError,
    dictionary::BatchDictionary,
    error::BatchColumn as Column,
    frame,
    header::{BatchPreamble, Parts},
    limits::BatchLimits,
    reader::{Reader, sum},
    transactions::read_transactions,
};
use crate::types::BatchPayload;

pub(super) fn decode(
    encoded: &[u8],
    tried: Option<&BatchDictionary>,
    limits: &BatchLimits,
) -> Result<Batch, BatchDecodeError> {
    let Parts { preamble, dictionary, frame, signatures } =
        Parts::split(encoded, BatchPayload::Transactions, tried, limits)?;
    let columns = frame::decompress(frame, dictionary, limits)?;
    let mut columns = Reader::new(&columns, Column::Timestamps);
    let blocks = read_blocks(&mut columns, &preamble)?;
    let signatures = Reader::new(signatures, Column::Signatures);
    let mut transactions = read_transactions(columns, signatures, &preamble, limits)?;
    let block = |block: BlockShape| {
        let BlockShape { timestamp, deposits_end, transactions: count } = block;
        let mut held = Vec::with_capacity(count);
        for tx in transactions.by_ref().take(count) {
            held.push(tx?);
        }
        Ok(BatchBlock { timestamp, deposits_end, transactions: held })
    };
    Ok(Batch {
        chain_id: preamble.chain_id,
        first_block: preamble.first_block,
        parent_hash: preamble.parent_hash,
        deposits_start: preamble.deposits_start,
        last_block_hash: preamble.last_block_hash,
        blocks: blocks.into_iter().map(block).collect::<Result<_, _>>()?,
    })
}

/// A block without its transactions, of which only the number is known yet.
struct BlockShape {
    timestamp: u64,
    deposits_end: u64,
    transactions: usize,
}

fn read_blocks(
    reader: &mut Reader<'_>,
    preamble: &BatchPreamble,
) -> Result<Vec<BlockShape>, BatchDecodeError> {
    let count = preamble.block_count as usize;
    let timestamps = read_sums(reader, Column::Timestamps, count, 0)?;
    let deposits_ends = read_sums(reader, Column::DepositsEnds, count, preamble.deposits_start)?;
    reader.column(Column::TransactionCounts);
    let counts = reader.many(count, Reader::count)?;
    if sum(&counts) as u64 != preamble.transaction_count {
        return Err(
            reader.invalid("the blocks hold another number of transactions than the header says")
        );
    }
    Ok(timestamps
        .into_iter()
        .zip(deposits_ends)
        .zip(counts)
        .map(|((timestamp, deposits_end), transactions)| BlockShape {
            timestamp,
            deposits_end,
            transactions,
        })
        .collect())
}

/// Values that are written as steps, each from the one before it.
fn read_sums(
    reader: &mut Reader<'_>,
    column: Column,
    count: usize,
    start: u64,
) -> Result<Vec<u64>, BatchDecodeError> {
    reader.column(column);
    let mut value = start;
    reader.many(count, |reader| {
        let step = reader.varint()?;
        value = value.checked_add(step).ok_or_else(|| reader.invalid("sum over 64 bits"))?;
        Ok(value)
    })
}
