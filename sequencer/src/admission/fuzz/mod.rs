//! What any bytes are held to that come as transactions. `sequencer/fuzz` runs it, and a test over its seeds and what is near them.
//!
//! The first byte says by which rules they are checked. The rest is cut into transactions, each behind its length as two bytes, little endian.

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use alloy::{
    consensus::crypto::SECP256K1N_HALF,
    eips::Encodable2718,
    primitives::{Address, Bytes, TxHash, keccak256},
};
use millrace_proto::{BatchPayload, ChainSpec, DataPrice, RecoveredTx, RejectReason, TxEnvelope};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::{
    Submitted,
    check::{Checker, Known, most_cost},
};
use crate::{
    data_fee::{DataFeeConfig, DataFees},
    pool::Asked,
};

/// The chain that transactions are for.
const CHAIN_ID: u64 = 5;

/// The checks: of a chain with all forks, of one where data costs something and transactions are small, of one with the least forks.
static CHECKERS: LazyLock<[Checker; 3]> = LazyLock::new(|| {
    let all = r#", "pragueTime": 0, "osakaTime": 0"#;
    let (free, dear) = (DataPrice::default(), DataPrice(1_000_000_000));
    [
        checker(all, 128 * 1024, 0, free),
        checker(all, 1024, 7, dear),
        checker("", 128 * 1024, 0, free),
    ]
});

fn checker(forks: &str, max_bytes: usize, base_fee: u64, price: DataPrice) -> Checker {
    let genesis = format!(
        r#"{{ "config": {{ "chainId": {CHAIN_ID}, "berlinBlock": 0, "londonBlock": 0, "shanghaiTime": 0, "cancunTime": 0{forks},
                            "terminalTotalDifficulty": 0, "millrace": {{ "gasLimit": 30000000 }} }},
              "difficulty": "0x0", "gasLimit": "0x1c9c380", "alloc": {{}} }}"#
    );
    let spec = ChainSpec::from_json(genesis.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let fees = DataFees::new(&DataFeeConfig { scalar_percent: 100 }, BatchPayload::Transactions);
    fees.see(price);
    let checker = Checker::new(Arc::new(spec), max_bytes, 1, Arc::new(EmptyPool), Arc::new(fees));
    checker.set_next_block(9, 1_700_000_000, base_fee);
    checker
}

/// Nothing is known, and there is room for all.
#[derive(Debug)]
struct EmptyPool;

impl Known for EmptyPool {
    fn is_known(&self, _: TxHash) -> bool {
        false
    }

    fn holds(&self, _: TxHash) -> bool {
        false
    }

    fn has_room_for(&self, _: Asked) -> Result<(), RejectReason> {
        Ok(())
    }
}

/// Admits the transactions that the bytes are. What became of each: the reason why it is refused, if it is.
///
/// What is admitted encodes to the bytes that came, has their hash, and the sender that libsecp256k1 finds; and those that come together are
/// admitted as those that come alone.
///
/// # Panics
/// When it is not so.
pub fn any_transactions(bytes: &[u8]) -> Vec<Result<(), RejectReason>> {
    let Some((rules, mut rest)) = bytes.split_first() else { return Vec::new() };
    let checker = &CHECKERS[usize::from(*rules) % CHECKERS.len()];
    let mut raw = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (tx, later) = after.split_at(length);
        raw.push(Bytes::copy_from_slice(tx));
        rest = later;
    }
    let submitted = |raw: &Bytes| Submitted { raw: raw.clone(), source: None };
    let checked = checker.check(raw.iter().map(submitted).collect(), rules & 0x80 != 0);
    assert_eq!(checked.len(), raw.len());
    for (raw, checked) in raw.iter().zip(&checked) {
        let alone = checker.check(vec![submitted(raw)], false);
        assert_eq!(&alone, std::slice::from_ref(checked));
        let decoded = RecoveredTx::decode(raw.clone());
        match checked {
            Ok(tx) => {
                assert_eq!(decoded.ok().as_ref(), Some(&**tx));
                holds(raw, tx);
            }
            Err(RejectReason::BadEncoding { .. } | RejectReason::BadSignature { .. }) => {
                assert!(decoded.is_err(), "{checked:?}, and yet it is {decoded:?}");
            }
            Err(_) => {}
        }
    }
    checked.into_iter().map(|checked| checked.map(drop)).collect()
}

fn holds(raw: &Bytes, tx: &RecoveredTx) {
    assert_eq!(tx.encoded(), raw);
    assert_eq!(&Bytes::from(tx.tx().encoded_2718()), raw, "it encodes to other bytes");
    assert_eq!(tx.hash(), keccak256(raw));
    assert_eq!(Some(tx.sender()), signer(tx.tx()));
    assert!(tx.batch_bytes() >= raw.len());
    let _ = most_cost(tx.tx());
}

/// The sender, as libsecp256k1 finds it.
fn signer(tx: &TxEnvelope) -> Option<Address> {
    let signature = tx.signature()?;
    assert!(signature.s() <= SECP256K1N_HALF, "EIP-2");
    let bytes = signature.as_bytes();
    let parity = RecoveryId::try_from(i32::from(signature.v())).ok()?;
    let signature = RecoverableSignature::from_compact(&bytes[..64], parity).ok()?;
    let message = Message::from_digest(tx.signature_hash().0);
    let key = SECP256K1.recover_ecdsa(message, &signature).ok()?;
    Some(Address::from_raw_public_key(&key.serialize_uncompressed()[1..]))
}
