//! Block access lists: what is in them, and how blocks are executed by them.

use std::{num::NonZeroUsize, sync::Arc};

use alloy::{
    eips::{
        eip2935::HISTORY_STORAGE_ADDRESS,
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
        eip7928::{
            AccountChanges, BlockAccessIndex, BlockAccessList, SlotChanges, StorageChange,
            validate_block_access_list,
        },
    },
    primitives::{Address, U256, address, hex},
};
use millrace_executor::{AccessListError, BlockExecutor, WorkerPool};
use millrace_proto::TxOutcome;

use crate::{
    chain::{Block, Chain},
    support::{
        FEE_RECIPIENT, contracts, deposit, spec,
        wallet::{TIP, Wallet},
        word,
    },
};

const NOBODY: Address = address!("00000000000000000000000000000000000b0001");

fn pool() -> Arc<WorkerPool> {
    let threads = NonZeroUsize::new(3).expect("there is a thread");
    Arc::new(WorkerPool::disturbed(threads, 7).expect("threads start"))
}

fn of(list: &BlockAccessList, address: Address) -> &AccountChanges {
    list.iter().find(|account| account.address == address).expect("it is in the list")
}

fn index(index: u64) -> BlockAccessIndex {
    BlockAccessIndex::new(index)
}

#[test]
fn a_list_says_what_each_transaction_reads_and_changes() {
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let mut chain = Chain::new(spec("prague", false, &contracts::all()));
    let before = chain.balance(a.address());
    let block = chain.block(&[
        a.send(0, contracts::STORE, 0, 100_000, &word(5)),
        // It is not in the block, and takes no index.
        b.transfer(9, NOBODY, 1),
        b.transfer(0, NOBODY, 3),
        a.send(1, contracts::STORE, 0, 100_000, &word(5)),
        b.send(1, contracts::STORE, 0, 100_000, &word(6)),
    ]);
    let list = block.output.access_list.as_ref().expect("it was asked for");
    validate_block_access_list(list, 4).expect("it has EIP-7928's form");

    let change = |at, value| StorageChange::new(index(at), U256::from(value));
    let slot = SlotChanges::new(U256::ZERO, vec![change(1, 5), change(4, 6)]);
    let store = AccountChanges::new(contracts::STORE).with_storage_change(slot);
    assert_eq!(*of(list, contracts::STORE), store);

    let sender = of(list, a.address());
    let nonces = sender.nonce_changes.iter().map(|change| change.block_access_index.get());
    assert_eq!(nonces.collect::<Vec<_>>(), [1, 3]);
    assert_eq!(sender.balance_changes.len(), 2);
    assert!(sender.balance_changes[0].post_balance < before);
    assert_eq!(sender.balance_changes[1].post_balance, chain.balance(a.address()));

    let paid = &of(list, NOBODY).balance_changes;
    let paid: Vec<_> = paid.iter().map(|c| (c.block_access_index.get(), c.post_balance)).collect();
    assert_eq!(paid, [(2, U256::from(3))]);

    let fees = of(list, FEE_RECIPIENT);
    let fees: Vec<_> = fees.balance_changes.iter().map(|c| c.block_access_index.get()).collect();
    assert_eq!(fees, [1, 2, 3, 4]);
    let (gas, _) = block.included(2);
    let step = of(list, FEE_RECIPIENT).balance_changes[1].post_balance
        - of(list, FEE_RECIPIENT).balance_changes[0].post_balance;
    assert_eq!(step, U256::from(u128::from(gas) * TIP));
}

#[test]
fn what_is_read_is_listed_also_where_it_fails() {
    let a = Wallet::new(0);
    let mut chain = Chain::new(spec("prague", false, &contracts::all()));
    let block = chain.block(&[a.send(0, contracts::NESTED, 0, 40_000, &word(5))]);
    let list = block.output.access_list.as_ref().expect("it was asked for");
    assert!(!block.included(0).1, "there is gas enough");
    assert!(list.iter().any(|account| account.address == contracts::STORE), "{list:?}");
    assert!(!of(list, contracts::STORE).has_changes());
}

#[test]
fn system_calls_come_before_the_first_transaction() {
    let mut code = contracts::all();
    // SSTORE(NUMBER, CALLDATALOAD(0))
    code.push((HISTORY_STORAGE_ADDRESS, vec![0x5f, 0x35, 0x43, 0x55].into()));
    let mut chain = Chain::new(spec("prague", false, &code));
    let parent = chain.head.seal();
    let block = chain.block(&[]);
    let list = block.output.access_list.as_ref().expect("it was asked for");
    let value = StorageChange::new(index(0), parent.into());
    let slot = SlotChanges::new(U256::from(1), vec![value]);
    let expected = AccountChanges::new(HISTORY_STORAGE_ADDRESS).with_storage_change(slot);
    assert_eq!(*list, [expected]);
}

/// The system's calls at a block's end share an index. The first sets a slot of its contract; in the second the code then runs once more,
/// and does `again`.
fn two_calls_at_the_end(again: &[u8]) -> AccountChanges {
    // With call data: `again`; without: SSTORE(0, 1)
    let first = [&hex!("36600a576001600055005b")[..], again].concat();
    let call = hex!("60006000600160006000 73");
    let address = WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
    let second = [&call[..], address.as_slice(), &hex!("5af100")].concat();
    let code = [(address, first.into()), (CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, second.into())];
    let mut chain = Chain::new(spec("prague", false, &code));
    let block = chain.block(&[]);
    of(block.output.access_list.as_ref().expect("it was asked for"), address).clone()
}

