//! The outbox: closed batches until they are final on L1, and the place where the next one begins.
//!
//! One write, synced, closes a batch: its bytes, its entry and the cursor. Entries and sums are
//! held in memory too, so that nobody waits for the disk to know how far posting is.

mod record;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use alloy::primitives::{B256, Bytes, U256};
use millrace_proto::DaKind;
use parking_lot::Mutex;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DBCompressionType, DBWithThreadMode, IteratorMode,
    Options, SingleThreaded, WriteBatch, WriteOptions,
};
use tokio::sync::watch;

pub(crate) use self::record::{
    Archived, BatchEntry, Cursor, OutboxIdentity, Post, Rejoined, Submitted, Totals,
};
use self::record::{Chosen, Epoch, Record, Spent};

/// Batch number, big endian -> the encoded batch.
const BATCHES: &str = "batches";
/// Batch number, big endian -> [`BatchEntry`].
const ENTRIES: &str = "entries";
/// Batch number, big endian -> [`Submitted`].
const SUBMITTED: &str = "submitted";
/// Name -> one record each.
const META: &str = "meta";

const IDENTITY: &[u8] = b"identity";
const CURSOR: &[u8] = b"cursor";
const TOTALS: &[u8] = b"totals";
const ARCHIVED: &[u8] = b"archived";
const SPENT: &[u8] = b"spent";
const CHOSEN: &[u8] = b"chosen";
const EPOCH: &[u8] = b"epoch";
const REJOINED: &[u8] = b"rejoined";

/// Bytes of the write-ahead log, from which on what is only there is put into tables.
const MOST_WRITTEN_AHEAD: u64 = 64 << 20;

/// The tables are made at the start and never change.
type Db = DBWithThreadMode<SingleThreaded>;

/// Why the outbox failed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A full or broken disk, or another process that has it open.
    #[error(transparent)]
    Database(#[from] rocksdb::Error),
    /// A record that this version did not write.
    #[error("{table}/{key} cannot be read")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
    },
    /// The outbox belongs to another chain.
    #[error("the outbox in {path} is of {found}, and not of {expected}: use another data folder")]
    Foreign {
        /// Its folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
}

/// How far posting is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OutboxSummary {
    pub(crate) cursor: Option<Cursor>,
    /// The last batch that the contract has recorded, as last seen, and its last block.
    pub(crate) posted: u64,
    pub(crate) posted_block: u64,
    /// Closed batches that it has not, and their bytes.
    pub(crate) backlog_batches: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) totals: Totals,
}

/// Closed batches on disk.
#[derive(Debug)]
pub(crate) struct Outbox {
    db: Db,
    state: Mutex<State>,
    /// Says that a batch was closed or posted.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    cursor: Option<Cursor>,
    entries: BTreeMap<u64, BatchEntry>,
    totals: Totals,
    archived: Archived,
    spent: Spent,
    chosen: Chosen,
    epoch: Epoch,
    /// Where the outbox began, if not with batch 1: the contract held this many batches and this
    /// block already.
    base: (u64, u64),
    rejoined: Rejoined,
}

impl State {
    /// Whether there is a batch with this digest under this number.
    fn holds(&self, number: u64, digest: B256) -> bool {
        self.entries.get(&number).is_some_and(|entry| entry.digest == digest)
    }
}

