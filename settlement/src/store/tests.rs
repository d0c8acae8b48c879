use std::path::Path;

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, U256},
};
use millrace_l1::{L1Block, L1Update, RollupCounters, RollupEvent, RollupState, commitment_hash};
use millrace_proto::{Commitment, PostedBatch};
use tempfile::TempDir;

use super::{
    ApplyError, Identity, Outcome, Recorded, Store, StoreError, VerifiedBatch, misfit::RecordKind,
};
use crate::{
    derivation::batch_hash,
    finality,
    testing::{accumulator, deposit, l1_hash, l1_ref, post},
};

fn identity() -> Identity {
    Identity { chain_id: 1, rollup: Address::ZERO, genesis_hash: B256::ZERO }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, identity()).expect("opens")
}

fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    (dir, store)
}

fn l1_block(number: u64) -> L1Block {
    L1Block {
        number,
        hash: l1_hash(number, 0),
        parent_hash: l1_hash(number - 1, 0),
        timestamp: 1_000 + number,
    }
}

fn update(head: u64, events: Vec<RollupEvent>) -> L1Update {
    let head = l1_block(head);
    L1Update { reverted_to: None, events, head, latest: head, finalized: None, state: None }
}

fn reorg(to: u64, head: u64, events: Vec<RollupEvent>) -> L1Update {
    let reverted_to = Some(BlockNumHash::new(to, l1_hash(to, 0)));
    L1Update { reverted_to, ..update(head, events) }
}

/// Posted batches over given block ranges, each in its L1 block, chained.
fn batches(ranges: &[(u64, u64, u64)]) -> Vec<PostedBatch> {
    let mut previous = B256::ZERO;
    (1..)
        .zip(ranges)
        .map(|(number, &(first, last, l1))| {
            let mut batch = post(number, (first, last), 0, &number.to_be_bytes(), l1);
            batch.batch_hash = batch_hash(previous, &batch);
            previous = batch.batch_hash;
            batch
        })
        .collect()
}

fn posted(batches: &[PostedBatch]) -> Vec<RollupEvent> {
    batches.iter().cloned().map(RollupEvent::Posted).collect()
}

fn queued(index: u64, l1: u64) -> RollupEvent {
    RollupEvent::Queued {
        entry: deposit(index).into(),
        accumulator: accumulator(index + 1),
        l1: l1_ref(l1),
    }
}

fn verified(batch: &PostedBatch) -> VerifiedBatch {
    VerifiedBatch {
        batch: batch.header.number,
        batch_hash: batch.batch_hash,
        first_block: batch.header.first_block,
        last_block: batch.header.last_block,
        last_block_hash: B256::with_last_byte(batch.header.last_block as u8),
        last_timestamp: 7,
        deposits_end: 0,
        state_root: B256::repeat_byte(2),
        message_root: B256::repeat_byte(3),
        transactions: 5,
    }
}

fn committed(batch: &PostedBatch, l1: u64) -> Commitment {
    let verified = verified(batch);
    Commitment {
        batch: verified.batch,
        previous: verified.batch - 1,
        batch_hash: verified.batch_hash,
        first_block: verified.first_block,
        last_block: verified.last_block,
        last_block_hash: verified.last_block_hash,
        state_root: verified.state_root,
        message_root: verified.message_root,
        committed_at: 1_000 + l1,
        final_at: 1_100 + l1,
        l1: l1_ref(l1),
    }
}

fn record(store: &Store, batch: &PostedBatch) -> Recorded {
    let outcome = Outcome::Verified(verified(batch));
    store.record(batch.header.number, batch.batch_hash, &outcome).expect("records")
}

fn skip(store: &Store, batch: &PostedBatch) -> Recorded {
    let outcome = Outcome::Skipped("for a test".to_owned());
    store.record(batch.header.number, batch.batch_hash, &outcome).expect("records")
}

fn tip(store: &Store) -> Option<(u64, u64)> {
    store.last_joined().expect("reads").map(|point| (point.batch, point.last_block))
}

fn batch_of(store: &Store, block: u64) -> Option<u64> {
    store.batch_of_block(block).expect("reads").map(|batch| batch.header.number)
}

