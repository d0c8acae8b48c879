//! Roots, history, proofs and pruning, after any sequence of changes.

use millrace_proto::StateDelta;

use super::{table::Table, *};
use crate::{MemoryState, apply_delta};

const CURRENT: [Table; 4] =
    [Table::Accounts, Table::Storage, Table::AccountNodes, Table::StorageNodes];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_block_keeps_its_state_and_proofs(
        genesis in prop::collection::vec(change(), 0..8),
        blocks in blocks(),
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut state = Model::default();
        state.apply(&genesis);
        let mut chain = Chain::new(folder.path(), &small(), state);
        for changes in &blocks {
            chain.push(changes);
        }
        let chain = chain.reopened(folder.path(), &small());
        let head = chain.store.head();
        prop_assert_eq!(head.number, blocks.len() as u64);
        for number in 0..=head.number {
            chain.check_block(number);
        }
        for (number, diff) in (1..).zip(&chain.diffs[1..]) {
            let stored = chain.store.state_diff(number).expect("it reads");
            prop_assert_eq!(stored.as_ref(), Some(diff));
        }
        prop_assert_eq!(chain.store.state_diff(0).expect("it reads"), None);
        for (address, (_, storage)) in &chain.state().0 {
            let entries: Vec<_> = chain
                .store
                .storage_entries(*address)
                .collect::<Result<_, _>>()
                .expect("it reads");
            prop_assert!(entries.iter().copied().eq(storage.iter().map(|(k, v)| (*k, *v))));
        }

        // A chain that starts with this state holds the same entries: nothing is left over, nothing is missing.
        let other = tempfile::tempdir().expect("a temporary folder");
        let fresh = Chain::new(other.path(), &small(), chain.state().clone());
        for table in CURRENT {
            prop_assert_eq!(
                entries(chain.store.db(), table),
                entries(fresh.store.db(), table),
                "table {}", table.name()
            );
        }
    }

    #[test]
    fn pruning_keeps_the_window_and_removes_the_rest(blocks in blocks(), window in 0u64..6) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut chain = Chain::new(folder.path(), &small(), Model::default());
        let (before, after) = blocks.split_at(blocks.len() / 2);
        before.iter().for_each(|changes| chain.push(changes));
        // The window gets smaller, so that there is something to catch up with.
        let config = StoreConfig { history_blocks: Some(window), ..small() };
        let mut chain = chain.reopened(folder.path(), &config);
        after.iter().for_each(|changes| chain.push(changes));
        for _ in 0..4 {
            chain.push(&[]);
        }

        let head = chain.store.head().number;
        let oldest = head.saturating_sub(window.max(1));
        for number in 0..oldest {
            let error = chain.store.view(BlockSelector::Number(number)).expect_err("pruned");
            let pruned = matches!(
                error,
                StoreError::StatePruned { block, oldest: kept } if block == number && kept == oldest
            );
            prop_assert!(pruned, "{}", error);
            prop_assert_eq!(chain.store.state_diff(number).expect("it reads"), None);
        }
        for number in oldest..=head {
            chain.check_block(number);
        }
        for table in CURRENT.iter().filter_map(|table| table.history()) {
            for key in entries(chain.store.db(), table).keys() {
                let number = key[key.len() - keys::HISTORY_SUFFIX..].try_into().expect("8 bytes");
                prop_assert!(u64::from_be_bytes(number) > oldest, "table {}", table.name());
            }
        }
        prop_assert_eq!(entries(chain.store.db(), Table::Diffs).len() as u64, head - oldest);
        prop_assert_eq!(entries(chain.store.db(), Table::NodeChanges).len() as u64, head - oldest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_taken_back_leaves_nothing_behind(
        genesis in prop::collection::vec(change(), 0..8),
        blocks in blocks(),
        other in blocks(),
        kept in 0usize..8,
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut state = Model::default();
        state.apply(&genesis);
        let mut chain = Chain::new(folder.path(), &small(), state);
        let kept = kept.min(blocks.len());
        blocks[..kept].iter().for_each(|changes| chain.push(changes));
        let before = everything(&chain);
        blocks[kept..].iter().for_each(|changes| chain.push(changes));
        chain.store.unwind(kept as u64).expect("all of the history is kept");
        chain.states.truncate(kept + 1);
        chain.diffs.truncate(kept + 1);
        prop_assert_eq!(&everything(&chain), &before);
        prop_assert_eq!(chain.store.head().number, kept as u64);

        // Another chain goes on from there, also after a restart.
        let mut chain = chain.reopened(folder.path(), &small());
        other.iter().for_each(|changes| chain.push(changes));
        for number in 0..=chain.store.head().number {
            chain.check_block(number);
        }
    }
}

