//! The store against a plain copy of the state in memory.

mod blocks;
mod crash;
mod history;
mod open;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use alloy::{
    consensus::{Sealable, TrieAccount},
    genesis::{Genesis, GenesisAccount},
    primitives::{Address, B256, U256, keccak256},
    rlp,
};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles,
    proof::verify_proof,
    root::{state_root_unhashed, storage_root_unhashed},
};
use millrace_proto::{
    AccountDiff, AccountInfo, AddressPrefix, BlockSelector, ChainSpec, ExecutedBlock, Header,
    RecoveredTx, SealedHeader, SlotDiff, StateDiff,
};
use proptest::prelude::*;

use super::*;

/// All of the state, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model(BTreeMap<Address, (AccountInfo, BTreeMap<B256, U256>)>);

#[derive(Debug, Clone)]
enum Change {
    Account(Address, u64),
    Slot(Address, B256, U256),
    Destroy(Address),
}

impl Model {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Account(address, value) => {
                    let (info, _) = self.0.entry(*address).or_default();
                    info.balance = U256::from(*value) << (value % 200);
                    info.nonce = value / 3;
                }
                Change::Slot(address, slot, value) => {
                    let (_, storage) = self.0.entry(*address).or_default();
                    if value.is_zero() {
                        storage.remove(slot);
                    } else {
                        storage.insert(*slot, *value);
                    }
                }
                Change::Destroy(address) => {
                    self.0.remove(address);
                }
            }
        }
    }

    fn root(&self) -> B256 {
        state_root_unhashed(self.0.iter().map(|(address, (info, storage))| {
            let storage_root = storage_root_unhashed(storage.clone());
            (*address, TrieAccount::new(info.nonce, info.balance, storage_root, info.code_hash))
        }))
    }

    fn diff(&self, after: &Self) -> StateDiff {
        let mut diff = StateDiff::default();
        let empty = BTreeMap::new();
        for address in self.0.keys().chain(after.0.keys()) {
            let (before, after) = (self.0.get(address), after.0.get(address));
            if before == after {
                continue;
            }
            let old = before.map_or(&empty, |(_, storage)| storage);
            let new = after.map_or(&empty, |(_, storage)| storage);
            let value =
                |storage: &BTreeMap<_, _>, slot| storage.get(slot).copied().unwrap_or(U256::ZERO);
            let storage = old
                .keys()
                .chain(new.keys())
                .map(|slot| (*slot, SlotDiff { before: value(old, slot), after: value(new, slot) }))
                .filter(|(_, values)| values.before != values.after)
                .collect();
            let info = |account: Option<&(AccountInfo, _)>| account.map(|(info, _)| *info);
            diff.accounts.insert(
                *address,
                AccountDiff { before: info(before), after: info(after), storage },
            );
        }
        diff
    }

    fn spec(&self) -> ChainSpec {
        let alloc = self.0.iter().map(|(address, (info, storage))| {
            let storage = storage.iter().map(|(slot, value)| (*slot, (*value).into())).collect();
            let account = GenesisAccount {
                nonce: Some(info.nonce),
                balance: info.balance,
                storage: Some(storage),
                ..GenesisAccount::default()
            };
            (*address, account)
        });
        ChainSpec::new(Genesis { alloc: alloc.collect(), ..Genesis::default() })
            .expect("a plain genesis is valid")
    }
}

fn address() -> impl Strategy<Value = Address> {
    (0u8..6).prop_map(Address::repeat_byte)
}

fn change() -> impl Strategy<Value = Change> {
    let slot = (0u8..5).prop_map(B256::with_last_byte);
    let value = prop_oneof![
        2 => Just(U256::ZERO),
        2 => (1u64..300).prop_map(U256::from),
        1 => Just(U256::MAX),
    ];
    prop_oneof![
        2 => (address(), any::<u64>()).prop_map(|(address, value)| Change::Account(address, value)),
        4 => (address(), slot, value)
            .prop_map(|(address, slot, value)| Change::Slot(address, slot, value)),
        1 => address().prop_map(Change::Destroy),
    ]
}

/// The changes of one block after another.
fn blocks() -> impl Strategy<Value = Vec<Vec<Change>>> {
    prop::collection::vec(prop::collection::vec(change(), 0..8), 1..16)
}

/// A store with the states of all its blocks.
struct Chain {
    store: Store,
    states: Vec<Model>,
    diffs: Vec<StateDiff>,
}

impl Chain {
    fn new(path: &Path, config: &StoreConfig, genesis: Model) -> Self {
        let store = open(path, config, &genesis).expect("the store opens");
        Self { store, states: vec![genesis], diffs: vec![StateDiff::default()] }
    }

    fn state(&self) -> &Model {
        self.states.last().expect("there is a genesis")
    }

    fn push(&mut self, changes: &[Change]) {
        self.push_with(changes, Vec::new());
    }

    fn push_with(&mut self, changes: &[Change], transactions: Vec<Arc<RecoveredTx>>) {
        let mut state = self.state().clone();
        state.apply(changes);
        let diff = self.state().diff(&state);
        let update = self.store.root(&diff).expect("the root is computed");
        assert_eq!(update.root, state.root(), "block {}", self.states.len());
        let block = block(&self.store.head(), update.root, transactions);
        self.store.commit(block, &diff, update).expect("the block is written");
        self.states.push(state);
        self.diffs.push(diff);
    }

