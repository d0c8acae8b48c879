//! The journal: every signed version of every transaction, on disk before it leaves this machine.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `meta` | `identity` | JSON: account, L1 chain id, L1 genesis hash |
//! | | `spent` | JSON: fees in wei of the last days, by days since the Unix epoch |
//! | `transactions` | nonce, 8 bytes big-endian | JSON [`Record`] |
//! | `ids` | request id, UTF-8 | nonce, 8 bytes big-endian |
//! | `sidecars` | nonce, 8 bytes big-endian | the sidecar's fields as in the transaction's network form (RLP) |
//!
//! Keyed by nonce, so that one nonce never has two intents. All writes are synced.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use alloy::primitives::{Address, B256, Bytes, U256};
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DB, Direction, IteratorMode, Options, WriteBatch,
    WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::{JournalError, fees::Fees};

const META: &str = "meta";
const TRANSACTIONS: &str = "transactions";
const IDS: &str = "ids";
const SIDECARS: &str = "sidecars";
const IDENTITY: &[u8] = b"identity";
const SPENT: &[u8] = b"spent";
/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;
/// Days whose fees are remembered.
const SPENT_DAYS: u64 = 7;

/// What the id of a transaction that does nothing begins with.
pub(super) const CANCEL: &str = "cancel-";

/// Settled transactions that the journal keeps, so that their ids still resolve.
const KEEP: usize = 128;

/// Whose journal it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) account: Address,
    pub(super) chain_id: u64,
    /// Hash of L1's block 0: a development L1 that was wiped has the same chain id and is another chain.
    pub(super) genesis: B256,
}

/// One intent and all that was signed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of this encoding.
    pub(super) version: u8,
    pub(super) id: String,
    pub(super) nonce: u64,
    /// [`super::TxRequest::digest`].
    pub(super) intent: B256,
    pub(super) gas_limit: u64,
    pub(super) blobs: usize,
    /// The signed versions, oldest first, each with higher fees than the one before. Never empty.
    pub(super) attempts: Vec<Attempt>,
    /// Whether a node has ever taken one of them.
    pub(super) accepted: bool,
    pub(super) inclusion: Option<Inclusion>,
}

pub(super) const RECORD_VERSION: u8 = 1;

/// A signed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) hash: B256,
    pub(super) fees: Fees,
    /// EIP-2718 bytes, without the sidecar.
    pub(super) raw: Bytes,
}

/// Where a version is in L1, as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inclusion {
    pub(super) hash: B256,
    pub(super) block_number: u64,
    pub(super) block_hash: B256,
    pub(super) success: bool,
    pub(super) fee_paid: U256,
    pub(super) gas_used: u64,
    pub(super) blob_gas_used: u64,
}

impl Record {
    /// Whether it is in no block (any more). `next` is the account's next nonce in L1.
    pub(super) const fn is_open(&self, next: u64) -> bool {
        self.inclusion.is_none() || self.nonce >= next
    }

    /// Whether it does nothing but use its nonce.
    pub(super) fn is_cancel(&self) -> bool {
        self.id.starts_with(CANCEL)
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    db: DB,
}

impl Journal {
    pub(super) fn open(path: &Path, identity: &Identity) -> Result<Self, JournalError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(4);
        let families = [META, TRANSACTIONS, IDS, SIDECARS]
            .map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
        let journal = Self { db: DB::open_cf_descriptors(&options, path, families)? };

        match journal.get::<Identity>(META, IDENTITY)? {
            Some(found) if found != *identity => Err(JournalError::Foreign {
                path: path.display().to_string(),
                found: format!("{found:?}"),
                expected: format!("{identity:?}"),
            }),
            Some(_) => Ok(journal),
            None => {
                let mut batch = WriteBatch::default();
                journal.put(&mut batch, META, IDENTITY, identity)?;
                journal.write(batch)?;
                Ok(journal)
            }
        }
    }

