//! Senders and hashes of many transactions at once are those of each alone.

use alloy::{
    consensus::{
        EthereumTxEnvelope, EthereumTypedTransaction, SignableTransaction, TxEip1559, TxEip2930,
        TxEip4844, TxEip7702, TxLegacy,
    },
    eips::{Encodable2718, eip7702::Authorization},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use millrace_proto::{RecoveredTx, TxEnvelope};
use op_alloy_consensus::TxDeposit;

type Typed = EthereumTypedTransaction<TxEip4844>;

/// n.
const ORDER: U256 = alloy::primitives::uint!(
    0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256
);

fn key(index: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(index + 1)).expect("a valid key")
}

/// One of each type, of lengths that lie apart.
fn unsigned(nonce: u64) -> Vec<Typed> {
    let input = Bytes::from(vec![nonce as u8; nonce as usize * 40]);
    let to = Address::repeat_byte(7);
    let kind = TxKind::Call(to);
    let authorization = Authorization { chain_id: U256::from(5), address: to, nonce };
    let signature = key(9).sign_hash_sync(&authorization.signature_hash()).expect("in memory");
    vec![
        TxLegacy { nonce, input: input.clone(), to: kind, ..TxLegacy::default() }.into(),
        TxLegacy { nonce, chain_id: Some(5), to: kind, ..TxLegacy::default() }.into(),
        TxEip2930 { nonce, chain_id: 5, to: kind, ..TxEip2930::default() }.into(),
        TxEip1559 { nonce, chain_id: 5, input: input.clone(), ..TxEip1559::default() }.into(),
        Typed::Eip4844(TxEip4844 { nonce, chain_id: 5, to, ..TxEip4844::default() }),
        TxEip7702 {
            nonce,
            chain_id: 5,
            to,
            input,
            authorization_list: vec![authorization.into_signed(signature)],
            ..TxEip7702::default()
        }
        .into(),
    ]
}

fn with(tx: Typed, signature: Signature) -> Bytes {
    let tx: EthereumTxEnvelope<TxEip4844> = tx.into_envelope(signature);
    TxEnvelope::from(tx).encoded_2718().into()
}

/// Good transactions, and between them such as have no sender or are none.
fn raw() -> Vec<Bytes> {
    let mut all = Vec::new();
    for nonce in 0..60 {
        for tx in unsigned(nonce) {
            let good =
                key(nonce as u8 % 5).sign_hash_sync(&tx.signature_hash()).expect("in memory");
            let (r, s, odd) = (good.r(), good.s(), good.v());
            all.push(with(tx.clone(), good));
            let bad = match nonce % 8 {
                // The other signature by the same key, which EIP-2 forbids.
                0 => with(tx, Signature::new(r, ORDER - s, !odd)),
                1 => with(tx, Signature::new(ORDER, s, odd)),
                2 => with(tx, Signature::new(r, U256::ZERO, odd)),
                // Half of these are no point's x.
                3 => with(tx, Signature::new(r ^ U256::from(nonce), s, odd)),
                4 => [with(tx, good).as_ref(), &[0]].concat().into(),
                5 => with(tx, good).slice(..40),
                6 => TxEnvelope::from(TxDeposit {
                    from: Address::repeat_byte(3),
                    ..TxDeposit::default()
                })
                .encoded_2718()
                .into(),
                _ => Bytes::from(vec![0xff; 3]),
            };
            all.push(bad);
        }
    }
    all
}

#[test]
fn many_at_once_are_as_each_alone() {
    let raw = raw();
    let mut refused = 0;
    for count in [0, 1, 2, 3, 7, 100, raw.len()] {
        let some = &raw[raw.len() - count..];
        let batch = RecoveredTx::decode_batch(some.to_vec());
        assert_eq!(batch.len(), count);
        for (raw, found) in some.iter().zip(batch) {
            match (RecoveredTx::decode(raw.clone()), found) {
                (Ok(alone), Ok(found)) => {
                    assert_eq!(found, alone);
                    assert_eq!(found.hash(), keccak256(found.encoded()));
                    assert_eq!(found.encoded(), raw);
                }
                (Err(alone), Err(found)) => {
                    assert_eq!(found.to_string(), alone.to_string());
                    refused += 1;
                }
                (alone, found) => panic!("{alone:?}, in a batch {found:?}"),
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn senders_are_those_that_signed() {
    let (mut txs, mut signers) = (Vec::new(), Vec::new());
    for nonce in 0..20 {
        for tx in unsigned(nonce) {
            let key = key(nonce as u8);
            let signature = key.sign_hash_sync(&tx.signature_hash()).expect("in memory");
            signers.push(key.address());
            txs.push(TxEnvelope::from(tx.into_envelope(signature)));
        }
    }
    let recovered = RecoveredTx::recover_all(txs.clone()).expect("signed");
    assert_eq!(recovered.len(), signers.len());
    for (tx, signer) in recovered.into_iter().zip(signers) {
        assert_eq!(tx.sender(), signer);
        assert_eq!(tx.hash(), keccak256(tx.tx().encoded_2718()));
        assert_eq!(*tx.encoded(), tx.tx().encoded_2718());
    }
    // The first that nobody signed is named.
    let nobody = Signature::new(U256::MAX, U256::ONE, false);
    for index in [70, 11] {
        let bad = TxLegacy { nonce: index as u64, ..TxLegacy::default() }.into_signed(nobody);
        txs[index] = TxEnvelope::Legacy(bad);
        let unsigned = RecoveredTx::recover_all(txs.clone()).expect_err("nobody signed it");
        assert_eq!((unsigned.index, unsigned.hash), (index, txs[index].hash()));
    }
}
