//! The order log in RocksDB: one synced write-ahead-log write an append.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::primitives::{B256, TxHash};
use millrace_proto::Stage;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, IteratorMode, Options, WriteBatch, WriteOptions,
};

use super::{
    BlockTimes, CodecError, DroppedTx, LogError, OrderLog, Position, Record, RecordIter,
    SettledBlocks, codec, stages::StageTable,
};

const LAYOUT: u64 = 1;

/// Files that are open at once; the rest are opened again when they are needed.
const OPEN_FILES: i32 = 256;
/// Bytes for what is read of files, with their indexes and filters, of all tables: memory does not grow with the log.
const CACHE_BYTES: usize = 64 << 20;
/// Records are read in stretches.
const RECORD_BLOCK_BYTES: usize = 32 << 10;

/// Position (`u64`, big-endian) to record.
const RECORDS: &str = "records";
/// Block number (`u64`, big-endian) to the position of its opening (`u64`, big-endian).
const BLOCKS: &str = "blocks";
/// Block number (`u64`, big-endian) to the position of its seal (`u64`, big-endian).
const SEALS: &str = "seals";
/// See [`StageTable`].
const STAGES: &str = "stages";
/// Hash of a block that was unwound to its number (`u64`, big-endian).
const UNWOUND: &str = "unwound";
/// Transaction hash to its latest drop.
const DROPPED: &str = "dropped";
/// Names to values.
const META: &str = "meta";

const META_LAYOUT: &[u8] = b"layout";
const META_GENESIS: &[u8] = b"genesis";
const META_CURSOR: &[u8] = b"cursor";
const META_SETTLED: &[u8] = b"settled";

/// The order log of one machine.
#[derive(Debug)]
pub struct RocksOrderLog {
    db: DB,
    end: AtomicU64,
    /// Appends are one after the other.
    appending: Mutex<()>,
}

impl RocksOrderLog {
    /// Opens the log in a folder, or makes it there, for the chain with this genesis hash. A record that was being written
    /// when the machine died is cut off; any other damage is an error.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(path: &Path, genesis: B256) -> Result<Self, LogError> {
        let open_error = |source: Box<dyn std::error::Error + Send + Sync>| LogError::Open {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(|error| open_error(error.into()))?;
        let db = DB::open_cf_descriptors(&options(), path, families())
            .map_err(|error| open_error(error.into()))?;
        let log = Self { db, end: AtomicU64::new(0), appending: Mutex::new(()) };
        log.check_identity(genesis)?;
        log.end.store(log.find_end()?, Ordering::Release);
        Ok(log)
    }

    fn check_identity(&self, genesis: B256) -> Result<(), LogError> {
        let meta = self.family(META);
        match self.db.get_cf(&meta, META_LAYOUT).map_err(storage)? {
            None => {
                let mut batch = WriteBatch::default();
                batch.put_cf(&meta, META_LAYOUT, LAYOUT.to_be_bytes());
                batch.put_cf(&meta, META_GENESIS, genesis);
                self.db.write_opt(batch, &synced()).map_err(storage)
            }
            Some(layout) => {
                let found = be_u64(&layout).unwrap_or(0);
                if found != LAYOUT {
                    return Err(LogError::Layout { found, supported: LAYOUT });
                }
                let found = self.db.get_cf(&meta, META_GENESIS).map_err(storage)?;
                let found = found
                    .and_then(|bytes| B256::try_from(bytes.as_slice()).ok())
                    .unwrap_or_default();
                if found == genesis {
                    Ok(())
                } else {
                    Err(LogError::OtherChain { found, expected: genesis })
                }
            }
        }
    }

    fn find_end(&self) -> Result<u64, LogError> {
        let last = self.db.iterator_cf(&self.family(RECORDS), IteratorMode::End).next();
        match last.transpose().map_err(storage)? {
            None => Ok(0),
            Some((key, _)) => Ok(key_u64(&key, 0)? + 1),
        }
    }

    fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    fn meta_u64s<const N: usize>(&self, key: &[u8]) -> Result<Option<[u64; N]>, LogError> {
        let Some(bytes) = self.db.get_cf(&self.family(META), key).map_err(storage)? else {
            return Ok(None);
        };
        let mut values = [0; N];
        for (value, chunk) in values.iter_mut().zip(bytes.chunks(8)) {
            *value = be_u64(chunk).unwrap_or(0);
        }
        Ok(Some(values))
    }