    /// Writes a new record. `false`, and nothing is written, if the nonce or the id is in use, or if it would leave a gap: its nonce has to be the account's
    /// `next` in L1, or to follow that of another record.
    pub(super) fn insert(
        &self,
        record: &Record,
        sidecar: Option<&[u8]>,
        next: u64,
    ) -> Result<bool, JournalError> {
        let key = record.nonce.to_be_bytes();
        let before = record.nonce.checked_sub(1).map(u64::to_be_bytes);
        if record.nonce != next
            && before.map(|before| self.raw(TRANSACTIONS, &before)).transpose()?.flatten().is_none()
        {
            return Ok(false);
        }
        if self.raw(TRANSACTIONS, &key)?.is_some() || self.raw(IDS, record.id.as_bytes())?.is_some()
        {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        self.put(&mut batch, TRANSACTIONS, &key, record)?;
        batch.put_cf(&self.family(IDS), record.id.as_bytes(), key);
        if let Some(sidecar) = sidecar {
            batch.put_cf(&self.family(SIDECARS), key, sidecar);
        }
        self.write(batch)?;
        Ok(true)
    }

    /// Puts another record in the place of one, with the same nonce.
    pub(super) fn replace(
        &self,
        gone: &Record,
        record: &Record,
        sidecar: Option<&[u8]>,
    ) -> Result<(), JournalError> {
        let key = record.nonce.to_be_bytes();
        let mut batch = WriteBatch::default();
        self.erase(&mut batch, gone)?;
        self.put(&mut batch, TRANSACTIONS, &key, record)?;
        batch.put_cf(&self.family(IDS), record.id.as_bytes(), key);
        if let Some(sidecar) = sidecar {
            batch.put_cf(&self.family(SIDECARS), key, sidecar);
        }
        self.write(batch)
    }

    /// Notes a fee.
    pub(super) fn spend(&self, day: u64, fee: U256) -> Result<(), JournalError> {
        let mut spent: BTreeMap<u64, U256> = self.get(META, SPENT)?.unwrap_or_default();
        let today = spent.entry(day).or_default();
        *today = today.saturating_add(fee);
        spent.retain(|known, _| known + SPENT_DAYS > day);
        let mut batch = WriteBatch::default();
        self.put(&mut batch, META, SPENT, &spent)?;
        self.write(batch)
    }

    /// Wei that fees have been a day, over the last days. `now` is in seconds since the Unix epoch. `None` where there were none.
    pub(super) fn spent_a_day(&self, now: u64) -> Result<Option<U256>, JournalError> {
        let spent: BTreeMap<u64, U256> = self.get(META, SPENT)?.unwrap_or_default();
        let oldest = (now / DAY).saturating_sub(SPENT_DAYS - 1);
        let mut late = spent.range(oldest..);
        let Some((first, fee)) = late.next() else { return Ok(None) };
        let all = late.fold(*fee, |sum, (_, fee)| sum.saturating_add(*fee));
        // Of the first day as of the others, as it is not known when on it the first fee was; but of a day that has just begun not the whole.
        let seconds = now.saturating_sub(first * DAY).max(DAY / 24);
        let a_day = all.saturating_mul(U256::from(DAY)) / U256::from(seconds);
        Ok(Some(a_day).filter(|a_day| !a_day.is_zero()))
    }

    pub(super) fn update(&self, record: &Record) -> Result<(), JournalError> {
        let mut batch = WriteBatch::default();
        self.put(&mut batch, TRANSACTIONS, &record.nonce.to_be_bytes(), record)?;
        self.write(batch)
    }

    /// Forgets a record: its nonce and its id are free again.
    pub(super) fn remove(&self, record: &Record) -> Result<(), JournalError> {
        let mut batch = WriteBatch::default();
        self.erase(&mut batch, record)?;
        self.write(batch)
    }

    /// Forgets a record, if none has a higher nonce. `false` if one has: without it, that one would never get in.
    pub(super) fn remove_last(&self, record: &Record) -> Result<bool, JournalError> {
        let mut above = self.db.iterator_cf(
            &self.family(TRANSACTIONS),
            IteratorMode::From(&(record.nonce.saturating_add(1)).to_be_bytes(), Direction::Forward),
        );
        if above.next().transpose()?.is_some() {
            return Ok(false);
        }
        self.remove(record)?;
        Ok(true)
    }

    /// Frees the id of a record that is settled for good, and keeps the rest.
    pub(super) fn free_id(&self, record: &Record) -> Result<(), JournalError> {
        let mut batch = WriteBatch::default();
        self.erase_id(&mut batch, record)?;
        self.write(batch)
    }

    pub(super) fn by_id(&self, id: &str) -> Result<Option<Record>, JournalError> {
        let Some(nonce) = self.raw(IDS, id.as_bytes())? else { return Ok(None) };
        self.get(TRANSACTIONS, &nonce)
    }

    /// All records, by nonce.
    pub(super) fn records(&self) -> Result<Vec<Record>, JournalError> {
        self.db
            .iterator_cf(&self.family(TRANSACTIONS), IteratorMode::Start)
            .map(|entry| {
                let (key, value) = entry?;
                decode(TRANSACTIONS, &key, &value)
            })
            .collect()
    }

    /// All records, by nonce, each with whether its id stands for it, and not for a later one or for none.
    pub(super) fn named_records(&self) -> Result<Vec<(Record, bool)>, JournalError> {
        self.records()?
            .into_iter()
            .map(|record| {
                let nonce = self.raw(IDS, record.id.as_bytes())?;
                let is_named = nonce.is_some_and(|nonce| nonce == record.nonce.to_be_bytes());
                Ok((record, is_named))
            })
            .collect()
    }

    pub(super) fn sidecar(&self, nonce: u64) -> Result<Option<Vec<u8>>, JournalError> {
        self.raw(SIDECARS, &nonce.to_be_bytes())
    }

    /// Drops what will not be needed again: the sidecars of transactions that L1 cannot revert (those in blocks up to
    /// `final_block`), and the oldest of these transactions altogether.
    pub(super) fn prune(&self, final_block: u64) -> Result<(), JournalError> {
        let records = self.records()?;
        let surplus = records.len().saturating_sub(KEEP);
        let mut batch = WriteBatch::default();
        for (position, record) in records.iter().enumerate() {
            if record.inclusion.is_none_or(|inclusion| inclusion.block_number > final_block) {
                continue;
            }
            if position < surplus {
                self.erase(&mut batch, record)?;
            } else if record.blobs > 0 {
                batch.delete_cf(&self.family(SIDECARS), record.nonce.to_be_bytes());
            }
        }
        if batch.is_empty() { Ok(()) } else { self.write(batch) }
    }

    fn erase(&self, batch: &mut WriteBatch, record: &Record) -> Result<(), JournalError> {
        let key = record.nonce.to_be_bytes();
        batch.delete_cf(&self.family(TRANSACTIONS), key);
        batch.delete_cf(&self.family(SIDECARS), key);
        self.erase_id(batch, record)
    }

    /// The id may stand for a later record by now.
    fn erase_id(&self, batch: &mut WriteBatch, record: &Record) -> Result<(), JournalError> {
        let nonce = self.raw(IDS, record.id.as_bytes())?;
        if nonce.is_some_and(|nonce| nonce == record.nonce.to_be_bytes()) {
            batch.delete_cf(&self.family(IDS), record.id.as_bytes());
        }
        Ok(())
    }

    fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(name).expect("the journal is opened with all its column families")
    }