#[test]
fn what_is_written_is_read_back_after_a_restart() {
    let (dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11)]);
    let mut events = vec![queued(0, 9), queued(1, 10)];
    events.extend(posted(&batches));
    events.push(RollupEvent::Committed(committed(&batches[0], 12)));
    store.apply(&update(12, events)).expect("applies");
    assert_eq!(record(&store, &batches[0]), Recorded::Yes);
    store.add_fee(B256::repeat_byte(1), U256::from(5)).expect("writes");
    store.add_fee(B256::repeat_byte(1), U256::from(5)).expect("writes");
    store.add_fee(B256::repeat_byte(2), U256::from(7)).expect("writes");
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.l1_points().expect("reads"), [l1_block(12).id()]);
    assert_eq!(store.posted(1).expect("reads").as_ref(), Some(&batches[0]));
    assert_eq!(store.posted(2).expect("reads").as_ref(), Some(&batches[1]));
    assert_eq!(
        store.deposits(0, 9).expect("reads"),
        (B256::ZERO, vec![deposit(0).into(), deposit(1).into()])
    );
    assert_eq!(store.deposits(1, 2).expect("reads"), (accumulator(1), vec![deposit(1).into()]));
    assert_eq!(store.commitment(1).expect("reads"), Some(committed(&batches[0], 12)));
    assert_eq!(store.last_verified(None).expect("reads"), Some(verified(&batches[0])));
    assert_eq!(store.last_outcome().expect("reads"), 1);
    assert_eq!(store.fees().expect("reads"), U256::from(12));
    assert_eq!(tip(&store), Some((2, 9)));
}

#[test]
fn another_chains_folder_is_refused() {
    let (dir, store) = fresh();
    drop(store);
    let other = Identity { chain_id: 2, ..identity() };
    let error = Store::open(dir.path(), other).expect_err("another chain");
    assert!(matches!(error, StoreError::OtherChain { chain_id: 1, .. }));
}

#[test]
fn blocks_are_found_in_the_batches_that_join() {
    let (_dir, store) = fresh();
    // The second does not join: it leaves out block 4.
    let batches = batches(&[(1, 3, 10), (5, 6, 11), (4, 9, 12)]);
    store.apply(&update(12, posted(&batches))).expect("applies");
    assert_eq!(tip(&store), Some((3, 9)));
    let found: Vec<_> = (0..=10).map(|block| batch_of(&store, block)).collect();
    let (one, three) = (Some(1), Some(3));
    assert_eq!(found, [None, one, one, one, three, three, three, three, three, three, None]);
}

#[test]
fn a_skipped_batch_makes_room_for_the_next_that_joins() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11), (4, 5, 12), (6, 7, 13)]);
    store.apply(&update(13, posted(&batches))).expect("applies");
    assert_eq!(tip(&store), Some((2, 9)));
    assert_eq!(record(&store, &batches[0]), Recorded::Yes);
    assert_eq!(skip(&store, &batches[1]), Recorded::Yes);
    assert_eq!(tip(&store), Some((4, 7)));
    assert_eq!(batch_of(&store, 5), Some(3));
    assert_eq!(store.last_verified(Some(2)).expect("reads"), Some(verified(&batches[0])));
    assert_eq!(store.verified_after(1).expect("reads"), None);
    assert_eq!(record(&store, &batches[2]), Recorded::Yes);
    assert_eq!(store.verified_after(1).expect("reads"), Some(verified(&batches[2])));
}

