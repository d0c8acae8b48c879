//! Ordinary transactions of every type, and every way to refuse one.

use alloy::{
    consensus::{TxEip1559, TxReceipt},
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
};
use millrace_executor::StateReader;
use millrace_proto::{RejectReason, TxEnvelope, TxOutcome};

use crate::{
    chain::Chain,
    support::{
        CHAIN_ID, ETHER,
        contracts::{self, LOG, LOOP, REVERT, STORE, deploy},
        spec,
        wallet::{MAX_FEE, Wallet},
        word,
    },
};

fn chain() -> Chain {
    Chain::new(spec("prague", true, &contracts::all()))
}

#[test]
fn transfers_move_value_and_charge_gas() {
    let mut chain = chain();
    let (a, b) = (Wallet::new(0), Address::repeat_byte(0xbb));
    let block = chain.block(&[a.transfer(0, b, 5 * ETHER), a.legacy(1, b, ETHER)]);
    assert_eq!(block.included(0), (21_000, true));
    assert_eq!(block.included(1), (21_000, true));
    assert_eq!(chain.balance(b), U256::from(6 * ETHER));
    assert_eq!(chain.account(a.address()).expect("it exists").nonce, 2);
    assert_eq!(block.block.header.gas_used, 42_000);
    let cumulative: Vec<u64> =
        block.block.receipts.iter().map(TxReceipt::cumulative_gas_used).collect();
    assert_eq!(cumulative, [21_000, 42_000]);
    let diff = &block.output.diff.accounts[&b];
    assert_eq!(diff.before, None);
    assert_eq!(diff.after.expect("it exists").balance, U256::from(6 * ETHER));
}

#[test]
fn a_creation_deploys_code_that_later_blocks_run() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let runtime = alloy::primitives::hex!("60003560005500");
    let created = a.address().create(0);
    let block =
        chain.block(&[a.create(0, &deploy(&runtime)), a.send(1, created, 0, 100_000, &word(7))]);
    assert!(block.included(0).1 && block.included(1).1);
    let account = chain.account(created).expect("it was created");
    assert_eq!((account.nonce, account.code_hash), (1, keccak256(runtime)));
    // The same code is in the genesis already, so it appears nowhere for the first time.
    assert!(block.output.diff.code.is_empty());
    assert_eq!(chain.slot(created, 0), U256::from(7));

    let other = alloy::primitives::hex!("6001600055");
    let block = chain.block(&[a.create(2, &deploy(&other))]);
    assert_eq!(block.output.diff.code[&keccak256(other)], Bytes::from(other));
    chain.block(&[a.send(3, a.address().create(2), 0, 100_000, &[])]);
    assert_eq!(chain.slot(a.address().create(2), 0), U256::from(1));
}

#[test]
fn reverts_and_halts_leave_receipts_and_no_state() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let block = chain
        .block(&[a.send(0, REVERT, ETHER, 100_000, b"no"), a.send(1, LOOP, ETHER, 50_000, &[])]);
    let (gas, success) = block.included(0);
    assert!(!success && gas < 100_000);
    assert_eq!(block.included(1), (50_000, false));
    assert_eq!(chain.balance(REVERT), U256::ZERO);
    assert_eq!(chain.account(a.address()).expect("it exists").nonce, 2);
}

#[test]
fn logs_reach_receipt_and_bloom() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let block = chain.block(&[a.send(0, LOG, 0, 100_000, &word(99))]);
    let logs = &block.block.receipts[0].logs;
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].address, LOG);
    assert_eq!(logs[0].topics(), [B256::from(U256::from(99))]);
    assert_eq!(block.block.header.logs_bloom, block.block.receipts[0].bloom());
    assert!(!block.block.header.logs_bloom.is_zero());
}

#[test]
fn access_lists_warm_slots() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let block =
        chain.block(&[a.send(0, STORE, 0, 100_000, &[]), a.with_access_list(1, STORE, B256::ZERO)]);
    // 2400 and 1900 more for naming address and slot, 2100 less because the slot is warm.
    assert_eq!(block.included(0).0 + 2400 + 1900 - 2100, block.included(1).0);
}

