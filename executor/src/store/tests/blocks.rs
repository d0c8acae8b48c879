//! Blocks, indexes, and commits that are refused.

use alloy::primitives::{Bytes, TxKind};
use millrace_proto::TxDeposit;

use super::*;
use crate::store::table::Table;

fn deposit(index: u64) -> Arc<RecoveredTx> {
    let deposit = TxDeposit {
        source_hash: B256::with_last_byte(index as u8),
        from: Address::repeat_byte(1),
        to: TxKind::Call(Address::repeat_byte(2)),
        mint: 0,
        value: U256::from(index),
        gas_limit: 21_000,
        is_system_transaction: false,
        input: Bytes::new(),
    };
    Arc::new(RecoveredTx::new_unchecked(deposit.into(), Address::repeat_byte(1)))
}

#[test]
fn blocks_are_found_by_number_hash_and_transaction() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chain = Chain::new(folder.path(), &small(), Model::default());
    for number in 1..=5u64 {
        chain.push_with(&[], (0..number).map(|index| deposit(10 * number + index)).collect());
    }
    let written: Vec<_> = (0..=5)
        .map(|number| chain.store.block(BlockSelector::Number(number)).expect("it reads"))
        .collect();
    let chain = chain.reopened(folder.path(), &small());
    for (number, block) in (0..).zip(written) {
        let block = block.expect("the block is there");
        for at in [BlockSelector::Number(number), BlockSelector::Hash(block.hash())] {
            assert_eq!(chain.store.block(at).expect("it reads"), Some(Arc::clone(&block)));
            assert_eq!(chain.store.header(at).expect("it reads"), Some(block.header.clone()));
        }
        assert_eq!(chain.store.receipts(number).expect("it reads"), Some(Vec::new()));
        for (index, tx) in (0..).zip(&block.transactions) {
            let location = chain.store.locate(tx.hash()).expect("it reads").expect("it is there");
            assert_eq!((location.block, location.index), (block.num_hash(), index));
        }
        let view = chain.store.view(BlockSelector::Latest).expect("the head's state is kept");
        assert_eq!(view.block_hash(number).expect("it reads"), Some(block.hash()));
    }
    assert_eq!(chain.store.block(BlockSelector::Number(6)).expect("it reads"), None);
    assert_eq!(chain.store.header(BlockSelector::Hash(B256::ZERO)).expect("it reads"), None);
    assert_eq!(chain.store.receipts(6).expect("it reads"), None);
    assert_eq!(chain.store.locate(B256::ZERO).expect("it reads"), None);

    let numbers = |from, to| -> Vec<u64> {
        chain.store.headers(from, to).map(|header| header.expect("it reads").number).collect()
    };
    assert_eq!(numbers(0, 10), [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(2, 4), [2, 3, 4]);
    assert_eq!(numbers(4, 3), [0u64; 0]);
    assert_eq!(numbers(6, 9), [0u64; 0]);
}

#[test]
fn transactions_are_found_before_and_after_their_index_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chain = Chain::new(folder.path(), &small(), Model::default());
    let located = |chain: &Chain, number: u64| -> Vec<Option<(u64, u64)>> {
        let location = |index| {
            let hash = deposit(10 * number + index).hash();
            let location = chain.store.locate(hash).expect("it reads")?;
            Some((location.block.number, location.index))
        };
        (0..3).map(location).collect()
    };
    let written = |chain: &Chain, number: u64| {
        let hash = deposit(10 * number).hash();
        let entry = chain.store.db().reader().get(Table::Transactions, hash);
        entry.expect("it reads").is_some()
    };
    let push = |chain: &mut Chain, number: u64| {
        chain.push_with(&[], (0..3).map(|index| deposit(10 * number + index)).collect());
    };
    let all = |number| (0..3).map(|index| Some((number, index))).collect::<Vec<_>>();

    push(&mut chain, 1);
    assert!(!written(&chain, 1));
    assert_eq!(located(&chain, 1), all(1));
    chain.store.index().expect("it is written");
    assert!(written(&chain, 1));
    assert_eq!(located(&chain, 1), all(1));

    // With the next block, if not by itself.
    push(&mut chain, 2);
    push(&mut chain, 3);
    assert!(written(&chain, 2) && !written(&chain, 3));
    assert_eq!(located(&chain, 2), all(2));

    // The process ended in between.
    let chain = chain.reopened(folder.path(), &small());
    assert!(written(&chain, 3));
    assert_eq!(located(&chain, 3), all(3));
    assert_eq!(located(&chain, 4), [None; 3]);

    chain.store.unwind(2).expect("it is taken back");
    assert_eq!(located(&chain, 3), [None; 3]);
    assert_eq!(located(&chain, 2), all(2));

    // A store that keeps no index finds nothing.
    let other = tempfile::tempdir().expect("a temporary folder");
    let config = StoreConfig { transaction_index: false, ..small() };
    let mut chain = Chain::new(other.path(), &config, Model::default());
    push(&mut chain, 1);
    assert_eq!(located(&chain, 1), [None; 3]);
    assert_eq!(located(&chain.reopened(other.path(), &config), 1), [None; 3]);
}