#[test]
fn of_two_system_calls_at_one_index_what_they_come_to_is_listed() {
    let read = two_calls_at_the_end(&hex!("60005400"));
    let value = StorageChange::new(index(1), U256::ONE);
    let slot = SlotChanges::new(U256::ZERO, vec![value]);
    let address = WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
    assert_eq!(read, AccountChanges::new(address).with_storage_change(slot));
    let set_back = two_calls_at_the_end(&hex!("6000600055 00"));
    assert_eq!(set_back, AccountChanges::new(address).with_storage_read(U256::ZERO));
}

/// A block with deposits, one of which fails, transfers and calls; not applied to the chain.
fn block() -> (Chain, Block) {
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let chain = Chain::new(spec("prague", true, &contracts::all()));
    let transactions = [
        deposit(0, a.address(), NOBODY, 7, 100_000, &[]),
        deposit(1, NOBODY, contracts::STORE, 5, 20_000, &[]),
        a.send(1, contracts::STORE, 0, 100_000, &word(5)),
        b.transfer(0, NOBODY, 3),
        b.send(1, contracts::STORE, 0, 100_000, &word(6)),
        b.create(2, &contracts::deploy(&[0])),
    ];
    let block = Chain::new(chain.spec.clone()).block(&transactions);
    (chain, block)
}

/// Executes the block by a list that was changed.
fn refused(change: impl FnOnce(&mut BlockAccessList)) -> AccessListError {
    let (chain, mut block) = block();
    change(block.output.access_list.as_mut().expect("it was asked for"));
    let plan = chain.plan(2);
    let listed = chain.listed(&plan, &block.output, &pool());
    let result = listed.and_then(|mut listed| listed.execute());
    result.expect_err("the list is not that of the block")
}

fn find(list: &mut BlockAccessList, address: Address) -> &mut AccountChanges {
    list.iter_mut().find(|account| account.address == address).expect("it is in the list")
}

#[test]
fn a_list_that_is_not_the_blocks_is_refused() {
    let wrong = refused(|list| find(list, NOBODY).balance_changes[0].post_balance += U256::ONE);
    assert!(matches!(wrong, AccessListError::Change { index: 1, address: NOBODY, .. }), "{wrong}");
    assert!(wrong.to_string().contains("the balance of"), "{wrong}");

    let wrong = refused(|list| list.retain(|account| account.address != contracts::STORE));
    let missing = matches!(
        wrong,
        AccessListError::NotListed { index: 3, address: contracts::STORE, slot: None }
    );
    assert!(missing, "{wrong}");

    let wrong = refused(|list| find(list, contracts::STORE).storage_changes.clear());
    assert!(matches!(wrong, AccessListError::NotListed { slot: Some(U256::ZERO), .. }), "{wrong}");

    let wrong = refused(|list| find(list, contracts::STORE).storage_reads.push(U256::from(77)));
    assert!(matches!(wrong, AccessListError::NotRead { slot: Some(_), .. }), "{wrong}");

    let stranger = address!("ffffffffffffffffffffffffffffffffffffff01");
    let wrong = refused(|list| list.push(AccountChanges::new(stranger)));
    assert!(matches!(wrong, AccessListError::NotRead { slot: None, .. }), "{wrong}");

    let more = StorageChange::new(index(6), U256::from(9));
    let wrong = refused(|list| find(list, contracts::STORE).storage_changes[0].changes.push(more));
    assert!(matches!(wrong, AccessListError::NotMade { listed: 3, made: 2, .. }), "{wrong}");

    let created = |list: &mut BlockAccessList| {
        let of = |account: &AccountChanges| !account.code_changes.is_empty();
        let account = list.iter_mut().find(|account| of(account)).expect("one has code");
        account.code_changes[0].new_code = vec![1].into();
    };
    let wrong = refused(created);
    assert!(wrong.to_string().contains("the code hash of"), "{wrong}");

    let wrong = refused(|list| list.reverse());
    assert!(matches!(wrong, AccessListError::Malformed(_)), "{wrong}");

    let wrong = refused(|list| find(list, FEE_RECIPIENT).balance_changes.truncate(1));
    assert!(matches!(wrong, AccessListError::Change { address: FEE_RECIPIENT, .. }), "{wrong}");
}

#[test]
fn a_transaction_that_cannot_be_in_the_block_is_named() {
    let (chain, mut block) = block();
    block.output.transactions.swap(3, 4);
    let plan = chain.plan(2);
    let listed = chain.listed(&plan, &block.output, &pool());
    let error = listed.and_then(|mut listed| listed.execute()).expect_err("a nonce is too high");
    let tx = block.output.transactions[3].hash();
    let named = matches!(
        &error,
        AccessListError::NotIncludable { hash, outcome }
            if *hash == tx && matches!(**outcome, TxOutcome::Invalid(_))
    );
    assert!(named, "{error}");
}

#[test]
fn accounts_that_exist_and_are_empty_have_no_place_in_a_list() {
    let empty = address!("00000000000000000000000000000000000c0001");
    let mut chain = Chain::new(spec("prague", false, &contracts::all()));
    chain.state.set_account(empty, Some(Default::default()));
    let transactions = [Wallet::new(0).transfer(0, empty, 0)];
    let plan = chain.plan(0).with_access_list();
    let state = Arc::new(chain.state.clone());
    let mut block = BlockExecutor::open(&plan, state, chain.codes.clone()).expect("it opens");
    block.execute(&transactions[0]).expect("the state reads");
    let output = block.finish().expect("the state reads");
    let mut listed = chain.listed(&plan, &output, &pool()).expect("the list is well-formed");
    let error = listed.execute().expect_err("what becomes of it is not in the list");
    assert!(matches!(error, AccessListError::Unsupported), "{error}");
    let error = listed.finish().expect_err("it was not executed");
    assert!(matches!(error, AccessListError::NotExecuted), "{error}");
}