impl Outbox {
    /// Opens the folder, or makes it.
    pub(crate) fn open(path: &Path, identity: OutboxIdentity) -> Result<Self, OutboxError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Tables that change little would else hold on to what was written of batches that are long gone, and opening reads it all.
        options.set_max_total_wal_size(MOST_WRITTEN_AHEAD);
        // What is in it is compressed already.
        options.set_compression_type(DBCompressionType::None);
        let tables = [BATCHES, ENTRIES, SUBMITTED, META]
            .map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db = Db::open_cf_descriptors(&options, path, tables)?;
        match get::<OutboxIdentity>(&db, META, IDENTITY)? {
            None => {
                let mut write = WriteBatch::default();
                put(&db, &mut write, META, IDENTITY, &identity.to_bytes());
                db.write_opt(write, &synced())?;
            }
            Some(found) if found == identity => {}
            Some(found) => {
                let name = |identity: OutboxIdentity| {
                    format!("chain {} with the contract {}", identity.chain_id, identity.rollup)
                };
                return Err(OutboxError::Foreign {
                    path: path.to_owned(),
                    found: name(found),
                    expected: name(identity),
                });
            }
        }
        let state = load(&db)?;
        Ok(Self { db, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    /// Follows what happens: marks a change whenever a batch is closed, posted, or taken back.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Where the next batch begins; `None` in a new outbox.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.state.lock().cursor
    }

    /// The contract's epoch under which batches are posted.
    pub(crate) fn epoch(&self) -> u32 {
        self.state.lock().epoch.0
    }

    /// Begins after a batch that was not closed here: the genesis block (batch 0), or the
    /// contract's last batch. Forgets every batch.
    pub(crate) fn begin(&self, cursor: Cursor, epoch: u32) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let mut write = WriteBatch::default();
        for number in state.entries.keys() {
            forget(&self.db, &mut write, *number);
        }
        put(&self.db, &mut write, META, CURSOR, &cursor.to_bytes());
        put(&self.db, &mut write, META, EPOCH, &Epoch(epoch).to_bytes());
        put(&self.db, &mut write, META, REJOINED, &Rejoined::default().to_bytes());
        self.db.write_opt(write, &synced())?;
        state.entries.clear();
        state.epoch = Epoch(epoch);
        state.cursor = Some(cursor);
        state.base = (cursor.batch, cursor.block.number);
        state.rejoined = Rejoined::default();
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Adds a closed batch and moves the cursor from `before` behind it. `false` if the next batch begins elsewhere by now.
    pub(crate) fn close(
        &self,
        entry: BatchEntry,
        data: &[u8],
        before: Cursor,
        cursor: Cursor,
    ) -> Result<bool, OutboxError> {
        let mut write = WriteBatch::default();
        let key = entry.number.to_be_bytes();
        put(&self.db, &mut write, BATCHES, &key, data);
        put(&self.db, &mut write, ENTRIES, &key, &entry.to_bytes());
        put(&self.db, &mut write, META, CURSOR, &cursor.to_bytes());
        let mut state = self.state.lock();
        if state.cursor != Some(before) {
            return Ok(false);
        }
        self.db.write_opt(write, &synced())?;
        state.entries.insert(entry.number, entry);
        state.cursor = Some(cursor);
        drop(state);
        self.changed.send_replace(());
        Ok(true)
    }

    /// Takes back the batches after the cursor's, whose blocks the sequencer has taken back; the next one begins at the cursor. Does nothing if it begins
    /// elsewhere than at `before` by now.
    pub(crate) fn unwind(&self, before: Cursor, cursor: Cursor) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        if state.cursor != Some(before) {
            return Ok(());
        }
        let rejoined =
            if state.rejoined.batch > cursor.batch { Rejoined::default() } else { state.rejoined };
        self.go_back(&mut state, cursor, rejoined, |entry| entry.number > cursor.batch)?;
        if state.entries.is_empty() {
            state.base = (cursor.batch, cursor.block.number);
        }
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Goes on after what L1 holds, which includes batches that were not closed here, or does not any more: the next one begins at the cursor. Closed batches
    /// that were not posted are taken back. `hash` is the contract's of the cursor's batch.
    pub(crate) fn rejoin(&self, cursor: Cursor, hash: B256) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let rejoined = Rejoined { batch: cursor.batch, hash, block: cursor.block.number };
        let is_gone = |entry: &BatchEntry| entry.post.is_none() || entry.number > cursor.batch;
        self.go_back(&mut state, cursor, rejoined, is_gone)?;
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Forgets some batches, and lets the next one begin at the cursor.
    fn go_back(
        &self,
        state: &mut State,
        cursor: Cursor,
        rejoined: Rejoined,
        is_gone: impl Fn(&BatchEntry) -> bool,
    ) -> Result<(), OutboxError> {
        let mut write = WriteBatch::default();
        let mut totals = state.totals;
        for entry in state.entries.values().filter(|entry| is_gone(entry)) {
            forget(&self.db, &mut write, entry.number);
            if let Some(post) = &entry.post {
                totals = totals.minus(entry, post);
            }
        }
        put(&self.db, &mut write, META, CURSOR, &cursor.to_bytes());
        put(&self.db, &mut write, META, REJOINED, &rejoined.to_bytes());
        put(&self.db, &mut write, META, TOTALS, &totals.to_bytes());
        self.db.write_opt(write, &synced())?;
        state.entries.retain(|_, entry| !is_gone(entry));
        state.cursor = Some(cursor);
        (state.rejoined, state.totals) = (rejoined, totals);
        Ok(())
    }

    /// What L1 held when the outbox last went on after it, if it ever did.
    pub(crate) fn rejoined(&self) -> Option<Rejoined> {
        Some(self.state.lock().rejoined).filter(|rejoined| *rejoined != Rejoined::default())
    }

    /// The first batch up to one that was not seen on L1.
    pub(crate) fn missing_upto(&self, number: u64) -> Option<BatchEntry> {
        let state = self.state.lock();
        state.entries.range(..=number).map(|(_, entry)| *entry).find(|entry| entry.post.is_none())
    }

    /// Whether a batch was final, by one behind it whose bytes are not kept.
    pub(crate) fn was_final(&self, number: u64) -> Result<bool, OutboxError> {
        Ok(match self.entry_after(number) {
            Some(entry) => self.data(entry.number)?.is_none(),
            None => false,
        })
    }

    /// The first batch after one, of those that are kept.
    pub(crate) fn entry_after(&self, number: u64) -> Option<BatchEntry> {
        let state = self.state.lock();
        state.entries.range(number + 1..).next().map(|(_, entry)| *entry)
    }

    /// A batch, as long as it is kept.
    pub(crate) fn entry(&self, number: u64) -> Option<BatchEntry> {
        self.state.lock().entries.get(&number).copied()
    }

    /// A batch's bytes, as long as they are kept.
    pub(crate) fn data(&self, number: u64) -> Result<Option<Bytes>, OutboxError> {
        let data = self.db.get_cf(table(&self.db, BATCHES), number.to_be_bytes())?;
        Ok(data.map(Bytes::from))
    }

    /// Where a batch was put, if it was.
    pub(crate) fn submitted(&self, number: u64) -> Result<Option<Submitted>, OutboxError> {
        get(&self.db, SUBMITTED, &number.to_be_bytes())
    }

    /// Notes where a batch was put, before that is posted: what is posted for it stays the same, also after a restart. `false` if there is another batch
    /// under its number by now, or none.
    pub(crate) fn mark_submitted(
        &self,
        number: u64,
        digest: B256,
        submitted: &Submitted,
    ) -> Result<bool, OutboxError> {
        let state = self.state.lock();
        if !state.holds(number, digest) {
            return Ok(false);
        }
        let mut write = WriteBatch::default();
        put(&self.db, &mut write, SUBMITTED, &number.to_be_bytes(), &submitted.to_bytes());
        self.db.write_opt(write, &synced())?;
        Ok(true)
    }

    /// The backend that an operator has chosen, if one has.
    pub(crate) fn chosen(&self) -> Option<DaKind> {
        self.state.lock().chosen.0
    }

    /// Notes an operator's choice.
    pub(crate) fn choose(&self, kind: Option<DaKind>) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let mut write = WriteBatch::default();
        put(&self.db, &mut write, META, CHOSEN, &Chosen(kind).to_bytes());
        self.db.write_opt(write, &synced())?;
        state.chosen = Chosen(kind);
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Wei that posting has cost on a day since the Unix epoch.
    pub(crate) fn spent_on(&self, day: u64) -> U256 {
        let spent = self.state.lock().spent;
        if spent.day == day { spent.fees } else { U256::ZERO }
    }

    /// Notes a cost.
    pub(crate) fn spend(&self, day: u64, fee: U256) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let spent = state.spent.plus(day, fee);
        let mut write = WriteBatch::default();
        put(&self.db, &mut write, META, SPENT, &spent.to_bytes());
        self.db.write_opt(write, &synced())?;
        state.spent = spent;
        Ok(())
    }

