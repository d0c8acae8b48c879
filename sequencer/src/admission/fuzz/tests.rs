//! The seeds of `sequencer/fuzz`, and what is near them.

use std::path::PathBuf;

use alloy::{
    consensus::{
        EthereumTxEnvelope, EthereumTypedTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702,
        TxLegacy,
    },
    eips::eip7702::Authorization,
    primitives::{B256, Signature, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use millrace_proto::TxDeposit;

use super::*;

#[path = "../../../../proto/fuzz/mutations.rs"]
mod mutations;

use self::mutations::{keep, near, seeds};

type Typed = EthereumTypedTransaction<TxEip4844>;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/transaction")
}

fn sign(tx: impl Into<Typed>, change: impl Fn(Signature) -> Signature) -> Vec<u8> {
    use alloy::consensus::SignableTransaction;
    let tx = tx.into();
    let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("a key");
    let signature = key.sign_hash_sync(&tx.signature_hash()).expect("in memory");
    let tx: EthereumTxEnvelope<TxEip4844> = tx.into_envelope(change(signature));
    TxEnvelope::from(tx).encoded_2718()
}

/// Each by what it is: the reason why it is refused by the rules of all forks, or `OK`.
fn transactions() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let to = TxKind::Call(Address::repeat_byte(0xb0));
    let fee = 1_000_000_000;
    let (chain_id, value, gas) = (CHAIN_ID, U256::from(10).pow(U256::from(18)), 100_000);
    let legacy = TxLegacy {
        chain_id: Some(chain_id),
        nonce: 1,
        gas_price: fee,
        gas_limit: gas,
        to,
        value,
        input: vec![1, 2, 3].into(),
    };
    let list = vec![alloy::eips::eip2930::AccessListItem {
        address: Address::repeat_byte(1),
        storage_keys: vec![B256::ZERO, B256::repeat_byte(1)],
    }];
    let berlin = TxEip2930 {
        chain_id,
        nonce: 300,
        gas_price: fee,
        gas_limit: gas,
        to: TxKind::Create,
        input: vec![0; 40].into(),
        access_list: list.clone().into(),
        ..TxEip2930::default()
    };
    let london = TxEip1559 {
        chain_id,
        gas_limit: 21_000,
        max_fee_per_gas: fee,
        max_priority_fee_per_gas: fee,
        to,
        value,
        ..TxEip1559::default()
    };
    let blob = TxEip4844 {
        chain_id,
        blob_versioned_hashes: vec![B256::repeat_byte(1)],
        ..TxEip4844::default()
    };
    let code = Authorization { chain_id: U256::ZERO, address: Address::ZERO, nonce: 2 };
    let prague = TxEip7702 {
        chain_id,
        gas_limit: gas,
        max_fee_per_gas: fee,
        to: Address::repeat_byte(2),
        access_list: list.into(),
        authorization_list: vec![code.into_signed(Signature::test_signature())],
        ..TxEip7702::default()
    };
    let as_it_is = |signature| signature;
    let order = SECP256K1N_HALF * U256::from(2) + U256::ONE;
    let high =
        |signature: Signature| Signature::new(signature.r(), order - signature.s(), !signature.v());
    let deposit = TxEnvelope::from(TxDeposit { mint: 5, ..TxDeposit::default() });
    vec![
        ("legacy", "OK", sign(legacy.clone(), as_it_is)),
        (
            "unprotected",
            "UNPROTECTED",
            sign(TxLegacy { chain_id: None, ..legacy.clone() }, as_it_is),
        ),
        ("other-chain", "WRONG_CHAIN_ID", sign(TxLegacy { chain_id: Some(6), ..legacy }, as_it_is)),
        ("eip2930", "OK", sign(berlin, as_it_is)),
        ("eip1559", "OK", sign(london.clone(), as_it_is)),
        ("high-s", "BAD_SIGNATURE", sign(london.clone(), high)),
        (
            "no-s",
            "BAD_SIGNATURE",
            sign(london, |signature| Signature::new(signature.r(), U256::ZERO, true)),
        ),
        ("eip4844", "UNSUPPORTED_TYPE", sign(Typed::Eip4844(blob), as_it_is)),
        ("eip7702", "OK", sign(prague, as_it_is)),
        ("deposit", "UNSUPPORTED_TYPE", deposit.encoded_2718()),
    ]
}

fn submission(rules: u8, transactions: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![rules];
    for tx in transactions {
        bytes.extend(u16::try_from(tx.len()).expect("short").to_le_bytes());
        bytes.extend(*tx);
    }
    bytes
}

#[test]
fn the_seeds_are_transactions_of_all_types() {
    let transactions = transactions();
    let mut made = Vec::new();
    for (name, code, raw) in &transactions {
        let bytes = submission(0, &[raw]);
        let results = any_transactions(&bytes);
        let got = results[0].as_ref().map_or_else(RejectReason::code, |()| "OK");
        assert_eq!(got, *code, "{name}");
        made.push(((*name).to_owned(), bytes));
    }
    let all: Vec<&[u8]> = transactions.iter().map(|(_, _, raw)| raw.as_slice()).collect();
    for rules in 0..3 {
        made.push((format!("all-{rules}"), submission(rules, &all)));
    }
    keep(&folder(), made);
}

#[test]
fn any_bytes_as_transactions_are_admitted_as_they_are_or_refused() {
    for bytes in near(seeds(&folder()), 5_000) {
        any_transactions(&bytes);
    }
}
