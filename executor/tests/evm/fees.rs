//! Who gets what.

use alloy::{
    consensus::Transaction,
    primitives::{Address, U256},
};

use crate::{
    chain::Chain,
    support::{
        ETHER, FEE_RECIPIENT,
        contracts::{self, STORE},
        spec,
        wallet::Wallet,
        word,
    },
};

#[test]
fn on_a_rollup_the_fee_recipient_gets_all_that_senders_pay() {
    let mut chain = Chain::new(spec("prague", true, &contracts::all()));
    let (a, b) = (Wallet::new(0), Wallet::new(1));
    let supply = |chain: &Chain| {
        [a.address(), b.address(), STORE, FEE_RECIPIENT]
            .into_iter()
            .map(|address| chain.balance(address))
            .sum::<U256>()
    };
    let before = supply(&chain);
    let transactions = [
        a.transfer(0, b.address(), ETHER),
        a.legacy(1, b.address(), ETHER),
        b.send(0, STORE, 0, 100_000, &word(1)),
        b.send(1, STORE, 0, 100_000, &word(0)),
    ];
    let block = chain.block(&transactions);
    let base_fee = block.block.header.base_fee_per_gas.expect("after London");
    let fees: U256 = (0..4)
        .map(|index| {
            let price = transactions[index].tx().effective_gas_price(Some(base_fee));
            U256::from(price) * U256::from(block.included(index).0)
        })
        .sum();
    assert!(base_fee > 0 && !fees.is_zero());
    assert_eq!(chain.balance(FEE_RECIPIENT), fees);
    assert_eq!(supply(&chain), before);
}

#[test]
fn on_ethereum_the_base_fee_is_burnt() {
    let mut chain = Chain::new(spec("prague", false, &[]));
    let a = Wallet::new(0);
    let tx = a.transfer(0, Address::repeat_byte(1), 5);
    let block = chain.block(std::slice::from_ref(&tx));
    let base_fee = block.block.header.base_fee_per_gas.expect("after London");
    let tip = tx.tx().effective_tip_per_gas(base_fee).expect("it pays the base fee");
    assert_eq!(chain.balance(FEE_RECIPIENT), U256::from(tip * 21_000));
    let paid = tx.tx().effective_gas_price(Some(base_fee)) * 21_000 + 5;
    assert_eq!(chain.balance(a.address()), U256::from(1000 * ETHER - paid));
}

#[test]
fn the_fee_recipient_can_send_and_receive() {
    // The wallet with this index is made the fee recipient.
    let (a, recipient) = (Wallet::new(0), Wallet::new(1));
    let mut genesis = spec("prague", true, &[]).genesis().clone();
    genesis.config.extra_fields.insert(
        "millrace".to_owned(),
        serde_json::json!({ "feeRecipient": recipient.address(), "gasLimit": 30_000_000 }),
    );
    let spec = millrace_proto::ChainSpec::new(genesis).expect("a valid genesis");
    let mut chain = Chain::new(spec.into());
    chain.block(&[
        a.transfer(0, recipient.address(), ETHER),
        recipient.transfer(0, a.address(), 2 * ETHER),
    ]);
    // Its own fees came back to it; a paid the rest.
    let total = chain.balance(a.address()) + chain.balance(recipient.address());
    assert_eq!(total, U256::from(2000 * ETHER));
    assert!(chain.balance(recipient.address()) > U256::from(999 * ETHER));
}

#[test]
fn blob_gas_is_paid_burnt_and_counted() {
    let mut chain = Chain::new(spec("prague", false, &[]));
    let a = Wallet::new(0);
    let to = Address::repeat_byte(1);
    let block = chain.block(&[a.blobs(0, to, 5), a.blobs(1, to, 5), a.blobs(1, to, 4)]);
    assert!(block.included(0).1);
    assert_eq!(block.outcomes[1], millrace_proto::TxOutcome::NoRoom);
    assert!(block.included(2).1);
    let header = &block.block.header;
    assert_eq!(header.blob_gas_used, Some(9 * 131_072));
    assert_eq!(header.excess_blob_gas, Some(0));
    // Prague's target is 6 blobs, so 3 are in excess.
    let next = chain.block(&[]);
    assert_eq!(next.block.header.excess_blob_gas, Some(3 * 131_072));
    assert_eq!(next.block.header.blob_gas_used, Some(0));
    let block = chain.block(&[a.blobs(2, to, 10)]);
    assert_eq!(block.rejected(0), "INVALID");
}
