//! The senders that this process has recovered lately: a transaction that comes again, as in a batch that is derived from L1, is not recovered twice. Whoever sent a
//! transaction follows from its bytes alone, so it does not matter who recovered it.

use std::sync::LazyLock;

use alloy::{
    consensus::{crypto::RecoveryError, transaction::TxHashRef},
    primitives::{Address, Bytes, TxHash},
};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, UnitWeighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{
    recover::recover_signers,
    tx::{DecodeTxError, RecoveredTx, TxEnvelope},
};

/// Some twenty seconds of a chain under full load, and 80 MB once it was.
const KEPT: usize = 1 << 20;

/// First in, first out, nearly: each is asked for once, when its batch comes. What was asked for has no place of its own.
static SENDERS: LazyLock<Cache<TxHash, Address>> = LazyLock::new(|| {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(KEPT)
        .weight_capacity(KEPT as u64)
        .hot_allocation(0.0)
        .ghost_allocation(0.0)
        .build()
        .expect("both capacities are given");
    let (weighter, hasher) = (UnitWeighter, DefaultHashBuilder::default());
    Cache::with_options(options, weighter, hasher, DefaultLifecycle::default())
});

/// [`RecoveredTx::recover_encoded_batch`] of those that this did not recover lately. Hashes are those of the canonical encodings.
pub(super) fn recover_once(
    txs: Vec<(TxEnvelope, Bytes)>,
) -> impl Iterator<Item = Result<RecoveredTx, DecodeTxError>> {
    let known: Vec<_> = txs.iter().map(|(tx, _)| SENDERS.get(tx.tx_hash())).collect();
    let new = txs.iter().zip(&known).filter(|(_, known)| known.is_none());
    let mut recovered = recover_signers(new.map(|((tx, _), _)| tx)).into_iter();
    txs.into_iter().zip(known).map(move |((tx, encoded), known)| {
        let sender = match known {
            Some(sender) => sender,
            None => {
                let sender = recovered.next().unwrap_or_else(|| Err(RecoveryError::new()));
                let sender = sender.map_err(DecodeTxError::Signature)?;
                SENDERS.insert(tx.hash(), sender);
                sender
            }
        };
        Ok(RecoveredTx::joined(tx, sender, encoded))
    })
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

    fn only(txs: Vec<(TxEnvelope, Bytes)>) -> RecoveredTx {
        recover_once(txs).next().expect("one").expect("signed")
    }

    #[test]
    fn what_was_recovered_is_known_and_the_rest_is_recovered_in_its_place() {
        let some: Vec<_> = (100..110).map(signed).collect();
        let first = recover_once(some.clone()).collect();
        let all: Vec<_> = (95..115).map(signed).collect();
        let known = |tx: &TxEnvelope| SENDERS.get(tx.tx_hash()).is_some();
        assert_eq!(all.iter().filter(|(tx, _)| known(tx)).count(), some.len());
        let again = recover_once(all.clone()).collect();
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
        let sender = only(vec![(tx.clone(), encoded)]).sender();
        let TxEnvelope::Eip1559(tx) = tx else { panic!("{tx:?}") };
        let (tx, signature, _) = tx.into_parts();
        // The other point with the same x: somebody else's key.
        let other = signature.with_parity(!signature.v());
        let tx = TxEnvelope::Eip1559(tx.into_signed(other));
        let encoded = tx.encoded_2718().into();
        let other = only(vec![(tx, encoded)]);
        assert_ne!(other.sender(), sender);
    }
}