    /// How far the archive is complete.
    pub(crate) fn archived(&self) -> Archived {
        self.state.lock().archived
    }

    /// Notes how far the archive is complete. Not synced: what a crash takes back is looked for in the archive again, and found.
    pub(crate) fn mark_archived(&self, archived: Archived) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let mut write = WriteBatch::default();
        put(&self.db, &mut write, META, ARCHIVED, &archived.to_bytes());
        self.db.write(write)?;
        state.archived = archived;
        Ok(())
    }

    /// Notes where the contract recorded a batch, and on which day its fee counts. Does nothing for a batch that is not here.
    pub(crate) fn mark_posted(
        &self,
        number: u64,
        post: Post,
        day: Option<u64>,
    ) -> Result<(), OutboxError> {
        self.change(|state| {
            let Some(entry) = state.entries.get(&number) else { return Vec::new() };
            if let Some(old) = &entry.post {
                state.totals = state.totals.minus(entry, old);
            }
            state.totals = state.totals.plus(entry, &post);
            if let Some(day) = day {
                state.spent = state.spent.plus(day, post.fee);
            }
            vec![BatchEntry { post: Some(post), ..*entry }]
        })
    }

    /// Takes back the records of all batches after `number`, which an L1 reorg removed.
    pub(crate) fn unmark_after(&self, number: u64) -> Result<(), OutboxError> {
        self.change(|state| {
            let mut changed = Vec::new();
            for entry in state.entries.range(number + 1..).map(|(_, entry)| *entry) {
                if let Some(old) = &entry.post {
                    state.totals = state.totals.minus(&entry, old);
                    changed.push(BatchEntry { post: None, ..entry });
                }
            }
            changed
        })
    }

    /// Drops the bytes of all batches up to `number`, which are final, and the entries of those
    /// before it.
    pub(crate) fn prune(&self, number: u64) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let Some((first, _)) = state.entries.first_key_value() else { return Ok(()) };
        let mut write = WriteBatch::default();
        for pruned in *first..=number {
            delete(&self.db, &mut write, BATCHES, &pruned.to_be_bytes());
            delete(&self.db, &mut write, SUBMITTED, &pruned.to_be_bytes());
            if pruned < number {
                delete(&self.db, &mut write, ENTRIES, &pruned.to_be_bytes());
            }
        }
        // Not synced: what a crash brings back is pruned again.
        self.db.write(write)?;
        state.entries = state.entries.split_off(&number);
        Ok(())
    }

    /// Entries in the order of their numbers.
    pub(crate) fn entries(&self) -> Vec<BatchEntry> {
        self.state.lock().entries.values().copied().collect()
    }

    pub(crate) fn summary(&self) -> OutboxSummary {
        let state = self.state.lock();
        let Rejoined { batch, block, .. } = state.rejoined;
        let (mut posted, mut posted_block) = state.base.max((batch, block));
        let (mut backlog_batches, mut backlog_bytes) = (0, 0);
        for entry in state.entries.values() {
            if entry.post.is_some() {
                (posted, posted_block) =
                    (posted, posted_block).max((entry.number, entry.last_block));
            } else {
                backlog_batches += 1;
                backlog_bytes += entry.size;
            }
        }
        let (cursor, totals) = (state.cursor, state.totals);
        OutboxSummary { cursor, posted, posted_block, backlog_batches, backlog_bytes, totals }
    }

    /// Writes the entries that `change` returns, and the sums that it leaves.
    fn change(
        &self,
        change: impl FnOnce(&mut State) -> Vec<BatchEntry>,
    ) -> Result<(), OutboxError> {
        let mut state = self.state.lock();
        let before = (state.totals, state.spent);
        let changed = change(&mut state);
        if changed.is_empty() {
            return Ok(());
        }
        let mut write = WriteBatch::default();
        for entry in &changed {
            put(&self.db, &mut write, ENTRIES, &entry.number.to_be_bytes(), &entry.to_bytes());
        }
        put(&self.db, &mut write, META, TOTALS, &state.totals.to_bytes());
        put(&self.db, &mut write, META, SPENT, &state.spent.to_bytes());
        if let Err(error) = self.db.write_opt(write, &synced()) {
            (state.totals, state.spent) = before;
            return Err(error.into());
        }
        state.entries.extend(changed.into_iter().map(|entry| (entry.number, entry)));
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }
}

