//! Chains whose batches hold state diffs.

use millrace_proto::{
    AccountDelta, AccountDiff, AccountInfo, AddressPrefix, Change, DiffBatch, Header, NameError,
    SlotDiff, StateDiff,
};

use super::*;

const OF_DIFFS: BatchedChain = BatchedChain { id: CHAIN_ID, payload: BatchPayload::StateDiffs };

/// The account `index` gets a wei, and the one at 0 gives it.
fn paid(number: u64, index: u8) -> StateDiff {
    let info =
        |balance: u64| Some(AccountInfo { balance: U256::from(balance), ..AccountInfo::default() });
    let account = |before, after| AccountDiff {
        before: info(before),
        after: info(after),
        ..AccountDiff::default()
    };
    let accounts = [
        (Address::ZERO, account(1_000 - number + 1, 1_000 - number)),
        (Address::repeat_byte(index), account(5, 6)),
    ];
    StateDiff { accounts: accounts.into(), ..StateDiff::default() }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_state_diffs_holds_what_its_blocks_changed_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let begin = chain.cursor();
    let mut alike = Address::repeat_byte(2);
    alike[19] = 0;
    executor.set_accounts([0, 1, 2].map(Address::repeat_byte).into_iter().chain([alike]));
    let running = Running::start_of(OF_DIFFS, &config(), executor, folder.path(), begin);
    for (number, index) in [(1, 1), (2, 2), (3, 1)] {
        let mut diff = paid(number, index);
        if number == 3 {
            // It has a wei from the first block.
            let known = diff.accounts.get_mut(&Address::repeat_byte(1)).unwrap();
            for info in [&mut known.before, &mut known.after] {
                info.as_mut().unwrap().balance += U256::ONE;
            }
        }
        running.executor.push_changed(chain.block(1, &[Bytes::new()]), diff);
    }
    running.wait_for(1).await;
    let data = running.outbox.data(1).unwrap().unwrap();
    let batch = DiffBatch::decode(&data, &BatchLimits::default()).unwrap();
    // It says of two accounts only how they begin: the state before it has these, and no others that begin so.
    assert_eq!(
        batch.delta.names(),
        [Address::ZERO, Address::repeat_byte(1)].map(|address| AddressPrefix::of(address, 10))
    );
    assert_eq!(
        batch.clone().resolve(&[Some(Address::ZERO), None]),
        Err(NameError::Unknown(AddressPrefix::of(Address::repeat_byte(1), 10)))
    );
    let batch = batch.resolve(&[Some(Address::ZERO), Some(Address::repeat_byte(1))]).unwrap();
    assert_eq!((batch.first_block, batch.last_block(), batch.transactions), (1, 3, 3));
    assert_eq!(batch.header.hash_slow(), chain.head().seal());
    assert_eq!((batch.deposits_start, batch.deposits_end()), (0, 3));
    let changed = |change| AccountDelta::Changed {
        nonce: 0,
        balance: Some(change),
        code_hash: None,
        storage: Default::default(),
    };
    let expected = [
        (Address::ZERO, changed(Change::Down(U256::from(3)))),
        (Address::repeat_byte(1), changed(Change::Up(U256::from(2)))),
        (Address::repeat_byte(2), changed(Change::Up(U256::from(1)))),
    ];
    assert_eq!(batch.delta.accounts, expected.into());
    let cursor = running.outbox.cursor().unwrap();
    assert_eq!((cursor.deposits_end, cursor.deposits_hash), (3, accumulator(3)));
    running.stop().await;
}

/// The executor cannot say who is in the state, as it keeps no state so old: everybody is told in full.
#[tokio::test(start_paused = true)]
async fn a_batch_is_made_without_names_if_nobody_can_say_who_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    executor.set_accounts([Address::ZERO]);
    executor.set_pruned();
    let begin = chain.cursor();
    let running = Running::start_of(OF_DIFFS, &config(), executor, folder.path(), begin);
    running.executor.push_changed(chain.small(), paid(1, 1));
    running.wait_for(1).await;
    let data = running.outbox.data(1).unwrap().unwrap();
    let batch = DiffBatch::decode(&data, &BatchLimits::default()).unwrap();
    assert!(batch.delta.names().is_empty());
    let accounts = batch.resolve(&[]).unwrap().delta.accounts.into_keys().collect::<Vec<_>>();
    assert_eq!(accounts, [Address::ZERO, Address::repeat_byte(1)]);
    running.stop().await;
}

