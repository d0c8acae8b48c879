//! Roots, history, proofs and pruning, after any sequence of changes.

use super::{table::Table, *};

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