fn load(db: &Db) -> Result<State, OutboxError> {
    let mut entries = BTreeMap::new();
    for row in db.iterator_cf(table(db, ENTRIES), IteratorMode::Start) {
        let (key, value) = row?;
        let entry = BatchEntry::from_bytes(&value).ok_or_else(|| corrupt(ENTRIES, &key))?;
        entries.insert(entry.number, entry);
    }
    let cursor: Option<Cursor> = get(db, META, CURSOR)?;
    let base = match (entries.first_key_value(), cursor) {
        (Some((number, entry)), _) => {
            (number.saturating_sub(1), entry.first_block.saturating_sub(1))
        }
        (None, Some(cursor)) => (cursor.batch, cursor.block.number),
        (None, None) => (0, 0),
    };
    let totals = get(db, META, TOTALS)?.unwrap_or_default();
    let archived = get(db, META, ARCHIVED)?.unwrap_or_default();
    let spent = get(db, META, SPENT)?.unwrap_or_default();
    let chosen = get(db, META, CHOSEN)?.unwrap_or_default();
    let epoch = get(db, META, EPOCH)?.unwrap_or_default();
    let rejoined = get(db, META, REJOINED)?.unwrap_or_default();
    Ok(State { cursor, entries, totals, archived, spent, chosen, epoch, base, rejoined })
}