/// Blocks that change many accounts fill a batch, as many transactions do.
#[tokio::test(start_paused = true)]
async fn batches_of_state_diffs_are_filled_before_they_close() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let begin = chain.cursor();
    let config = DaAdapterConfig { target_size: Some(60_000), zstd_level: 9, ..config() };
    let running = Running::start_of(OF_DIFFS, &config, executor, folder.path(), begin);
    for number in 0..520_u64 {
        let mut diff = StateDiff::default();
        for index in 0..20_u64 {
            let address = Address::from_word(batch_digest(&(number * 20 + index).to_be_bytes()));
            let after = AccountInfo { nonce: 1, ..AccountInfo::default() };
            diff.accounts
                .insert(address, AccountDiff { after: Some(after), ..AccountDiff::default() });
        }
        running.executor.push_changed(chain.empty(), diff);
    }
    running.wait_for(3).await;
    for number in 1..=3 {
        let size = running.outbox.data(number).unwrap().unwrap().len();
        assert!((59_400..=60_000).contains(&size), "batch {number}: {size} bytes");
    }
    running.stop().await;
}

/// Diffs that are small however many transactions made them: the open batch closes before its blocks fill the memory.
#[tokio::test(start_paused = true)]
async fn a_batch_closes_when_it_has_as_many_transactions_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let begin = chain.cursor();
    let running = Running::start_of(OF_DIFFS, &config(), executor, folder.path(), begin);
    let started = Instant::now();
    // The same transaction again and again: nobody looks at it here.
    let block = chain.small();
    let mut parent = block.header.parent_hash;
    for number in 1..=7 {
        let transactions = vec![block.transactions[0].clone(); 40_000];
        let receipts = vec![block.receipts[0].clone(); 40_000];
        let header = Header { number, parent_hash: parent, ..block.header.clone_inner() };
        let block = ExecutedBlock { header: header.seal_slow(), transactions, receipts };
        parent = block.hash();
        running.executor.push_changed(Arc::new(block), StateDiff::default());
    }
    running.wait_for(1).await;
    assert!(started.elapsed() < config().max_batch_age);
    let data = running.outbox.data(1).unwrap().unwrap();
    let batch = DiffBatch::decode(&data, &BatchLimits::default()).unwrap();
    assert_eq!((batch.last_block(), batch.transactions), (6, 240_000));
    running.stop().await;
}

#[test]
fn an_estimate_that_was_too_low_is_learnt_from() {
    let mut chain = Chain::new("a");
    let mut open = OpenBatch::new(1.0).unwrap();
    // Keys that nothing is known of take several times as many bytes as are counted for one.
    let mut diff = StateDiff::default();
    let slot = |index: u64| {
        let key = batch_digest(&index.to_be_bytes());
        let slot = SlotDiff { before: U256::ZERO, after: batch_digest(key.as_slice()).into() };
        (key, slot)
    };
    let after = Some(AccountInfo { nonce: 1, ..AccountInfo::default() });
    let storage = (0..1_000).map(slot).collect();
    diff.accounts.insert(Address::ZERO, AccountDiff { after, storage, ..AccountDiff::default() });
    let cursor = chain.cursor();
    let block = Collected { diff: Some(Arc::new(diff)), ..alone(chain.empty()) };
    open.push(block.clone()).unwrap();
    let sizes = Sizes { target: 20_000, max: 200_000 };
    let second = Collected { diff: Some(Arc::default()), ..alone(chain.empty()) };
    let encoded = encode(&cursor, &[block, second], sizes).unwrap();
    assert_eq!(encoded.blocks, 1, "the rest is for the next batch");
    let whole = encoded.whole.expect("it was tried first");
    assert!(whole > 3 * open.size());
    let correction = open.measured(whole);
    assert!(correction > 3.0, "{correction}");
}

#[tokio::test(start_paused = true)]
async fn a_block_whose_changes_are_lost_halts_batching() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new("a");
    let executor = TestExecutor::new(chain.head());
    let begin = chain.cursor();
    let running = Running::start_of(OF_DIFFS, &config(), executor, folder.path(), begin);
    running.executor.push(chain.small());
    while running.halts.reason().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reason = running.halts.reason().unwrap();
    assert!(reason.contains("has block 1, but not what it changed"), "{reason}");
    running.stop().await;
}