#[test]
fn a_view_knows_no_hash_after_its_block() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chain = Chain::new(folder.path(), &small(), Model::default());
    chain.push(&[]);
    chain.push(&[]);
    let view = chain.store.view(BlockSelector::Number(1)).expect("the state is kept");
    assert!(view.block_hash(1).expect("it reads").is_some());
    assert_eq!(view.block_hash(2).expect("it reads"), None);
}

#[test]
fn code_is_found_by_its_hash_and_returns_with_the_diff() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let chain = Chain::new(folder.path(), &small(), Model::default());
    let code = Bytes::from_static(&[0x60, 0x00]);
    let hash = keccak256(&code);
    let info = AccountInfo { code_hash: hash, nonce: 1, ..AccountInfo::default() };
    let account = AccountDiff { after: Some(info), ..AccountDiff::default() };
    let diff = StateDiff {
        accounts: [(Address::repeat_byte(1), account)].into(),
        code: [(hash, code.clone())].into(),
    };
    let update = chain.store.root(&diff).expect("the root is computed");
    let block = block(&chain.store.head(), update.root, Vec::new());
    chain.store.commit(block, &diff, update).expect("the block is written");
    let view = chain.store.view(BlockSelector::Latest).expect("the state is kept");
    assert_eq!(view.code(hash).expect("it reads"), Some(code));
    assert_eq!(view.code(B256::ZERO).expect("it reads"), None);
    assert_eq!(chain.store.state_diff(1).expect("it reads"), Some(diff));
}

#[test]
fn refused_commits_change_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chain = Chain::new(folder.path(), &small(), Model::default());
    let address = Address::repeat_byte(1);
    chain.push(&[Change::Account(address, 1)]);
    let (head, state) = (chain.store.head(), chain.state().clone());
    let mut next = state.clone();
    next.apply(&[Change::Account(address, 2)]);
    let diff = state.diff(&next);
    let root = || chain.store.root(&diff).expect("the root is computed");

    let wrong_root = block(&head, B256::ZERO, Vec::new());
    let error = chain.store.commit(wrong_root, &diff, root()).expect_err("the root is wrong");
    assert!(matches!(error, StoreError::RootMismatch { number: 2, .. }), "{error}");

    let genesis = chain.store.header(BlockSelector::Number(0)).expect("it reads").expect("there");
    let sibling = block(&genesis, root().root, Vec::new());
    let error = chain.store.commit(sibling, &diff, root()).expect_err("not the next block");
    assert!(matches!(error, StoreError::NotNext { number: 1, .. }), "{error}");

    let stale = root();
    chain.push(&[]);
    let late = block(&chain.store.head(), stale.root, Vec::new());
    let error = chain.store.commit(late, &diff, stale).expect_err("the root is of another parent");
    assert!(matches!(error, StoreError::NotNext { number: 3, .. }), "{error}");
    assert_eq!(chain.store.head().number, 2);
    chain.check_block(2);
}

#[test]
fn a_diff_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chain = Chain::new(folder.path(), &small(), Model::default());
    let address = Address::repeat_byte(1);
    let slot = B256::with_last_byte(1);
    chain.push(&[Change::Account(address, 1), Change::Slot(address, slot, U256::from(1))]);
    let info = chain.state().0[&address].0;

    let created = AccountDiff { after: Some(info), ..AccountDiff::default() };
    let diff = StateDiff { accounts: [(address, created)].into(), ..StateDiff::default() };
    let error = chain.store.root(&diff).expect_err("the account was there before");
    assert!(matches!(error, StoreError::Diff { address: at, .. } if at == address), "{error}");

    let destroyed = AccountDiff { before: Some(info), ..AccountDiff::default() };
    let diff = StateDiff { accounts: [(address, destroyed)].into(), ..StateDiff::default() };
    let error = chain.store.root(&diff).expect_err("the account's slot is not wiped");
    assert!(matches!(error, StoreError::Diff { address: at, .. } if at == address), "{error}");
}