fn table<'a>(db: &'a Db, name: &'static str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("every table was opened with the database")
}

fn get<R: Record>(db: &Db, name: &'static str, key: &[u8]) -> Result<Option<R>, OutboxError> {
    let Some(value) = db.get_cf(table(db, name), key)? else { return Ok(None) };
    R::from_bytes(&value).map(Some).ok_or_else(|| corrupt(name, key))
}

fn put(db: &Db, write: &mut WriteBatch, name: &'static str, key: &[u8], value: &[u8]) {
    write.put_cf(table(db, name), key, value);
}

fn delete(db: &Db, write: &mut WriteBatch, name: &'static str, key: &[u8]) {
    write.delete_cf(table(db, name), key);
}

/// Deletes all that is kept of a batch.
fn forget(db: &Db, write: &mut WriteBatch, number: u64) {
    for name in [BATCHES, ENTRIES, SUBMITTED] {
        delete(db, write, name, &number.to_be_bytes());
    }
}

fn corrupt(table: &'static str, key: &[u8]) -> OutboxError {
    let key = match <[u8; 8]>::try_from(key) {
        Ok(number) if table != META => u64::from_be_bytes(number).to_string(),
        _ => String::from_utf8_lossy(key).into_owned(),
    };
    OutboxError::Corrupt { table, key }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