    fn raw(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.db.get_cf(&self.family(family), key)?)
    }

    fn get<T: for<'de> Deserialize<'de>>(
        &self,
        family: &str,
        key: &[u8],
    ) -> Result<Option<T>, JournalError> {
        self.raw(family, key)?.map(|value| decode(family, key, &value)).transpose()
    }

    fn put<T: Serialize>(
        &self,
        batch: &mut WriteBatch,
        family: &str,
        key: &[u8],
        value: &T,
    ) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(value).map_err(|error| corrupt(family, key, &error))?;
        batch.put_cf(&self.family(family), key, bytes);
        Ok(())
    }

    fn write(&self, batch: WriteBatch) -> Result<(), JournalError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch, &options)?)
    }
}

fn decode<T: for<'de> Deserialize<'de>>(
    family: &str,
    key: &[u8],
    value: &[u8],
) -> Result<T, JournalError> {
    serde_json::from_slice(value).map_err(|error| corrupt(family, key, &error))
}

fn corrupt(family: &str, key: &[u8], problem: &dyn std::fmt::Display) -> JournalError {
    JournalError::Corrupt {
        entry: format!("{family}/{}", Bytes::copy_from_slice(key)),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(chain_id: u64) -> Identity {
        Identity { account: Address::repeat_byte(1), chain_id, genesis: B256::repeat_byte(2) }
    }

    fn record(id: &str, nonce: u64) -> Record {
        let fees = Fees { tip: 1, max_fee: u128::from(u64::MAX) + 1, blob_fee: 3 };
        Record {
            version: RECORD_VERSION,
            id: id.to_owned(),
            nonce,
            intent: B256::repeat_byte(3),
            gas_limit: 21_000,
            blobs: 1,
            attempts: vec![Attempt {
                hash: B256::repeat_byte(4),
                fees,
                raw: Bytes::from_static(b"raw"),
            }],
            accepted: false,
            inclusion: None,
        }
    }

    fn included(mut record: Record, block_number: u64) -> Record {
        record.inclusion = Some(Inclusion {
            hash: B256::repeat_byte(4),
            block_number,
            block_hash: B256::repeat_byte(5),
            success: true,
            fee_paid: U256::from(6),
            gas_used: 7,
            blob_gas_used: 8,
        });
        record
    }

    #[test]
    fn one_nonce_and_one_id_have_one_record_and_survive_a_restart() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = Journal::open(dir.path(), &identity(1)).expect("open");
        assert!(journal.insert(&record("a", 5), Some(b"sidecar"), 5).expect("insert"));
        assert!(!journal.insert(&record("b", 5), None, 5).expect("same nonce"));
        assert!(!journal.insert(&record("a", 6), None, 5).expect("same id"));
        drop(journal);

        let journal = Journal::open(dir.path(), &identity(1)).expect("open again");
        assert_eq!(journal.records().expect("records"), [record("a", 5)]);
        assert_eq!(journal.by_id("a").expect("read"), Some(record("a", 5)));
        assert_eq!(journal.by_id("b").expect("read"), None);
        assert_eq!(journal.sidecar(5).expect("read").as_deref(), Some(&b"sidecar"[..]));
        journal.remove(&record("a", 5)).expect("remove");
        assert!(journal.insert(&record("a", 5), None, 5).expect("insert again"));
    }

    #[test]
    fn fees_a_day_are_those_of_the_last_days() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = Journal::open(dir.path(), &identity(1)).expect("open");
        let a_day = |now| journal.spent_a_day(now).expect("read").map(|fee| fee.to::<u64>());
        assert_eq!(a_day(20_000 * DAY), None);
        journal.spend(20_000, U256::from(600)).expect("write");
        // Six hours of the first day, then two days and a half.
        assert_eq!(a_day(20_000 * DAY + DAY / 4), Some(2_400));
        journal.spend(20_002, U256::from(400)).expect("write");
        assert_eq!(a_day(20_002 * DAY + DAY / 2), Some(400));
        // A week later the first day counts no more, and after another one none does.
        assert_eq!(a_day(20_008 * DAY), Some(400 / 6));
        assert_eq!(a_day(20_020 * DAY), None);
    }

    #[test]
    fn nonces_have_no_gap() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = Journal::open(dir.path(), &identity(1)).expect("open");
        assert!(!journal.insert(&record("b", 6), None, 5).expect("read"), "nothing uses 5");
        assert!(journal.insert(&record("a", 5), None, 5).expect("insert"));
        assert!(journal.insert(&record("b", 6), None, 5).expect("insert"));
        assert!(!journal.remove_last(&record("a", 5)).expect("read"), "6 is behind it");
        assert!(journal.remove_last(&record("b", 6)).expect("remove"));
        assert!(journal.remove_last(&record("a", 5)).expect("remove"));
        assert!(journal.records().expect("records").is_empty());
    }

    #[test]
    fn another_l1_is_refused() {
        let dir = tempfile::tempdir().expect("folder");
        drop(Journal::open(dir.path(), &identity(1)).expect("open"));
        let error = Journal::open(dir.path(), &identity(2)).expect_err("foreign");
        assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_freed_id_can_stand_for_a_later_record_and_outlives_the_earlier_one() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = Journal::open(dir.path(), &identity(1)).expect("open");
        let first = included(record("a", 5), 10);
        journal.insert(&first, None, 5).expect("insert");
        journal.free_id(&first).expect("free");
        assert_eq!(journal.by_id("a").expect("read"), None);
        journal.insert(&record("a", 6), None, 6).expect("insert");
        journal.remove(&first).expect("remove");
        assert_eq!(journal.by_id("a").expect("read").map(|record| record.nonce), Some(6));
    }

    #[test]
    fn only_what_is_final_is_pruned() {
        let dir = tempfile::tempdir().expect("folder");
        let journal = Journal::open(dir.path(), &identity(1)).expect("open");
        for nonce in 0..KEEP as u64 + 3 {
            let record = included(record(&format!("id-{nonce}"), nonce), 100 + nonce);
            journal.insert(&record, Some(b"sidecar"), nonce).expect("insert");
        }
        journal.prune(101).expect("prune");
        let left = journal.records().expect("records");
        assert_eq!(
            left.first().map(|record| record.nonce),
            Some(2),
            "blocks 100 and 101 are final"
        );
        assert!(journal.sidecar(2).expect("read").is_some());
        journal.prune(10_000).expect("prune");
        assert_eq!(journal.records().expect("records").len(), KEEP);
        assert!(journal.sidecar(50).expect("read").is_none());
        assert!(journal.by_id("id-50").expect("read").is_some());
    }
}
