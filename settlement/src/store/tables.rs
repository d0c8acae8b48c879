//! The RocksDB tables, and typed access to them. `docs/db.md` describes them.
//!
//! Numbers in keys are big-endian `u64`s, so that a table's order is theirs. Writes are atomic and go through the write-ahead log,
//! but are not synced one by one: all of it can be read from L1 again.

use std::{path::Path, sync::Arc};

use alloy::sol_types::{SolType, SolValue};
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, Direction, IteratorMode,
    MultiThreaded, Options, WriteBatch,
};

use super::{StoreError, records};

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Meta,
    L1Blocks,
    Posted,
    Joined,
    Deposits,
    Commitments,
    Journal,
    Outcomes,
    Fees,
}

impl Table {
    const ALL: [Self; 9] = [
        Self::Meta,
        Self::L1Blocks,
        Self::Posted,
        Self::Joined,
        Self::Deposits,
        Self::Commitments,
        Self::Journal,
        Self::Outcomes,
        Self::Fees,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::L1Blocks => "l1_blocks",
            Self::Posted => "posted",
            Self::Joined => "joined",
            Self::Deposits => "deposits",
            Self::Commitments => "commitments",
            Self::Journal => "journal",
            Self::Outcomes => "outcomes",
            Self::Fees => "fees",
        }
    }
}

/// Keys of the table `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetaKey {
    /// `IdentityRecord`: the chain that the folder belongs to.
    Identity,
    /// `BlockRecord`: L1's last finalized block.
    L1Finalized,
    /// `FinalizedRecord`: the last finalized batch.
    Finalized,
    /// `FeeRecord`: the sum over the table `fees`.
    Fees,
}

impl MetaKey {
    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::L1Finalized => "l1_finalized",
            Self::Finalized => "finalized",
            Self::Fees => "fees",
        }
    }
}

/// The open database.
pub(super) struct Tables {
    db: DBWithThreadMode<MultiThreaded>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl Tables {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(4);
        let tables =
            Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), Options::default()));
        Ok(Self { db: DBWithThreadMode::open_cf_descriptors(&options, path, tables)? })
    }

    fn cf(&self, table: Table) -> Arc<BoundColumnFamily<'_>> {
        self.db
            .cf_handle(table.name())
            .expect("every table was created when the database was opened")
    }

    pub(super) fn get<T>(&self, table: Table, key: u64) -> Result<Option<T>, StoreError>
    where
        T: SolValue + From<<T::SolType as SolType>::RustType>,
    {
        self.get_raw(table, &key.to_be_bytes())
    }

    pub(super) fn meta<T>(&self, key: MetaKey) -> Result<Option<T>, StoreError>
    where
        T: SolValue + From<<T::SolType as SolType>::RustType>,
    {
        self.get_raw(Table::Meta, key.name().as_bytes())
    }

    pub(super) fn get_raw<T>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        T: SolValue + From<<T::SolType as SolType>::RustType>,
    {
        match self.db.get_pinned_cf(&self.cf(table), key)? {
            Some(bytes) => decode(table, key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The entries of a table with numbers as keys, from `start` (or the end of the table) on in a direction.
    pub(super) fn scan<T>(
        &self,
        table: Table,
        start: Option<u64>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(u64, T), StoreError>>
    where
        T: SolValue + From<<T::SolType as SolType>::RustType>,
    {
        let key = start.map(u64::to_be_bytes);
        let mode = match (&key, direction) {
            (Some(key), direction) => IteratorMode::From(key, direction),
            (None, Direction::Forward) => IteratorMode::Start,
            (None, Direction::Reverse) => IteratorMode::End,
        };
        self.db.iterator_cf(&self.cf(table), mode).map(move |entry| {
            let (key, value) = entry?;
            let number = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes).map_err(|_| {
                StoreError::Corrupt {
                    table: table.name(),
                    key: alloy::hex::encode(&key),
                    problem: "a key of 8 bytes was expected".to_owned(),
                }
            })?;
            Ok((number, decode(table, &key, &value)?))
        })
    }

    /// The last entry of a table with numbers as keys.
    pub(super) fn last<T>(&self, table: Table) -> Result<Option<(u64, T)>, StoreError>
    where
        T: SolValue + From<<T::SolType as SolType>::RustType>,
    {
        self.scan(table, None, Direction::Reverse).next().transpose()
    }

    /// Starts a set of changes.
    pub(super) fn change(&self) -> Change<'_> {
        Change { tables: self, batch: WriteBatch::default() }
    }
}

fn decode<T>(table: Table, key: &[u8], bytes: &[u8]) -> Result<T, StoreError>
where
    T: SolValue + From<<T::SolType as SolType>::RustType>,
{
    records::decode(bytes).map_err(|problem| StoreError::Corrupt {
        table: table.name(),
        key: alloy::hex::encode(key),
        problem,
    })
}

/// Changes that are written together or not at all.
pub(super) struct Change<'a> {
    tables: &'a Tables,
    batch: WriteBatch,
}

impl Change<'_> {
    pub(super) fn put<T: SolValue>(&mut self, table: Table, key: u64, value: &T) {
        self.put_raw(table, &key.to_be_bytes(), value);
    }

    pub(super) fn put_meta<T: SolValue>(&mut self, key: MetaKey, value: &T) {
        self.put_raw(Table::Meta, key.name().as_bytes(), value);
    }

    pub(super) fn put_raw<T: SolValue>(&mut self, table: Table, key: &[u8], value: &T) {
        self.batch.put_cf(&self.tables.cf(table), key, records::encode(value));
    }

    pub(super) fn delete(&mut self, table: Table, key: u64) {
        self.batch.delete_cf(&self.tables.cf(table), key.to_be_bytes());
    }

    /// Writes all of it.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        Ok(self.tables.db.write(self.batch)?)
    }
}
