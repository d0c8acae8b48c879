//! State as of a block.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256};
use millrace_proto::{AccountInfo, BlockSelector, SealedHeader};

use super::AccountRecord;
use crate::store::{
    StoreError,
    chain::ChainReader,
    codec::u256_from,
    db::{Db, InTable, Reader, Snapshot},
    keys,
    table::Table,
};

/// A block's state, which stays readable and the same for as long as the view lives, whatever is committed or pruned.
#[derive(Debug)]
pub(crate) struct StateView {
    snapshot: Snapshot,
    header: SealedHeader,
    /// The block's number if the snapshot's head is a later one.
    at: Option<u64>,
}

impl StateView {
    /// Opens the state of a block.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`], or [`StoreError::StatePruned`] if the block is older than the history that is kept.
    pub(crate) fn open(db: Arc<Db>, at: BlockSelector) -> Result<Self, StoreError> {
        let snapshot = Snapshot::new(db);
        let chain = ChainReader(snapshot.reader());
        let head = chain.head()?.ok_or(StoreError::UnknownBlock(at))?;
        let header = chain.header(at)?.ok_or(StoreError::UnknownBlock(at))?;
        let oldest = chain.oldest()?;
        if header.number < oldest {
            return Err(StoreError::StatePruned { block: header.number, oldest });
        }
        let at = (header.number < head.number).then_some(header.number);
        Ok(Self { snapshot, header, at })
    }

    /// The block whose state this is.
    pub(crate) const fn header(&self) -> &SealedHeader {
        &self.header
    }

    /// An account, or `None` if it does not exist.
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.record(address)?.map(|record| record.info))
    }

    /// A slot; zero if it is not set.
    pub(crate) fn storage(&self, address: Address, slot: B256) -> Result<U256, StoreError> {
        let key = keys::storage(address, slot);
        read(self.reader(), Table::Storage, &key, self.at, |value| {
            value.map_or(Ok(U256::ZERO), |value| u256_from(value).in_table(Table::Storage))
        })
    }

    /// Code by its hash, which any block may have stored.
    pub(crate) fn code(&self, code_hash: B256) -> Result<Option<Bytes>, StoreError> {
        ChainReader(self.reader()).code(code_hash)
    }

    /// The hash of this block or one before it; `None` for a later one.
    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        if number > self.header.number {
            return Ok(None);
        }
        ChainReader(self.reader()).hash(number)
    }

    pub(super) fn record(&self, address: Address) -> Result<Option<AccountRecord>, StoreError> {
        read(self.reader(), Table::Accounts, address.as_slice(), self.at, |value| {
            value.map(AccountRecord::decode).transpose().in_table(Table::Accounts)
        })
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        self.snapshot.reader()
    }

    /// Set if the block is before the snapshot's head.
    pub(super) const fn at(&self) -> Option<u64> {
        self.at
    }
}

fn read<T>(
    reader: Reader<'_>,
    table: Table,
    key: &[u8],
    at: Option<u64>,
    decode: impl FnOnce(Option<&[u8]>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match at {
        Some(number) => decode(reader.get_at(table, key, number)?.as_deref()),
        None => decode(reader.get(table, key)?.as_deref()),
    }
}
