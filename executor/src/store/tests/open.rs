//! Opening: genesis, another chain, another schema.

use super::{chain::meta, db::Db, table::Table, *};

fn funded(value: u64) -> Model {
    let mut state = Model::default();
    state.apply(&[Change::Account(Address::repeat_byte(1), value)]);
    state
}

#[test]
fn the_genesis_block_is_written_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let chain = Chain::new(folder.path(), &small(), funded(7));
    let head = chain.store.head();
    assert_eq!(head, crate::genesis_header(&funded(7).spec()));
    chain.check_block(0);
    let chain = chain.reopened(folder.path(), &small());
    assert_eq!(chain.store.head(), head);
    chain.check_block(0);
}

#[test]
fn a_genesis_larger_than_one_piece_has_the_reference_root() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut state = funded(1);
    for index in 0..21_000u64 {
        let address = Address::left_padding_from(&(index / 20_500).to_be_bytes());
        let slot = B256::left_padding_from(&index.to_be_bytes());
        state.apply(&[Change::Slot(address, slot, U256::from(index + 1))]);
    }
    let store = open(folder.path(), &small(), &state).expect("the store opens");
    assert_eq!(store.head().state_root, state.root());
    let slots = store.storage_entries(Address::ZERO).collect::<Result<Vec<_>, _>>();
    assert_eq!(slots.expect("it reads").len(), 20_500);
}

#[test]
fn a_genesis_that_was_cut_short_is_replaced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let head = Chain::new(folder.path(), &small(), funded(1)).store.head();
    {
        let db = Db::open(folder.path(), &small()).expect("the database opens");
        let mut batch = db.batch();
        batch.delete(Table::Meta, meta::HEAD);
        batch.put(Table::Storage, keys::storage(Address::ZERO, B256::ZERO), [1]);
        db.write(batch).expect("the batch is written");
    }
    let chain = Chain::new(folder.path(), &small(), funded(2));
    assert_ne!(chain.store.head(), head);
    chain.check_block(0);
    assert_eq!(chain.store.storage_entries(Address::ZERO).count(), 0);
}

#[test]
fn another_chain_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stored = Chain::new(folder.path(), &small(), funded(1)).store.head().seal();
    let expected = crate::genesis_header(&funded(2).spec()).seal();
    let error = open(folder.path(), &small(), &funded(2)).expect_err("another chain");
    let text = error.to_string();
    assert!(text.contains(&stored.to_string()) && text.contains(&expected.to_string()), "{text}");
}

#[test]
fn another_payload_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = |payload: &str| {
        let mut genesis = funded(1).spec().genesis().clone();
        let rollup = serde_json::json!({ "batchPayload": payload, "gasLimit": 30_000_000 });
        genesis.config.extra_fields.insert("millrace".into(), rollup);
        genesis.config.cancun_time = Some(0);
        ChainSpec::new(genesis).expect("a valid genesis")
    };
    let open = |payload| Store::open(folder.path(), &small(), &spec(payload));
    drop(open("stateDiffs").expect("a new store"));
    let error = open("transactions").expect_err("another payload");
    assert!(matches!(error, StoreError::WrongPayload { .. }), "{error}");
    open("stateDiffs").expect("the same as before");
}

#[test]
fn another_schema_is_refused_even_with_other_tables() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(Chain::new(folder.path(), &small(), funded(1)));
    {
        let db = Db::open(folder.path(), &small()).expect("the database opens");
        let mut batch = db.batch();
        batch.put(Table::Meta, meta::SCHEMA, (SCHEMA_VERSION + 1).to_be_bytes());
        db.write(batch).expect("the batch is written");
    }
    let refused = || {
        let error = open(folder.path(), &small(), &funded(1)).expect_err("another schema");
        let found = SCHEMA_VERSION + 1;
        assert!(matches!(error, StoreError::Schema { found: f, .. } if f == found), "{error}");
    };
    refused();
    {
        let names: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        let options = rocksdb::Options::default();
        let db = rocksdb::DB::open_cf(&options, folder.path(), names).expect("it opens");
        db.create_cf("of_the_future", &options).expect("the table is made");
    }
    refused();
}

#[test]
fn one_store_owns_its_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let chain = Chain::new(folder.path(), &small(), funded(1));
    let error = open(folder.path(), &small(), &funded(1)).expect_err("it is open already");
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    drop(chain);
}