/// All tables but that of code, which keeps what it has.
fn everything(chain: &Chain) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
    let tables = Table::ALL.into_iter().filter(|table| *table != Table::Code);
    tables.map(|table| entries(chain.store.db(), table)).collect()
}

#[test]
fn what_is_not_known_any_more_is_not_taken_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = StoreConfig { history_blocks: Some(2), ..small() };
    let mut chain = Chain::new(folder.path(), &config, Model::default());
    for value in 1..=6 {
        chain.push(&[Change::Account(Address::repeat_byte(1), value)]);
    }
    let error = chain.store.unwind(2).expect_err("pruned");
    assert!(matches!(error, StoreError::StatePruned { block: 3, oldest: 4 }), "{error}");
    assert_eq!(chain.store.head().number, 4, "as far as it goes");
    chain.check_block(4);
    chain.store.unwind(9).expect("nothing to do");
    assert_eq!(chain.store.head().number, 4);
}

#[test]
fn a_view_stays_the_same_while_blocks_are_committed_and_pruned() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = StoreConfig { history_blocks: Some(2), ..small() };
    let mut chain = Chain::new(folder.path(), &config, Model::default());
    let address = Address::repeat_byte(1);
    let slot = B256::with_last_byte(1);
    let changes = |value: u64| {
        [Change::Account(address, value), Change::Slot(address, slot, U256::from(value))]
    };
    chain.push(&changes(1));
    chain.push(&changes(2));
    let older = chain.store.view(BlockSelector::Number(1)).expect("the state is kept");
    let head = chain.store.view(BlockSelector::Latest).expect("the state is kept");
    for value in 3..20 {
        chain.push(&changes(value));
    }
    assert!(chain.store.view(BlockSelector::Number(1)).is_err(), "pruned by now");
    assert_eq!(older.header().number, 1);
    check_view(&older, &chain.states[1]);
    assert_eq!(head.header().number, 2);
    check_view(&head, &chain.states[2]);
}

