//! Deposits (type `0x7E`).

use std::sync::Arc;

use alloy::primitives::{Address, U256};
use millrace_executor::{BlockExecutor, BlockPlan, ExecutionError, PlanError};
use millrace_proto::{BlockAttributes, QueueMark, TxType};

use crate::{
    chain::{Chain, mark},
    support::{
        ETHER, FEE_RECIPIENT,
        contracts::{self, LOOP, REVERT, STORE},
        deposit, spec,
        wallet::Wallet,
        word,
    },
};

fn chain() -> Chain {
    Chain::new(spec("prague", true, &contracts::all()))
}

#[test]
fn a_deposit_mints_and_transfers() {
    let mut chain = chain();
    let from = Address::repeat_byte(0xd0);
    let to = Address::repeat_byte(0xd1);
    let block = chain.block(&[deposit(0, from, to, 3 * ETHER, 100_000, &[])]);
    assert_eq!(block.included(0), (21_000, true));
    assert_eq!(block.block.receipts[0].tx_type, TxType::Deposit);
    assert_eq!(chain.balance(to), U256::from(3 * ETHER));
    let sender = chain.account(from).expect("its nonce counts");
    assert_eq!((sender.balance, sender.nonce), (U256::ZERO, 1));
    // Nobody pays for it, so nobody earns from it.
    assert_eq!(chain.account(FEE_RECIPIENT), None);
    assert_eq!(QueueMark::of(&block.block.header), Some(mark(1)));
}

#[test]
fn a_failing_deposit_still_mints_and_is_included() {
    let mut chain = chain();
    let from = Address::repeat_byte(0xd0);
    let block = chain.block(&[
        deposit(0, from, REVERT, ETHER, 100_000, b"no"),
        deposit(1, from, LOOP, ETHER, 60_000, &[]),
        // Below the intrinsic cost: the call cannot even start.
        deposit(2, from, STORE, ETHER, 20_000, &word(1)),
    ]);
    for index in 0..3 {
        assert!(!block.included(index).1);
        assert!(!block.block.receipts[index].success);
    }
    assert_eq!(block.included(1).0, 60_000);
    assert_eq!(block.included(2).0, 20_000);
    let sender = chain.account(from).expect("it exists");
    assert_eq!((sender.balance, sender.nonce), (U256::from(3 * ETHER), 3));
    assert_eq!(chain.balance(REVERT), U256::ZERO);
    assert_eq!(block.block.header.gas_used, block.block.receipts[2].cumulative_gas_used);
}

#[test]
fn a_deposit_can_call_a_contract_and_come_from_one() {
    let mut chain = chain();
    // The sender's own code and nonce do not matter.
    let block = chain.block(&[deposit(0, LOOP, STORE, 0, 100_000, &word(5))]);
    assert!(block.included(0).1);
    assert_eq!(chain.slot(STORE, 0), U256::from(5));
    assert_eq!(chain.account(LOOP).expect("it exists").nonce, 2);
}

#[test]
fn deposits_count_against_the_gas_limit_but_are_never_left_out() {
    let mut chain = chain();
    let (from, a) = (Address::repeat_byte(0xd0), Wallet::new(0));
    let block = chain.block(&[
        deposit(0, from, LOOP, 0, 20_000_000, &[]),
        deposit(1, from, LOOP, 0, 20_000_000, &[]),
        a.transfer(0, from, 1),
    ]);
    assert_eq!(block.included(1), (20_000_000, false));
    assert_eq!(block.outcomes[2], millrace_proto::TxOutcome::NoRoom);
    assert_eq!(block.block.header.gas_used, 40_000_000);
}

#[test]
fn the_cap_on_a_transactions_gas_is_not_for_deposits() {
    let mut chain = Chain::new(spec("osaka", true, &contracts::all()));
    let block = chain.block(&[deposit(0, Address::repeat_byte(0xd0), LOOP, 0, 20_000_000, &[])]);
    assert_eq!(block.included(0), (20_000_000, false));
}

#[test]
fn deposits_come_first() {
    let chain = chain();
    let a = Wallet::new(0);
    let plan = chain.plan(1);
    let mut executor = BlockExecutor::open(&plan, &chain.state, Arc::default()).expect("it opens");
    executor.execute(&a.transfer(0, a.address(), 1)).expect("it executes");
    let late = executor.execute(&deposit(0, a.address(), a.address(), 0, 100_000, &[]));
    assert!(matches!(late, Err(ExecutionError::NotIncludable { .. })), "{late:?}");
}

#[test]
fn a_chain_that_is_no_rollup_takes_none() {
    let mut chain = Chain::new(spec("prague", false, &[]));
    let a = Wallet::new(0);
    let block = chain.block(&[deposit(0, a.address(), a.address(), 5, 100_000, &[])]);
    assert_eq!(block.rejected(0), "UNSUPPORTED_TYPE");
}

#[test]
fn the_attributes_say_how_many_there_are() {
    let mut chain = chain();
    let from = Address::repeat_byte(0xd0);
    let plan = chain.plan(1);
    let mut executor = BlockExecutor::open(&plan, &chain.state, Arc::default()).expect("it opens");
    for index in 0..2 {
        executor.execute(&deposit(index, from, from, 1, 100_000, &[])).expect("it executes");
    }
    let output = executor.finish().expect("it finishes");
    assert_eq!(plan.check(&output), Err(PlanError::Queued { held: 2, consumed: 1 }));

    chain.block(&[deposit(0, from, from, 1, 100_000, &[])]);
    let plan = |change: &dyn Fn(&mut BlockAttributes)| {
        let mut attributes = chain.attributes(0);
        change(&mut attributes);
        BlockPlan::new(chain.spec.clone(), &chain.head, attributes).map(drop)
    };
    assert_eq!(plan(&|_| ()), Ok(()));
    let back = mark(0).extra_data();
    let error = plan(&|attributes| attributes.extra_data = back.clone());
    assert_eq!(error, Err(PlanError::DepositsEnd { got: 0, parent: 1 }));
    let error = plan(&|attributes| attributes.parent_beacon_block_root.0[0] ^= 1);
    assert_eq!(error, Err(PlanError::Field("parent beacon block root")), "nothing is consumed");
    let error = plan(&|attributes| attributes.extra_data = Default::default());
    assert!(matches!(error, Err(PlanError::NotRollupExtra(_))));
    let error = plan(&|attributes| attributes.gas_limit += 1);
    assert_eq!(error, Err(PlanError::Field("gas limit")));
    let error = plan(&|attributes| attributes.timestamp -= 2);
    assert!(matches!(error, Err(PlanError::Timestamp { .. })));
    let error = plan(&|attributes| attributes.number += 1);
    assert!(matches!(error, Err(PlanError::Number { .. })));
    let error = plan(&|attributes| attributes.parent_hash.0[0] ^= 1);
    assert!(matches!(error, Err(PlanError::Parent { .. })));
    let error = plan(&|attributes| attributes.extra_data = vec![0; 33].into());
    assert_eq!(error, Err(PlanError::ExtraData(33)));
}