    /// A batch's state diffs, over so many blocks.
    fn jump(&mut self, blocks: u64, changes: &[Change]) {
        let mut state = self.state().clone();
        state.apply(changes);
        let diff = self.state().diff(&state);
        let update = self.store.root(&diff).expect("the root is computed");
        let head = self.store.head();
        let number = head.number + blocks;
        let header = Header { number, state_root: update.root, ..Header::default() };
        let digest = B256::with_last_byte(number as u8);
        self.store.jump(header.seal_slow(), &diff, update, digest).expect("it is written");
        self.states.push(state);
        self.diffs.push(diff);
    }

    fn reopened(self, path: &Path, config: &StoreConfig) -> Self {
        let Self { store, states, diffs } = self;
        drop(store);
        Self { store: open(path, config, &states[0]).expect("the store opens"), states, diffs }
    }

    fn check_block(&self, number: u64) {
        let state = &self.states[number as usize];
        let at = BlockSelector::Number(number);
        let view = self.store.view(at).expect("the state is kept");
        check_view(&view, state);
        for address in (0..7).map(Address::repeat_byte) {
            check_proof(&self.store, state, address, at);
        }
    }
}

fn open(path: &Path, config: &StoreConfig, genesis: &Model) -> Result<Store, StoreError> {
    Store::open(path, config, &genesis.spec())
}

fn block(
    parent: &SealedHeader,
    state_root: B256,
    transactions: Vec<Arc<RecoveredTx>>,
) -> Arc<ExecutedBlock> {
    let header = Header {
        number: parent.number + 1,
        parent_hash: parent.seal(),
        state_root,
        ..Header::default()
    };
    Arc::new(ExecutedBlock { header: header.seal_slow(), transactions, receipts: Vec::new() })
}

fn check_view(view: &StateView, state: &Model) {
    check_names(view, state);
    for address in (0..7).map(Address::repeat_byte) {
        let account = state.0.get(&address);
        assert_eq!(
            view.account(address).expect("it reads"),
            account.map(|(info, _)| *info),
            "account {address} in block {}",
            view.header().number
        );
        for slot in (0..6).map(B256::with_last_byte) {
            assert_eq!(
                view.storage(address, slot).expect("it reads"),
                slot_of(state, address, slot),
                "slot {slot} of {address} in block {}",
                view.header().number
            );
        }
    }
}

/// Each beginning, of few bits and of many, is that of the only account that has it in the model, if there is only one.
fn check_names(view: &StateView, state: &Model) {
    for bits in 1..=9 {
        let prefix = |address| AddressPrefix::of(address, bits);
        let prefixes: Vec<_> = (0..7).map(Address::repeat_byte).map(prefix).collect();
        let expected: Vec<_> =
            prefixes.iter().map(|prefix| prefix.only_of(state.0.keys())).collect();
        let found = view.find_accounts(&prefixes).expect("it reads");
        assert_eq!(found, expected, "{prefixes:?} in block {}", view.header().number);
    }
}

fn slot_of(state: &Model, address: Address, slot: B256) -> U256 {
    let storage = state.0.get(&address).map(|(_, storage)| storage);
    storage.and_then(|storage| storage.get(&slot)).copied().unwrap_or_default()
}

/// Checks presence and absence against the header, the way a client does.
fn check_proof(store: &Store, state: &Model, address: Address, at: BlockSelector) {
    let slots: Vec<_> = (0..6).map(B256::with_last_byte).collect();
    let header = store.header(at).expect("it reads").expect("the block is there");
    let proof = store.proof(address, &slots, at).expect("the state is kept");
    let account = state
        .0
        .contains_key(&address)
        .then(|| TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash));
    let (info, _) = state.0.get(&address).cloned().unwrap_or_default();
    assert_eq!((proof.nonce, proof.balance), (info.nonce, info.balance));
    if account.is_none() {
        assert_eq!(proof.storage_hash, EMPTY_ROOT_HASH);
    }
    let key = Nibbles::unpack(keccak256(address));
    verify_proof(header.state_root, key, account.map(rlp::encode), &proof.account_proof)
        .expect("the account proof holds");
    assert_eq!(proof.storage_proof.len(), slots.len());
    for (slot, entry) in slots.iter().zip(&proof.storage_proof) {
        let value = slot_of(state, address, *slot);
        assert_eq!((entry.key.as_b256(), entry.value), (*slot, value));
        let expected = (!value.is_zero()).then(|| rlp::encode(value));
        let key = Nibbles::unpack(keccak256(slot));
        verify_proof(proof.storage_hash, key, expected, &entry.proof)
            .expect("the storage proof holds");
    }
}

/// What a table holds.
fn entries(db: &db::Db, table: table::Table) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut iter = db.reader().iter(table);
    iter.seek_to_first();
    let mut entries = BTreeMap::new();
    while let Some((key, value)) = iter.item() {
        entries.insert(key.to_vec(), value.to_vec());
        iter.next();
    }
    iter.status().expect("the table reads");
    entries
}

/// Small memory budgets, so that tests are light.
fn small() -> StoreConfig {
    StoreConfig {
        cache_bytes: 8 << 20,
        write_buffer_bytes: 4 << 20,
        history_blocks: None,
        ..StoreConfig::default()
    }
}