#[test]
fn a_reorg_takes_back_what_its_blocks_brought() {
    let (_dir, store) = fresh();
    let first = batches(&[(1, 3, 10), (4, 9, 12)]);
    let mut events = vec![queued(0, 9)];
    events.extend(posted(&first));
    events.push(queued(1, 12));
    events.push(RollupEvent::Committed(committed(&first[0], 11)));
    events.push(RollupEvent::Committed(committed(&first[1], 13)));
    store.apply(&update(13, events)).expect("applies");
    record(&store, &first[0]);
    record(&store, &first[1]);

    let applied = store.apply(&reorg(11, 12, Vec::new())).expect("applies");
    assert_eq!((applied.reverted_batches, applied.reverted_deposits), (1, 1));
    assert_eq!(store.posted(2).expect("reads"), None);
    assert_eq!(store.outcome(2).expect("reads"), None);
    assert_eq!(store.last_outcome().expect("reads"), 1);
    assert_eq!(store.commitment(2).expect("reads"), None);
    assert!(store.commitment(1).expect("reads").is_some());
    assert_eq!(store.deposits(0, 9).expect("reads").1.len(), 1);
    assert_eq!(tip(&store), Some((1, 3)));
    assert_eq!(store.l1_points().expect("reads"), [l1_block(12).id()]);

    // The same batch comes back in a later block, then more.
    let again = batches(&[(1, 3, 10), (4, 9, 14), (10, 12, 15)]);
    let mut events = vec![queued(1, 14)];
    events.extend(posted(&again[1..]));
    store.apply(&update(15, events)).expect("applies");
    assert_eq!(again[1].batch_hash, first[1].batch_hash);
    assert_eq!(record(&store, &again[1]), Recorded::Yes);
    assert_eq!(tip(&store), Some((3, 12)));
}

#[test]
fn an_outcome_of_a_batch_that_was_replaced_is_not_recorded() {
    let (_dir, store) = fresh();
    let before = batches(&[(1, 3, 10)]);
    store.apply(&update(10, posted(&before))).expect("applies");
    let after = batches(&[(1, 2, 11)]);
    store.apply(&reorg(9, 11, posted(&after))).expect("applies");
    assert_eq!(record(&store, &before[0]), Recorded::Outdated);
    assert_eq!(store.last_outcome().expect("reads"), 0);
    assert_eq!(record(&store, &after[0]), Recorded::Yes);
    assert_eq!(record(&store, &after[0]), Recorded::Outdated, "only the next one is recorded");
}

#[test]
fn reverted_commitments_fall_and_a_reorg_can_bring_them_back() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11), (10, 12, 11)]);
    let mut events = posted(&batches);
    events.extend((0..3).map(|index| RollupEvent::Committed(committed(&batches[index], 12))));
    store.apply(&update(12, events)).expect("applies");
    for batch in &batches {
        record(&store, batch);
    }
    let revert = RollupEvent::CommitmentsReverted { from: 2, l1: l1_ref(14) };
    let applied = store.apply(&update(14, vec![revert])).expect("applies");
    assert!(applied.committed.is_empty());
    let standing = || -> Vec<u64> {
        store.commitments_down(None).map(|commitment| commitment.expect("reads").batch).collect()
    };
    assert_eq!(standing(), [1]);
    assert!(!store.was_reverted(&verified(&batches[0])).expect("reads"));
    assert!(store.was_reverted(&verified(&batches[2])).expect("reads"));

    store.apply(&reorg(13, 14, Vec::new())).expect("applies");
    assert_eq!(standing(), [3, 2, 1]);
    assert!(!store.was_reverted(&verified(&batches[2])).expect("reads"));
}

#[test]
fn commitments_made_and_reverted_in_one_update_do_not_stand() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11)]);
    let mut events = posted(&batches);
    events.extend((0..2).map(|index| RollupEvent::Committed(committed(&batches[index], 12))));
    events.push(RollupEvent::CommitmentsReverted { from: 2, l1: l1_ref(13) });
    let applied = store.apply(&update(13, events)).expect("applies");
    assert_eq!(applied.committed, [committed(&batches[0], 12)]);
    assert_eq!(store.commitment(2).expect("reads"), None);
}

#[test]
fn events_that_do_not_fit_change_nothing() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11)]);
    store.apply(&update(10, posted(&batches[..1]))).expect("applies");

    let gap = store.apply(&update(12, vec![queued(0, 11), queued(2, 11)]));
    assert!(matches!(
        gap,
        Err(ApplyError::Inconsistent { what: RecordKind::Deposit, found: 2, last: 0 })
    ));
    let again = store.apply(&update(12, posted(&batches[..1])));
    assert!(matches!(
        again,
        Err(ApplyError::Inconsistent { what: RecordKind::Batch, found: 1, last: 1 })
    ));
    let mut forged = batches[1].clone();
    forged.header.last_block = 10;
    let forged = store.apply(&update(12, vec![RollupEvent::Posted(forged)]));
    assert!(matches!(forged, Err(ApplyError::BatchHash { batch: 2, .. })));
    let accumulator = RollupEvent::Queued {
        entry: deposit(0).into(),
        accumulator: B256::repeat_byte(1),
        l1: l1_ref(12),
    };
    let wrong = store.apply(&update(12, vec![accumulator]));
    assert!(matches!(wrong, Err(ApplyError::Accumulator { index: 0, .. })));

    assert_eq!(store.l1_points().expect("reads"), [l1_block(10).id()]);
    assert_eq!(store.deposits(0, 9).expect("reads").1, []);
    store.apply(&update(12, posted(&batches[1..]))).expect("what fits still applies");
}

