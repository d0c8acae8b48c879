//! Reads of what does not change once it is written: blocks, receipts, indexes, code, diffs.

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, Bytes, TxHash},
};
use millrace_proto::{
    BatchPayload, BlockSelector, ExecutedBlock, Receipt, SealedHeader, StateDiff, TxLocation,
};

use super::{
    StoreError, block_codec,
    codec::{Cursor, DecodeError},
    db::{InTable, Reader},
    diff_codec,
    table::Table,
};

/// Keys of the table `meta`.
pub(crate) mod meta {
    /// The schema version, big-endian `u32`.
    pub(crate) const SCHEMA: &[u8] = b"schema";
    /// The genesis block's hash.
    pub(crate) const GENESIS: &[u8] = b"genesis";
    /// The head's number (big-endian `u64`) and hash.
    pub(crate) const HEAD: &[u8] = b"head";
    /// What the chain's batches hold, a byte: 1 = transactions (as where there is none), 2 = state diffs.
    pub(crate) const PAYLOAD: &[u8] = b"payload";
    /// The digest of the batch whose state diffs end with a block.
    pub(crate) fn stretch(number: u64) -> Vec<u8> {
        [b"stretch".as_slice(), &number.to_be_bytes()].concat()
    }
    /// The number of the block that was the head before a batch's state diffs led to a block, big-endian `u64`.
    pub(crate) fn before(number: u64) -> Vec<u8> {
        [b"before".as_slice(), &number.to_be_bytes()].concat()
    }
    /// The oldest block whose state can be read, big-endian `u64`.
    pub(crate) const OLDEST: &[u8] = b"oldest";
}

/// Reads the chain's tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainReader<'a>(pub(crate) Reader<'a>);

