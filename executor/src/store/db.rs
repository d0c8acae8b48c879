//! RocksDB, opened for this use, and consistent reads of it.

use std::{fmt, path::Path, sync::Arc, thread};

use rocksdb::{
    BoundColumnFamily, Cache, DB, DBPinnableSlice, DBRawIterator, LogLevel, Options, ReadOptions,
    SnapshotWithThreadMode, WriteBatch, perf, properties::ESTIMATE_NUM_KEYS,
};

use super::{StoreConfig, StoreError, codec::DecodeError, keys, table::Table};

/// Files that are open at once; the rest are opened again when they are needed.
const OPEN_FILES: i32 = 512;

/// The open database.
pub(crate) struct Db {
    inner: DB,
    cache: Cache,
}

/// Bytes of memory that RocksDB says it has in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// In the block cache: blocks, indexes and filters of all tables.
    pub(crate) cache: u64,
    /// Writes that are not in files yet, and those that are and are still read from memory.
    pub(crate) writes: u64,
    /// What open files need outside the cache.
    pub(crate) files: u64,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("path", &self.inner.path()).finish()
    }
}

impl Db {
    /// Opens the database in a folder, and makes both if they are not there.
    pub(crate) fn open(path: &Path, config: &StoreConfig) -> Result<Self, rocksdb::Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(OPEN_FILES);
        options.set_db_write_buffer_size(config.write_buffer_bytes);
        options.set_max_total_wal_size(2 * config.write_buffer_bytes as u64);
        let cores = thread::available_parallelism().map_or(2, usize::from);
        options.set_max_background_jobs(i32::try_from(cores.clamp(2, 8)).unwrap_or(2));
        // Dirty pages leave steadily instead of in one burst.
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(16 << 20);

        let cache = Cache::new_lru_cache(config.cache_bytes);
        let tables = Table::ALL.iter().map(|table| table.descriptor(&cache));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { inner: DB::open_cf_descriptors(&options, path, tables)?, cache })
    }

    /// What it takes up in memory now.
    pub(crate) fn memory(&self) -> Result<Memory, rocksdb::Error> {
        let used = perf::get_memory_usage_stats(Some(&[&self.inner]), Some(&[&self.cache]))?;
        Ok(Memory {
            cache: used.cache_total,
            writes: used.mem_table_total,
            files: used.mem_table_readers_total,
        })
    }

    /// Reads one table of a database that [`Self::open`] refuses, changing nothing.
    pub(crate) fn peek(path: &Path, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        let db =
            DB::open_cf_for_read_only(&Options::default(), path, [table.name()], false).ok()?;
        db.get_cf(&db.cf_handle(table.name())?, key).ok()?
    }

    fn family(&self, table: Table) -> Arc<BoundColumnFamily<'_>> {
        self.inner.cf_handle(table.name()).expect("every table was opened with the database")
    }

    /// Reads of what is stored now, each by itself.
    pub(crate) const fn reader(&self) -> Reader<'_> {
        Reader { db: self, snapshot: None }
    }

    /// An empty batch of writes.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            families: Table::ALL.map(|table| self.family(table)),
            writes: WriteBatch::default(),
        }
    }

    /// Writes all of a batch or nothing, into the write-ahead log and to memory; the operating system writes the log to disk
    /// when it likes.
    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<(), rocksdb::Error> {
        self.inner.write(batch.writes)
    }

    /// Removes everything.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        for table in Table::ALL {
            let family = self.family(table);
            let mut last = self.inner.raw_iterator_cf_opt(&family, total_order());
            last.seek_to_last();
            if let Some(key) = last.key() {
                let end = [key, &[0]].concat();
                let mut batch = WriteBatch::default();
                batch.delete_range_cf(&family, Vec::new(), end);
                self.inner.write(batch)?;
            }
            last.status()?;
        }
        Ok(())
    }
}

fn total_order() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options
}