    fn put_settled(&self, batch: &mut WriteBatch, settled: SettledBlocks) {
        let values = [settled.posted, settled.committed, settled.finalized];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        batch.put_cf(&self.family(META), META_SETTLED, bytes);
    }

    /// Forgets that blocks after this one were settled.
    fn forget_settled(&self, batch: &mut WriteBatch, to: u64) -> Result<(), LogError> {
        let SettledBlocks { posted, committed, finalized } = self.settled()?;
        let settled = SettledBlocks {
            posted: posted.min(to),
            committed: committed.min(to),
            finalized: finalized.min(to),
        };
        let stages = self.family(STAGES);
        let table = StageTable { db: &self.db, family: &stages };
        table.unsettle(batch, to).map_err(storage)?;
        self.put_settled(batch, settled);
        Ok(())
    }
}

impl OrderLog for RocksOrderLog {
    fn append(&self, records: &[Record]) -> Result<Position, LogError> {
        let _one_at_a_time = self.appending.lock();
        let first = self.end.load(Ordering::Acquire);
        let (table, blocks, drops) =
            (self.family(RECORDS), self.family(BLOCKS), self.family(DROPPED));
        let (unwound, seals) = (self.family(UNWOUND), self.family(SEALS));
        let mut batch = WriteBatch::default();
        let mut unwound_from = None::<u64>;
        for (position, record) in (first..).zip(records) {
            batch.put_cf(&table, position.to_be_bytes(), codec::encode(record));
            match record {
                Record::BlockOpened(block) => {
                    batch.put_cf(&blocks, block.number.to_be_bytes(), position.to_be_bytes());
                }
                Record::BlockSealed { number, hash, .. } => {
                    // Made again exactly as it was.
                    batch.delete_cf(&unwound, hash);
                    batch.put_cf(&seals, number.to_be_bytes(), position.to_be_bytes());
                }
                Record::BlockUnwound { number, hash, .. } => {
                    unwound_from = Some(unwound_from.map_or(*number, |from| from.min(*number)));
                    batch.delete_cf(&blocks, number.to_be_bytes());
                    batch.delete_cf(&seals, number.to_be_bytes());
                    if let Some(hash) = hash {
                        batch.put_cf(&unwound, hash, number.to_be_bytes());
                    }
                }
                Record::Dropped { txs } => {
                    for dropped in txs {
                        batch.put_cf(&drops, dropped.tx.hash(), codec::encode_dropped(dropped));
                    }
                }
                Record::Pooled { .. } | Record::Frame { .. } => {}
            }
        }
        if let Some(from) = unwound_from {
            self.forget_settled(&mut batch, from.saturating_sub(1))?;
        }
        self.db.write_opt(batch, &synced()).map_err(storage)?;
        self.end.store(first + records.len() as u64, Ordering::Release);
        Ok(Position(first))
    }

    fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    fn read(&self, from: Position) -> Result<RecordIter<'_>, LogError> {
        let start = from.0.to_be_bytes();
        let rows = self
            .db
            .iterator_cf(&self.family(RECORDS), IteratorMode::From(&start, Direction::Forward));
        let records = rows.zip(from.0..).map(|(row, expected)| {
            let (key, value) = row.map_err(storage)?;
            let position = key_u64(&key, expected)?;
            let corrupt = |source| LogError::Corrupt { position: Position(expected), source };
            if position != expected {
                let gap = format!("records {expected} to {} are missing", position - 1);
                return Err(corrupt(CodecError::Sequence(gap)));
            }
            let record = codec::decode(value.into_vec()).map_err(corrupt)?;
            Ok((Position(position), record))
        });
        let mut failed = false;
        Ok(Box::new(records.take_while(move |record| {
            let go_on = !failed;
            failed |= record.is_err();
            go_on
        })))
    }

    fn block_position(&self, number: u64) -> Result<Option<Position>, LogError> {
        let row = self.db.get_cf(&self.family(BLOCKS), number.to_be_bytes()).map_err(storage)?;
        row.map(|value| key_u64(&value, 0).map(Position)).transpose()
    }

    fn last_block(&self) -> Result<Option<u64>, LogError> {
        let last = self.db.iterator_cf(&self.family(BLOCKS), IteratorMode::End).next();
        last.transpose().map_err(storage)?.map(|(key, _)| key_u64(&key, 0)).transpose()
    }

    fn is_unwound(&self, hash: B256) -> Result<bool, LogError> {
        Ok(self.db.get_cf(&self.family(UNWOUND), hash).map_err(storage)?.is_some())
    }

    fn dropped(&self, hash: TxHash) -> Result<Option<DroppedTx>, LogError> {
        let row = self.db.get_cf(&self.family(DROPPED), hash).map_err(storage)?;
        row.map(codec::decode_dropped)
            .transpose()
            .map_err(|source| LogError::Corrupt { position: self.end(), source })
    }

    fn block_times(&self, number: u64) -> Result<Option<BlockTimes>, LogError> {
        let row = self.db.get_cf(&self.family(SEALS), number.to_be_bytes()).map_err(storage)?;
        let Some(position) = row.map(|value| key_u64(&value, 0)).transpose()? else {
            return Ok(None);
        };
        let record =
            self.db.get_cf(&self.family(RECORDS), position.to_be_bytes()).map_err(storage)?;
        let corrupt = |source| LogError::Corrupt { position: Position(position), source };
        match record.map(codec::decode).transpose().map_err(corrupt)? {
            Some(Record::BlockSealed { times, .. }) => Ok(Some(times)),
            _ => {
                let problem = format!("it is not the seal of block {number}");
                Err(corrupt(CodecError::Sequence(problem)))
            }
        }
    }

    fn cursor(&self) -> Result<Position, LogError> {
        Ok(self.meta_u64s::<1>(META_CURSOR)?.map_or(Position(0), |[cursor]| Position(cursor)))
    }

    fn set_cursor(&self, to: Position) -> Result<(), LogError> {
        self.db.put_cf(&self.family(META), META_CURSOR, to.0.to_be_bytes()).map_err(storage)
    }

    fn settled(&self) -> Result<SettledBlocks, LogError> {
        let [posted, committed, finalized] = self.meta_u64s(META_SETTLED)?.unwrap_or_default();
        Ok(SettledBlocks { posted, committed, finalized })
    }

    fn settle(&self, settled: SettledBlocks, at: Duration) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        let before = self.settled()?;
        let stages = self.family(STAGES);
        let table = StageTable { db: &self.db, family: &stages };
        table.settle(&mut batch, before, settled, at).map_err(storage)?;
        self.put_settled(&mut batch, settled);
        self.db.write(batch).map_err(storage)
    }

    fn unsettle(&self, to: u64) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        self.forget_settled(&mut batch, to)?;
        self.db.write(batch).map_err(storage)
    }

    fn reached(&self, stage: Stage, block: u64) -> Result<Option<Duration>, LogError> {
        let stages = self.family(STAGES);
        StageTable { db: &self.db, family: &stages }.reached(stage, block).map_err(storage)
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn tail is what a power cut leaves; damage before it would silently cut acknowledged records off.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_total_wal_size(256 << 20);
    options.set_keep_log_file_num(4);
    options
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let family = |name| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        match name {
            RECORDS => {
                table.set_block_size(RECORD_BLOCK_BYTES);
                options.set_write_buffer_size(64 << 20);
                options.set_compression_type(DBCompressionType::Lz4);
            }
            DROPPED => {
                table.set_bloom_filter(10.0, false);
                options.set_compression_type(DBCompressionType::Lz4);
            }
            _ => {}
        }
        options.set_block_based_table_factory(&table);
        ColumnFamilyDescriptor::new(name, options)
    };
    [RECORDS, BLOCKS, SEALS, STAGES, UNWOUND, DROPPED, META].map(family).into()
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn storage(error: rocksdb::Error) -> LogError {
    LogError::Storage(error.into())
}

pub(super) fn be_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn key_u64(bytes: &[u8], position: u64) -> Result<u64, LogError> {
    be_u64(bytes).ok_or_else(|| LogError::Corrupt {
        position: Position(position),
        source: CodecError::Sequence("a key or position does not have 8 bytes".to_owned()),
    })
}