impl ChainReader<'_> {
    /// The head, or `None` before the genesis block is complete.
    pub(crate) fn head(&self) -> Result<Option<BlockNumHash>, StoreError> {
        self.read(Table::Meta, meta::HEAD, |value| {
            let mut cursor = Cursor(value);
            let number = u64::from_be_bytes(cursor.array()?);
            let hash = cursor.hash()?;
            cursor.end()?;
            Ok(BlockNumHash { number, hash })
        })
    }

    /// The genesis block's hash.
    pub(crate) fn genesis(&self) -> Result<Option<B256>, StoreError> {
        self.read(Table::Meta, meta::GENESIS, |value| Cursor(value).hash())
    }

    /// What the chain's batches hold.
    pub(crate) fn payload(&self) -> Result<BatchPayload, StoreError> {
        let payload = self.read(Table::Meta, meta::PAYLOAD, |value| match value {
            [1] => Ok(BatchPayload::Transactions),
            [2] => Ok(BatchPayload::StateDiffs),
            _ => Err(DecodeError("an unknown payload")),
        })?;
        Ok(payload.unwrap_or_default())
    }

    /// The digest of the batch whose state diffs end with a block.
    pub(crate) fn stretch(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.read(Table::Meta, &meta::stretch(number), |value| Cursor(value).hash())
    }

    /// The block before one: of the end of a batch's state diffs, the head that they were put on.
    pub(crate) fn before(&self, number: u64) -> Result<Option<u64>, StoreError> {
        let before = self.read(Table::Meta, &meta::before(number), |value| {
            Ok(u64::from_be_bytes(Cursor(value).array()?))
        })?;
        Ok(before.or(number.checked_sub(1)))
    }

    /// Up to `most` blocks after one and up to another whose changes are kept, in their order.
    pub(crate) fn changed(
        &self,
        after: u64,
        upto: u64,
        most: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let mut entries = self.0.iter(Table::NodeChanges);
        entries.seek(after.saturating_add(1).to_be_bytes());
        let mut numbers = Vec::new();
        while let Some(key) = entries.key().filter(|_| numbers.len() < most) {
            let number =
                Cursor(key).array().map(u64::from_be_bytes).in_table(Table::NodeChanges)?;
            if number > upto {
                return Ok(numbers);
            }
            numbers.push(number);
            entries.next();
        }
        entries.status()?;
        Ok(numbers)
    }

    /// The oldest block whose state can be read.
    pub(crate) fn oldest(&self) -> Result<u64, StoreError> {
        let oldest = self.read(Table::Meta, meta::OLDEST, |value| {
            Ok(u64::from_be_bytes(Cursor(value).array()?))
        })?;
        Ok(oldest.unwrap_or(0))
    }

    /// The number of a block that is on the chain.
    pub(crate) fn number(&self, at: BlockSelector) -> Result<Option<u64>, StoreError> {
        match at {
            BlockSelector::Latest => Ok(self.head()?.map(|head| head.number)),
            BlockSelector::Number(number) => Ok(Some(number)),
            // The store has sealed blocks.
            BlockSelector::Open(_) => Ok(None),
            BlockSelector::Hash(hash) => self.read(Table::BlockNumbers, hash.as_slice(), |value| {
                Ok(u64::from_be_bytes(Cursor(value).array()?))
            }),
        }
    }

    /// A block's hash.
    pub(crate) fn hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.read(Table::Headers, &number.to_be_bytes(), block_codec::decode_header_hash)
    }

    /// A header.
    pub(crate) fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, StoreError> {
        let Some(number) = self.number(at)? else { return Ok(None) };
        self.read(Table::Headers, &number.to_be_bytes(), block_codec::decode_header)
    }

    /// A block with its receipts.
    pub(crate) fn block(&self, at: BlockSelector) -> Result<Option<ExecutedBlock>, StoreError> {
        let Some(header) = self.header(at)? else { return Ok(None) };
        let key = header.number.to_be_bytes();
        let transactions =
            self.read(Table::Bodies, &key, |value| block_codec::decode_body(copied(value)))?;
        let lost =
            |table| StoreError::corrupt(table, format!("block {} is missing", header.number));
        let transactions = transactions.ok_or_else(|| lost(Table::Bodies))?;
        let receipts = self.receipts(header.number)?.ok_or_else(|| lost(Table::Receipts))?;
        Ok(Some(ExecutedBlock { header, transactions, receipts }))
    }

    /// A block's receipts.
    pub(crate) fn receipts(&self, number: u64) -> Result<Option<Vec<Receipt>>, StoreError> {
        self.read(Table::Receipts, &number.to_be_bytes(), |value| {
            block_codec::decode_receipts(copied(value))
        })
    }

    /// Where a transaction is.
    pub(crate) fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, StoreError> {
        let location = self.read(Table::Transactions, hash.as_slice(), |value| {
            let mut cursor = Cursor(value);
            let number = u64::from_be_bytes(cursor.array()?);
            let index = u32::from_be_bytes(cursor.array()?);
            cursor.end()?;
            Ok((number, index))
        })?;
        let Some((number, index)) = location else { return Ok(None) };
        let hash = self.hash(number)?.ok_or_else(|| {
            StoreError::corrupt(Table::Transactions, format!("block {number} is missing"))
        })?;
        let block = BlockNumHash { number, hash };
        Ok(Some(TxLocation { block, index: u64::from(index) }))
    }

    /// Code by its hash.
    pub(crate) fn code(&self, hash: B256) -> Result<Option<Bytes>, StoreError> {
        self.read(Table::Code, hash.as_slice(), |value| Ok(copied(value)))
    }

    /// What a block changed.
    pub(crate) fn diff(&self, number: u64) -> Result<Option<StateDiff>, StoreError> {
        let diff = self.read(Table::Diffs, &number.to_be_bytes(), diff_codec::decode_diff)?;
        let Some((mut diff, code)) = diff else { return Ok(None) };
        for hash in code {
            let code = self.code(hash)?.ok_or_else(|| {
                StoreError::corrupt(Table::Code, format!("code {hash} is missing"))
            })?;
            diff.code.insert(hash, code);
        }
        Ok(Some(diff))
    }

    pub(crate) fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, StoreError> {
        self.0.get(table, key)?.map(|value| decode(&value)).transpose().in_table(table)
    }
}

fn copied(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}