#[test]
fn a_delegated_account_runs_the_code_in_its_own_storage() {
    let mut chain = chain();
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let block = chain.block(&[
        // Delegates b, and calls it in the same transaction.
        a.set_code(0, b.address(), &word(3), vec![b.authorize(0, STORE)]),
        a.send(1, b.address(), 0, 100_000, &word(4)),
        // b itself still sends; its nonce was used by the authorization.
        b.transfer(1, a.address(), 1),
    ]);
    assert!((0..3).all(|index| block.included(index).1));
    assert_eq!(chain.slot(b.address(), 0), U256::from(4));
    assert_eq!(chain.slot(STORE, 0), U256::ZERO);
    let account = chain.account(b.address()).expect("it exists");
    assert_eq!(account.nonce, 2);
    let designator = [&[0xef, 0x01, 0x00][..], STORE.as_slice()].concat();
    assert_eq!(account.code_hash, keccak256(&designator));
    assert_eq!(block.output.diff.code[&account.code_hash], Bytes::from(designator));

    // Delegating to another contract in a later block runs that one; to zero takes the code away.
    let block = chain.block(&[
        a.set_code(2, b.address(), &word(5), vec![b.authorize(2, LOG)]),
        a.set_code(3, b.address(), &word(6), vec![b.authorize(3, Address::ZERO)]),
    ]);
    assert_eq!(block.block.receipts[0].logs.len(), 1);
    assert_eq!(block.block.receipts[1].logs.len(), 0);
    assert_eq!(chain.slot(b.address(), 0), U256::from(4));
    assert_eq!(
        chain.account(b.address()).expect("it exists").code_hash,
        alloy::primitives::KECCAK256_EMPTY
    );
}

#[test]
fn an_account_can_authorize_itself() {
    let mut chain = chain();
    let a = Wallet::new(0);
    // The sender's nonce counts up before the authorization is looked at.
    let block = chain.block(&[a.set_code(0, a.address(), &word(9), vec![a.authorize(1, STORE)])]);
    assert!(block.included(0).1);
    assert_eq!(chain.slot(a.address(), 0), U256::from(9));
    assert_eq!(chain.account(a.address()).expect("it exists").nonce, 2);
}

#[test]
fn each_way_to_be_invalid_has_its_reason() {
    let mut chain = chain();
    let (a, poor) = (Wallet::new(0), Wallet::new(77));
    let b = Address::repeat_byte(0xbb);
    let with = |change: fn(&mut TxEip1559)| {
        let mut tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: 1,
            gas_limit: 21_000,
            max_fee_per_gas: MAX_FEE,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(b),
            ..Default::default()
        };
        change(&mut tx);
        a.sign(tx, TxEnvelope::Eip1559)
    };
    let cases = [
        (a.transfer(0, b, 1), ""),
        (a.transfer(0, b, 2), "NONCE_TOO_LOW"),
        (a.transfer(2, b, 2), "NONCE_TOO_FAR"),
        (a.transfer(1, b, 2000 * ETHER), "INSUFFICIENT_FUNDS"),
        (poor.transfer(0, b, 1), "INSUFFICIENT_FUNDS"),
        (with(|tx| tx.max_fee_per_gas = 1), "FEE_BELOW_FLOOR"),
        (with(|tx| tx.max_priority_fee_per_gas = MAX_FEE + 1), "TIP_ABOVE_MAX_FEE"),
        (with(|tx| tx.gas_limit = 20_999), "INTRINSIC_GAS"),
        (with(|tx| tx.gas_limit = 30_000_001), "GAS_OVER_LIMIT"),
        (with(|tx| tx.chain_id = 1), "WRONG_CHAIN_ID"),
        (
            with(|tx| {
                tx.to = TxKind::Create;
                tx.gas_limit = 10_000_000;
                tx.input = vec![0; 49_153].into();
            }),
            "INIT_CODE_TOO_LARGE",
        ),
        // EIP-7623: the floor of 40 gas a non-zero byte is above the ordinary cost.
        (
            with(|tx| {
                tx.input = vec![1; 1000].into();
                tx.gas_limit = 21_000 + 16_000;
            }),
            "INTRINSIC_GAS",
        ),
        (a.set_code(1, b, &[], vec![]), "INVALID"),
        (a.blobs(1, b, 1), "UNSUPPORTED_TYPE"),
        (a.transfer(1, b, 1), ""),
    ];
    let transactions: Vec<_> = cases.iter().map(|(tx, _)| tx.clone()).collect();
    let block = chain.block(&transactions);
    for (index, (_, reason)) in cases.iter().enumerate() {
        match reason.is_empty() {
            true => assert!(block.included(index).1),
            false => assert_eq!(block.rejected(index), *reason, "case {index}"),
        }
    }
    assert_eq!(block.block.transactions.len(), 2);
    assert_eq!(chain.balance(b), U256::from(2));
    assert_eq!(
        block.outcomes[1],
        TxOutcome::Invalid(RejectReason::NonceTooLow { got: 0, expected: 1 })
    );
}