#[test]
fn only_the_newest_l1_blocks_are_remembered() {
    let (_dir, store) = fresh();
    for number in 1..=300 {
        store.apply(&update(number, Vec::new())).expect("applies");
    }
    let points = store.l1_points().expect("reads");
    assert_eq!(points.last().map(|point| point.number), Some(300));
    assert!((256..=257).contains(&points.len()), "{}", points.len());
}

#[test]
fn a_commitment_is_final_from_its_time_on_in_l1s_finalized_chain() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11)]);
    let mut events = posted(&batches);
    events.push(RollupEvent::Committed(committed(&batches[0], 12)));
    events.push(RollupEvent::Committed(committed(&batches[1], 14)));
    store.apply(&update(200, events)).expect("applies");
    let finalized = |number: u64, timestamp: u64| {
        let block = L1Block { timestamp, ..l1_block(number) };
        let update = L1Update { finalized: Some(block), ..update(200, Vec::new()) };
        store.apply(&update).expect("applies");
        finality::advance(&store).expect("advances");
        store.finalized().expect("reads").map(|point| point.batch)
    };
    // Final from 1112 on, in block 12.
    assert_eq!(finalized(12, 1_112), None, "nothing is verified yet");
    record(&store, &batches[0]);
    assert_eq!(finalized(12, 1_111), None, "it is final a second later");
    assert_eq!(finalized(11, 1_112), None, "its L1 block is not final");
    assert_eq!(finalized(12, 1_112), Some(1));
    record(&store, &batches[1]);
    assert_eq!(finalized(14, 1_113), Some(1));
    assert_eq!(finalized(14, 1_114), Some(2));
    assert_eq!(finalized(1, 1), Some(2), "never back");
}

#[test]
fn l1s_finalized_block_does_not_count_before_its_events_are_known() {
    let (_dir, store) = fresh();
    let ahead = L1Update { finalized: Some(l1_block(50)), ..update(20, Vec::new()) };
    store.apply(&ahead).expect("applies");
    assert_eq!(store.l1_finalized().expect("reads"), None);
}

#[test]
fn what_was_left_out_is_in_the_block_of_the_last_record_or_later() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 12), (10, 11, 14)]);
    let mut events = vec![queued(0, 9)];
    events.extend(posted(&batches[..1]));
    store.apply(&update(13, events)).expect("applies");
    let through = |events| {
        let misfit = store.apply(&update(15, events)).expect_err("something is missing");
        store.fits_through(&misfit).expect("reads")
    };
    assert_eq!(through(posted(&batches[2..])), 9);
    // The second one is in the same update, so it is not here yet.
    let mut fourth = batches[2].clone();
    fourth.header.number = 4;
    assert_eq!(through(vec![posted(&batches[1..2]).remove(0), RollupEvent::Posted(fourth)]), 9);
    assert_eq!(through(vec![queued(2, 14)]), 8);
    let mut needs_deposits = batches[1].clone();
    needs_deposits.header.deposits_end = 2;
    needs_deposits.batch_hash = batch_hash(batches[0].batch_hash, &needs_deposits);
    assert_eq!(through(vec![RollupEvent::Posted(needs_deposits)]), 8);

    let (_dir, store) = fresh();
    let misfit = store.apply(&update(15, posted(&batches[1..]))).expect_err("the first is missing");
    assert_eq!(store.fits_through(&misfit).expect("reads"), 0);
}

