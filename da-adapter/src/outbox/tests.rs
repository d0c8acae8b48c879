use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, U256},
};
use millrace_proto::{L1Ref, batch_digest};

use super::*;

const IDENTITY_1: OutboxIdentity = OutboxIdentity { chain_id: 1, rollup: Address::ZERO };

fn cursor(batch: u64) -> Cursor {
    Cursor {
        batch,
        block: BlockNumHash { number: batch * 10, hash: B256::with_last_byte(batch as u8) },
        deposits_end: batch,
        deposits_hash: B256::ZERO,
    }
}

fn close(outbox: &Outbox, number: u64) -> BatchEntry {
    close_with(outbox, number, &[number as u8; 100])
}

fn close_with(outbox: &Outbox, number: u64, data: &[u8]) -> BatchEntry {
    let entry = BatchEntry {
        number,
        first_block: number * 10 - 9,
        last_block: number * 10,
        deposits_end: number,
        deposits_hash: B256::ZERO,
        digest: batch_digest(data),
        size: data.len() as u64,
        transactions: 5,
        closed_at: 0,
        post: None,
    };
    let before = outbox.cursor().unwrap();
    assert!(outbox.close(entry, data, before, cursor(number)).unwrap());
    entry
}

fn post(block: u64) -> Post {
    let block = BlockNumHash { number: block, hash: B256::with_last_byte(block as u8) };
    Post { l1: L1Ref { tx_hash: B256::ZERO, block }, fee: U256::from(1_000) }
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!(outbox.summary(), OutboxSummary::default());
    outbox.begin(cursor(0), 0).unwrap();
    let entries: Vec<_> = (1..=3).map(|number| close(&outbox, number)).collect();
    outbox.mark_posted(1, post(7), None).unwrap();
    let before = outbox.summary();
    assert_eq!((before.posted, before.posted_block), (1, 10));
    assert_eq!((before.backlog_batches, before.backlog_bytes), (2, 200));
    assert_eq!(before.totals, Totals { bytes: 100, transactions: 5, fees: U256::from(1_000) });

    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!(outbox.summary(), before);
    assert_eq!(outbox.cursor(), Some(cursor(3)));
    assert_eq!(outbox.entry(1).unwrap().post, Some(post(7)));
    assert_eq!(outbox.entry(3), Some(entries[2]));
    assert_eq!(batch_digest(&outbox.data(2).unwrap().unwrap()), entries[1].digest);
    assert_eq!(outbox.data(4).unwrap(), None);
}

#[test]
fn a_reorg_takes_records_back() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(0), 0).unwrap();
    for number in 1..=3 {
        close(&outbox, number);
        outbox.mark_posted(number, post(number), None).unwrap();
    }
    outbox.unmark_after(1).unwrap();
    let summary = outbox.summary();
    assert_eq!((summary.posted, summary.backlog_batches, summary.totals.bytes), (1, 2, 100));
    // Included again, in another block and for another fee.
    outbox.mark_posted(2, Post { fee: U256::from(5), ..post(9) }, None).unwrap();
    outbox.mark_posted(2, post(10), None).unwrap();
    let summary = outbox.summary();
    assert_eq!((summary.posted, summary.totals.bytes), (2, 200));
    assert_eq!(summary.totals.fees, U256::from(2_000));
}

#[test]
fn final_batches_leave_but_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(0), 0).unwrap();
    for number in 1..=3 {
        close(&outbox, number);
        outbox.mark_posted(number, post(number), None).unwrap();
    }
    outbox.prune(2).unwrap();
    let before = outbox.summary();
    assert_eq!((before.posted, before.totals.bytes), (3, 300));
    assert_eq!(outbox.entries().iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(outbox.data(2).unwrap(), None);
    assert!(outbox.data(3).unwrap().is_some());
    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!(outbox.summary(), before);
    outbox.unmark_after(2).unwrap();
    assert_eq!((outbox.summary().posted, outbox.summary().posted_block), (2, 20));
}