#[test]
fn a_contract_cannot_send() {
    // The sender's account has code (a key whose address holds a contract).
    let sender = Wallet::new(50);
    let mut chain =
        Chain::new(spec("prague", true, &[(sender.address(), Bytes::from_static(&[0x00]))]));
    let block = chain.block(&[sender.transfer(1, Address::ZERO, 0)]);
    assert_eq!(block.rejected(0), "SENDER_IS_CONTRACT");
}

#[test]
fn what_does_not_fit_is_handed_back() {
    let mut chain = chain();
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let block = chain.block(&[
        a.send(0, LOOP, 0, 29_990_000, &[]),
        b.transfer(0, a.address(), 1),
        b.send(0, LOOP, 0, 10_000, &[]),
        b.send(0, LOOP, 0, 30_000_001, &[]),
    ]);
    assert_eq!(block.included(0), (29_990_000, false));
    assert_eq!(block.outcomes[1], TxOutcome::NoRoom);
    assert_eq!(block.rejected(2), "INTRINSIC_GAS");
    assert_eq!(block.rejected(3), "GAS_OVER_LIMIT");
    assert_eq!(block.block.header.gas_used, 29_990_000);
    // It fits into the next block as it is.
    assert!(chain.block(&[b.transfer(0, a.address(), 1)]).included(0).1);
}

#[test]
fn osaka_caps_a_transactions_gas() {
    let mut chain = Chain::new(spec("osaka", true, &[]));
    let a = Wallet::new(0);
    let block = chain.block(&[
        a.send(0, Address::ZERO, 0, (1 << 24) + 1, &[]),
        a.send(0, Address::ZERO, 0, 1 << 24, &[]),
    ]);
    assert_eq!(block.rejected(0), "GAS_OVER_LIMIT");
    assert!(block.included(1).1);
}

#[test]
fn empty_accounts_do_not_come_to_be() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let nobody = Address::repeat_byte(0xcc);
    let block = chain.block(&[a.transfer(0, nobody, 0)]);
    assert!(block.included(0).1);
    assert!(!block.output.diff.accounts.contains_key(&nobody));
    assert_eq!(chain.account(nobody), None);
}

#[test]
fn a_slot_that_returns_to_its_value_is_no_change() {
    let mut chain = chain();
    let a = Wallet::new(0);
    let block = chain
        .block(&[a.send(0, STORE, 0, 100_000, &word(1)), a.send(1, STORE, 0, 100_000, &word(0))]);
    assert!(!block.output.diff.accounts.contains_key(&STORE));
    assert!(chain.state.storage_of(STORE).expect("memory reads").is_empty());
}

#[test]
fn old_code_that_begins_like_a_delegation_is_read_back_as_code() {
    let old = Address::repeat_byte(0xee);
    for code in [&[0xef, 0x01][..], &[0xef, 0x01, 0x00], &[0xef; 23]] {
        let code = [(old, code.to_vec().into())];
        let mut chain = Chain::new(spec("osaka", true, &code));
        let block = chain.block(&[Wallet::new(0).send(0, old, 0, 50_000, &[])]);
        // 0xef is no instruction.
        assert_eq!(block.included(0), (50_000, false));
    }
}
