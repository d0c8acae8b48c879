//! Accounts that are destroyed, and made again.

use alloy::primitives::{Address, B256, U256, hex};
use millrace_executor::StateReader;
use millrace_proto::AccountInfo;

use crate::{
    chain::Chain,
    support::{
        ETHER,
        contracts::{self, FACTORY, created_by_factory, mortal},
        spec,
        wallet::Wallet,
    },
};

fn slots(chain: &Chain, address: Address) -> Vec<(U256, U256)> {
    let mut slots = chain.state.storage_of(address).expect("memory reads");
    slots.sort();
    slots
}

#[test]
fn what_is_created_and_destroyed_in_one_transaction_never_was() {
    for fork in ["shanghai", "prague"] {
        let mut chain = Chain::new(spec(fork, fork != "shanghai", &[]));
        let a = Wallet::new(0);
        // sstore(0, 1), then selfdestruct to the caller, in the init code.
        let block = chain.block(&[
            a.send(0, alloy::primitives::TxKind::Create, 7, 200_000, &hex!("600160005533ff")),
            a.transfer(1, a.address().create(0), 5),
        ]);
        assert!(block.included(0).1);
        let account = chain.account(a.address().create(0)).expect("value was sent after");
        assert_eq!((account.balance, account.nonce), (U256::from(5), 0));
        assert!(slots(&chain, a.address().create(0)).is_empty());
    }
}

#[test]
fn before_cancun_a_contract_can_be_destroyed_and_made_again_in_a_block() {
    let mut chain = Chain::new(spec("shanghai", false, &contracts::all()));
    let a = Wallet::new(0);
    let child = created_by_factory(&mortal());
    let create = |nonce| a.send(nonce, FACTORY, 0, 500_000, &mortal());
    let destroy = |nonce| a.send(nonce, child, 0, 100_000, &[]);

    let block = chain.block(&[create(0)]);
    assert!(block.included(0).1);
    let one = U256::from(1);
    assert_eq!(slots(&chain, child), [(U256::ZERO, one), (one, one)]);

    // Destroyed, made again, destroyed, made again: only the last life is left, with none of the first one's slots.
    let block = chain.block(&[destroy(1), create(2), destroy(3), create(4)]);
    assert!((0..4).all(|index| block.included(index).1));
    let two = U256::from(2);
    assert_eq!(slots(&chain, child), [(U256::ZERO, two), (two, one)]);
    let diff = &block.output.diff.accounts[&child];
    let changes: Vec<_> =
        diff.storage.iter().map(|(slot, diff)| (*slot, diff.before, diff.after)).collect();
    let key = |slot: u64| B256::from(U256::from(slot));
    assert_eq!(changes, [(key(0), one, two), (key(1), one, U256::ZERO), (key(2), U256::ZERO, one)]);

    // Destroyed for good: every slot is in the diff although the block read none.
    let block = chain.block(&[destroy(5), a.transfer(6, child, ETHER)]);
    let diff = &block.output.diff.accounts[&child];
    assert!(diff.storage.values().all(|slot| slot.after.is_zero()));
    assert_eq!(diff.storage.len(), 2);
    assert!(slots(&chain, child).is_empty());
    let account = chain.account(child).expect("it was paid after");
    assert_eq!((account.balance, account.nonce), (U256::from(ETHER), 0));

    let block = chain.block(&[create(7), destroy(8)]);
    assert_eq!(block.output.diff.accounts[&child].after, None);
    assert_eq!(chain.account(child), None);
}

#[test]
fn since_cancun_an_older_contract_only_loses_its_balance() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let a = Wallet::new(0);
    let child = created_by_factory(&mortal());
    chain.block(&[a.send(0, FACTORY, 9, 500_000, &mortal())]);
    assert_eq!(chain.balance(child), U256::from(9));
    let before = chain.account(child).expect("it exists");
    chain.block(&[a.send(1, child, 0, 100_000, &[])]);
    let after = chain.account(child).expect("it still exists");
    assert_eq!(after.balance, U256::ZERO);
    assert_eq!((after.nonce, after.code_hash), (before.nonce, before.code_hash));
    assert_eq!(slots(&chain, child).len(), 2);
}

#[test]
fn an_empty_account_goes_when_it_is_touched() {
    let mut chain = Chain::new(spec("prague", true, &[]));
    let a = Wallet::new(0);
    let empty = [0x77, 0x78].map(Address::repeat_byte);
    for address in empty {
        chain.state.set_account(address, Some(AccountInfo::default()));
    }
    // Lists are refused where empty accounts are.
    chain.by_list = false;
    // One by the EVM, as there is data, and one by a plain transfer.
    let block = chain.block(&[a.send(0, empty[0], 0, 100_000, &[1]), a.transfer(1, empty[1], 0)]);
    for address in empty {
        let diff = &block.output.diff.accounts[&address];
        assert_eq!((diff.before, diff.after), (Some(AccountInfo::default()), None));
        assert_eq!(chain.account(address), None);
    }
}