/// The write-ahead log too, although most tables hardly change.
#[test]
fn batches_that_are_final_leave_the_disk() {
    const BATCH: usize = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(0), 0).unwrap();
    for number in 1..=60 {
        close_with(&outbox, number, &vec![number as u8; BATCH]);
        outbox.mark_posted(number, post(number), None).unwrap();
        outbox.prune(number).unwrap();
    }
    let files = std::fs::read_dir(folder.path()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 32 * BATCH as u64, "{} MiB of 60 batches of 8 MiB", bytes >> 20);
}

#[test]
fn an_outbox_that_begins_late_knows_what_is_posted() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(4), 0).unwrap();
    assert_eq!((outbox.summary().posted, outbox.summary().posted_block), (4, 40));
    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    close(&outbox, 5);
    assert_eq!((outbox.summary().posted, outbox.summary().posted_block), (4, 40));
    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!((outbox.summary().posted, outbox.summary().posted_block), (4, 40));
    assert_eq!(outbox.summary().backlog_batches, 1);
}

#[test]
fn another_chains_outbox_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Outbox::open(folder.path(), IDENTITY_1).unwrap());
    let other = OutboxIdentity { chain_id: 2, ..IDENTITY_1 };
    let error = Outbox::open(folder.path(), other).unwrap_err();
    assert!(matches!(error, OutboxError::Foreign { .. }), "{error}");
}

#[test]
fn a_record_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(0), 0).unwrap();
    close(&outbox, 1);
    outbox.db.put_cf(table(&outbox.db, ENTRIES), 1u64.to_be_bytes(), [9]).unwrap();
    drop(outbox);
    let error = Outbox::open(folder.path(), IDENTITY_1).unwrap_err();
    assert_eq!(error.to_string(), "entries/1 cannot be read");
}

#[test]
fn what_l1_holds_instead_is_gone_on_after() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(0), 0).unwrap();
    for number in 1..=4 {
        close(&outbox, number);
    }
    outbox.mark_posted(1, post(7), None).unwrap();
    // L1 has three others behind the first.
    outbox.rejoin(cursor(4), B256::ZERO).unwrap();
    let numbers = |outbox: &Outbox| {
        outbox.entries().into_iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&outbox), [1]);
    let summary = outbox.summary();
    assert_eq!((summary.posted, summary.posted_block, summary.backlog_batches), (4, 40, 0));
    let entry = BatchEntry { number: 5, ..outbox.entry(1).unwrap() };
    assert!(!outbox.close(entry, b"late", cursor(3), cursor(5)).unwrap(), "it began elsewhere");
    outbox.unwind(cursor(3), cursor(0)).unwrap();
    assert_eq!(outbox.cursor(), Some(cursor(4)));
    close(&outbox, 5);
    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!(numbers(&outbox), [1, 5]);
    assert_eq!(outbox.summary().posted, 4);
    outbox.mark_posted(5, post(9), None).unwrap();
    assert_eq!((outbox.summary().posted, outbox.entry_after(1).unwrap().number), (5, 5));

    // A reorg takes the others, with what was seen behind them.
    assert!(!outbox.was_final(2).unwrap());
    outbox.rejoin(cursor(1), B256::ZERO).unwrap();
    let summary = outbox.summary();
    assert_eq!((numbers(&outbox), summary.posted, summary.totals.bytes), (vec![1], 1, 100));
}

#[test]
fn how_far_the_archive_is_outlasts_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    outbox.begin(cursor(4), 0).unwrap();
    assert_eq!(outbox.archived(), Archived::default(), "those before it are to be archived too");
    let archived = Archived { batch: 3, block: post(7).l1.block };
    outbox.mark_archived(archived).unwrap();
    drop(outbox);
    let outbox = Outbox::open(folder.path(), IDENTITY_1).unwrap();
    assert_eq!(outbox.archived(), archived);
}