/// Writes that go in together.
pub(crate) struct Batch<'a> {
    families: [Arc<BoundColumnFamily<'a>>; Table::ALL.len()],
    writes: WriteBatch,
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, table: Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.writes.put_cf(&self.families[table as usize], key, value);
    }

    pub(crate) fn delete(&mut self, table: Table, key: impl AsRef<[u8]>) {
        self.writes.delete_cf(&self.families[table as usize], key);
    }

    /// Puts a value, or deletes the key for `None`.
    pub(crate) fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.put(table, key, value),
            None => self.delete(table, key),
        }
    }

    /// Bytes that the write-ahead log will take for it.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.size_in_bytes()
    }
}

/// Reads of the database, now or as of a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    db: &'a Db,
    snapshot: Option<&'a DbSnapshot<'a>>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("db", self.db).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    /// The value under a key.
    pub(crate) fn get(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<DBPinnableSlice<'a>>, StoreError> {
        let family = self.db.family(table);
        Ok(self.db.inner.get_pinned_cf_opt(&family, key, &self.options())?)
    }

    /// The values under sorted keys, in their order.
    pub(crate) fn get_sorted<K: AsRef<[u8]>>(
        &self,
        table: Table,
        keys: &[K],
    ) -> Result<Vec<Option<DBPinnableSlice<'a>>>, StoreError> {
        debug_assert!(keys.is_sorted_by_key(|key| key.as_ref()), "keys are sorted");
        if let [key] = keys {
            return Ok(vec![self.get(table, key)?]);
        }
        let family = self.db.family(table);
        let values = self.db.inner.batched_multi_get_cf_opt(&family, keys, true, &self.options());
        Ok(values.into_iter().collect::<Result<_, _>>()?)
    }

    /// What the value under `key` was in block `number`: the first entry of its history after it, or else what is there now.
    /// `None`: nothing was there.
    pub(crate) fn get_at(
        &self,
        table: Table,
        key: &[u8],
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(history) = table.history() {
            let mut entries = self.prefix(history);
            entries.seek(keys::history(key, number.saturating_add(1)));
            if let Some((found, value)) = entries.item()
                && keys::history_owner(found) == key
            {
                return Ok((!value.is_empty()).then(|| value.to_vec()));
            }
            entries.status()?;
        }
        Ok(self.get(table, key)?.map(|value| value.to_vec()))
    }

    /// About how many entries a table has.
    pub(crate) fn estimated_len(&self, table: Table) -> Result<u64, StoreError> {
        let len = self.db.inner.property_int_value_cf(&self.db.family(table), ESTIMATE_NUM_KEYS)?;
        Ok(len.unwrap_or_default())
    }

    /// An iterator that stays within the prefix (by the table's rules) that it is first moved to.
    pub(crate) fn prefix(&self, table: Table) -> DBRawIterator<'a> {
        let mut options = self.options();
        options.set_prefix_same_as_start(true);
        self.db.inner.raw_iterator_cf_opt(&self.db.family(table), options)
    }

    /// An iterator over a whole table.
    pub(crate) fn iter(&self, table: Table) -> DBRawIterator<'a> {
        let mut options = self.options();
        options.set_total_order_seek(true);
        self.db.inner.raw_iterator_cf_opt(&self.db.family(table), options)
    }
}

type DbSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    struct SnapshotCell {
        owner: Arc<Db>,

        #[covariant]
        dependent: DbSnapshot,
    }
);

/// The database as it was at one moment, whatever is written later.
pub(crate) struct Snapshot(SnapshotCell);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(self.0.borrow_owner()).finish()
    }
}

impl Snapshot {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self(SnapshotCell::new(db, |db| db.inner.snapshot()))
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { db: self.0.borrow_owner(), snapshot: Some(self.0.borrow_dependent()) }
    }
}

/// Names the table of a value that cannot be decoded.
pub(crate) trait InTable<T> {
    fn in_table(self, table: Table) -> Result<T, StoreError>;
}

impl<T> InTable<T> for Result<T, DecodeError> {
    fn in_table(self, table: Table) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::corrupt(table, error))
    }
}