#[test]
fn an_unknown_block_has_no_state() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let chain = Chain::new(folder.path(), &small(), Model::default());
    for at in [BlockSelector::Number(1), BlockSelector::Hash(B256::repeat_byte(1))] {
        let error = chain.store.view(at).expect_err("there is no such block");
        assert!(matches!(error, StoreError::UnknownBlock(unknown) if unknown == at), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The blocks of a chain taken together lead another store to the same state, and leave nothing else in it.
    #[test]
    fn a_jump_leads_to_the_state_that_blocks_lead_to(
        genesis in prop::collection::vec(change(), 0..8),
        blocks in blocks(),
    ) {
        let [folder, other] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let mut state = Model::default();
        state.apply(&genesis);
        let mut chain = Chain::new(folder.path(), &small(), state.clone());
        let mut changed = StateDiff::default();
        for changes in &blocks {
            chain.push(changes);
            changed.extend(chain.diffs[chain.diffs.len() - 1].clone()).expect("they follow");
        }
        let before = MemoryState::from_alloc(&state.spec().genesis().alloc);
        let diff = apply_delta(&StateDelta::from(&changed), &before).expect("it is complete");

        let jumped = Chain::new(other.path(), &small(), state);
        let head = chain.store.head();
        let root = jumped.store.root(&diff).expect("the root is computed");
        let digest = B256::repeat_byte(9);
        jumped.store.jump(head.clone(), &diff, root, digest).expect("it is written");
        let jumped = jumped.reopened(other.path(), &small());
        prop_assert_eq!(jumped.store.head(), head.clone());
        prop_assert_eq!(jumped.store.stretch(head.number).expect("it reads"), Some(digest));
        for table in CURRENT {
            prop_assert_eq!(
                entries(jumped.store.db(), table),
                entries(chain.store.db(), table),
                "table {}", table.name()
            );
        }
        let view = jumped.store.view(BlockSelector::Latest).expect("the head's state");
        check_view(&view, chain.state());
        check_view(&jumped.store.view(BlockSelector::Number(0)).expect("kept"), &chain.states[0]);

        // And back, with nothing left of it.
        jumped.store.unwind(0).expect("its history is kept");
        let fresh = tempfile::tempdir().expect("a temporary folder");
        let fresh = Chain::new(fresh.path(), &small(), chain.states[0].clone());
        prop_assert_eq!(jumped.store.head(), fresh.store.head());
        let code = Table::Code;
        for table in Table::ALL.into_iter().filter(|table| *table as usize != code as usize) {
            prop_assert_eq!(
                entries(jumped.store.db(), table),
                entries(fresh.store.db(), table),
                "table {}", table.name()
            );
        }
    }
}

/// Jumps over blocks: only what history has to be kept for is kept, and only that can be taken back.
#[test]
fn jumps_are_kept_for_as_many_blocks_as_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = StoreConfig { history_blocks: Some(25), ..small() };
    let mut chain = Chain::new(folder.path(), &config, Model::default());
    let address = Address::repeat_byte(1);
    for value in 1..=8 {
        chain.jump(10, &[Change::Account(address, value)]);
    }
    assert_eq!(chain.store.head().number, 80);
    for (jumps, kept) in [(4, false), (5, true), (7, true)] {
        let view = chain.store.view(BlockSelector::Number(10 * jumps));
        match (view, kept) {
            (Ok(view), true) => check_view(&view, &chain.states[jumps as usize]),
            (Err(StoreError::StatePruned { oldest: 50, .. }), false) => {}
            (view, _) => panic!("{jumps}: {view:?}"),
        }
    }
    // Where none ends, what passes over it goes as a whole.
    chain.store.unwind(65).expect("its history is kept");
    assert_eq!(chain.store.head().number, 60);
    check_view(&chain.store.view(BlockSelector::Latest).expect("the head"), &chain.states[6]);
    let error = chain.store.unwind(0).expect_err("it goes back no further");
    assert!(matches!(error, StoreError::StatePruned { oldest: 50, .. }), "{error}");
    assert_eq!(chain.store.head().number, 50);
}

/// Batches of state diffs are made of them, perhaps much later.
#[test]
fn what_blocks_changed_is_kept_where_batches_hold_it() {
    for (payload, kept) in [("transactions", false), ("stateDiffs", true)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut genesis = Model::default().spec().genesis().clone();
        let rollup = serde_json::json!({ "batchPayload": payload, "gasLimit": 30_000_000 });
        genesis.config.extra_fields.insert("millrace".into(), rollup);
        genesis.config.cancun_time = Some(0);
        let spec = ChainSpec::new(genesis).expect("a valid genesis");
        let config = StoreConfig { history_blocks: Some(2), ..small() };
        let store = Store::open(folder.path(), &config, &spec).expect("it opens");
        let mut chain =
            Chain { store, states: vec![Model::default()], diffs: vec![StateDiff::default()] };
        for nonce in 1..=8 {
            chain.push(&[Change::Account(Address::repeat_byte(1), nonce)]);
        }
        let error = chain.store.view(BlockSelector::Number(1)).expect_err("pruned");
        assert!(matches!(error, StoreError::StatePruned { .. }), "{error}");
        let diff = chain.store.state_diff(1).expect("it reads");
        assert_eq!(diff.is_some(), kept, "{payload}");
    }
}