#[test]
fn reading_again_keeps_the_outcomes_of_batches_that_come_again() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 11), (4, 5, 12), (6, 7, 14)]);
    // The last one was left out; so was the commitment.
    store.apply(&update(15, posted(&batches[..3]))).expect("applies");
    record(&store, &batches[0]);
    skip(&store, &batches[1]);
    record(&store, &batches[2]);
    let mut events = posted(&batches[1..]);
    events.push(RollupEvent::Committed(committed(&batches[0], 13)));
    store.apply_again(&reorg(10, 15, events)).expect("applies");
    assert_eq!(store.last_outcome().expect("reads"), 3);
    assert_eq!(store.commitment(1).expect("reads"), Some(committed(&batches[0], 13)));
    assert_eq!(tip(&store), Some((4, 7)), "a skipped batch stays out");

    // L1 has another second batch: what followed from the old one falls.
    let mut other = batches[1].clone();
    other.header.last_block = 5;
    other.batch_hash = batch_hash(batches[0].batch_hash, &other);
    store.apply_again(&reorg(10, 16, vec![RollupEvent::Posted(other)])).expect("applies");
    assert_eq!(store.last_outcome().expect("reads"), 1);
    assert_eq!(tip(&store), Some((2, 5)));
}

#[test]
fn what_the_contract_holds_has_to_be_what_the_records_add_up_to() {
    let batches = batches(&[(1, 3, 10), (4, 9, 12)]);
    let mut events = vec![queued(0, 9)];
    events.extend(posted(&batches));
    events.extend([0, 1].map(|index| RollupEvent::Committed(committed(&batches[index], 13))));
    let counters =
        RollupCounters { batches: 2, deposits: 1, committed_batch: 2, committed_block: 9 };
    let right = RollupState {
        block: 15,
        counters,
        batch_hash: batches[1].batch_hash,
        accumulator: accumulator(1),
        commitment: commitment_hash(&committed(&batches[1], 13)),
    };
    let held = |events: &[RollupEvent], state| {
        let (_dir, store) = fresh();
        store.apply(&update(8, Vec::new())).expect("applies");
        let applied = store.apply(&L1Update { state: Some(state), ..update(15, events.to_vec()) });
        let misfit = applied.err()?;
        assert_eq!(store.l1_points().expect("reads").len(), 1, "nothing is applied");
        Some((misfit, store))
    };
    assert!(held(&events, right).is_none());
    let other = B256::repeat_byte(9);
    for (state, expected) in [
        (
            RollupState { counters: RollupCounters { batches: 3, ..counters }, ..right },
            RecordKind::Batch,
        ),
        (RollupState { batch_hash: other, ..right }, RecordKind::Batch),
        (
            RollupState { counters: RollupCounters { deposits: 2, ..counters }, ..right },
            RecordKind::Deposit,
        ),
        (RollupState { accumulator: other, ..right }, RecordKind::Deposit),
        (RollupState { commitment: other, ..right }, RecordKind::Commitment),
    ] {
        let (misfit, store) = held(&events, state).expect("it differs");
        assert!(matches!(misfit, ApplyError::Held { what, .. } if what == expected), "{misfit}");
        assert_eq!(store.fits_through(&misfit).expect("reads"), 0);
    }
    // A commitment in the middle is missing.
    events.remove(3);
    let (misfit, _store) = held(&events, right).expect("a gap");
    assert!(
        matches!(
            misfit,
            ApplyError::Inconsistent { what: RecordKind::Commitment, found: 2, last: 0 }
        ),
        "{misfit}"
    );
}

#[test]
fn what_the_contract_holds_more_of_is_behind_the_last_record() {
    let (_dir, store) = fresh();
    let batches = batches(&[(1, 3, 10), (4, 9, 12)]);
    store.apply(&update(13, posted(&batches))).expect("applies");
    let state = RollupState {
        block: 15,
        counters: RollupCounters {
            batches: 3,
            deposits: 0,
            committed_batch: 0,
            committed_block: 0,
        },
        batch_hash: B256::repeat_byte(9),
        accumulator: B256::ZERO,
        commitment: B256::ZERO,
    };
    let misfit = store.apply(&L1Update { state: Some(state), ..update(15, Vec::new()) });
    let misfit = misfit.expect_err("a batch is missing");
    assert_eq!(store.fits_through(&misfit).expect("reads"), 11);
}
