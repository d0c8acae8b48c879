//! The senders that this process has recovered lately: a transaction that comes again, as in a batch that is derived from L1, is not recovered twice. Whoever sent a
//! transaction follows from its bytes alone, so it does not matter who recovered it.

use std::sync::LazyLock;

use alloy::{
    consensus::transaction::TxHashRef,
    primitives::{Address, Bytes, TxHash},
};
use quick_cache::sync::Cache;

use super::tx::{DecodeTxError, RecoveredTx, TxEnvelope};

/// Some ten seconds of a chain under full load, and 40 MB.
const KEPT: usize = 1 << 19;

static SENDERS: LazyLock<Cache<TxHash, Address>> = LazyLock::new(|| Cache::new(KEPT));

/// [`RecoveredTx::recover_encoded_batch`] of those that this did not recover lately. Hashes are those of the canonical encodings.
pub(super) fn recover_once(
    txs: Vec<(TxEnvelope, Bytes)>,
) -> Vec<Result<RecoveredTx, DecodeTxError>> {
    let mut new = Vec::new();
    let known: Vec<Option<RecoveredTx>> = txs
        .into_iter()
        .map(|(tx, encoded)| match SENDERS.get(tx.tx_hash()) {
            Some(sender) => Some(RecoveredTx::joined(tx, sender, encoded)),
            None => {
                new.push((tx, encoded));
                None
            }
        })
        .collect();
    let mut recovered = RecoveredTx::recover_encoded_batch(new).into_iter().inspect(|tx| {
        if let Ok(tx) = tx {
            SENDERS.insert(tx.hash(), tx.sender());
        }
    });
    known.into_iter().filter_map(|known| known.map(Ok).or_else(|| recovered.next())).collect()
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction, TxEip1559},
        eips::Encodable2718,
        network::TxSignerSync,
        primitives::U256,
        signers::local::PrivateKeySigner,
    };

    use super::*;

    fn signed(nonce: u64) -> (TxEnvelope, Bytes) {
        let signer = PrivateKeySigner::from_slice(&[7; 32]).expect("a key");
        let mut tx = TxEip1559 { nonce, value: U256::from(nonce), ..TxEip1559::default() };
        let signature = signer.sign_transaction_sync(&mut tx).expect("signed");
        let tx = TxEnvelope::Eip1559(tx.into_signed(signature));
        let encoded = tx.encoded_2718().into();
        (tx, encoded)
    }

    #[test]
    fn what_was_recovered_is_known_and_the_rest_is_recovered_in_its_place() {
        let some: Vec<_> = (100..110).map(signed).collect();
        let first = recover_once(some.clone());
        let all: Vec<_> = (95..115).map(signed).collect();
        let known = |tx: &TxEnvelope| SENDERS.get(tx.tx_hash()).is_some();
        assert_eq!(all.iter().filter(|(tx, _)| known(tx)).count(), some.len());
        let again = recover_once(all.clone());
        let expected = RecoveredTx::recover_encoded_batch(all);
        let good = |txs: Vec<Result<RecoveredTx, DecodeTxError>>| -> Vec<RecoveredTx> {
            txs.into_iter().map(|tx| tx.expect("it recovers")).collect()
        };
        let (first, again, expected) = (good(first), good(again), good(expected));
        assert_eq!(again, expected);
        assert_eq!(first, expected[5..15]);
    }

    /// Another signature is another transaction.
    #[test]
    fn a_changed_signature_is_recovered_anew() {
        let (tx, encoded) = signed(7);
        let sender = recover_once(vec![(tx.clone(), encoded)]).remove(0).expect("signed").sender();
        let TxEnvelope::Eip1559(tx) = tx else { panic!("{tx:?}") };
        let (tx, signature, _) = tx.into_parts();
        // The other point with the same x: somebody else's key.
        let other = signature.with_parity(!signature.v());
        let tx = TxEnvelope::Eip1559(tx.into_signed(other));
        let encoded = tx.encoded_2718().into();
        let other = recover_once(vec![(tx, encoded)]).remove(0).expect("signed");
        assert_ne!(other.sender(), sender);
    }
}
