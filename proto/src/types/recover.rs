//! The senders and the hashes of transactions, one at a time and many.

use alloy::{
    consensus::crypto::{InvalidSignatureS, RecoveryError, SECP256K1N_HALF},
    eips::Encodable2718,
    primitives::{Address, B256, Signature},
};
use millrace_crypto::{keccak256_batch, recover, recover_batch};

use super::tx::TxEnvelope;

/// Recovers the address that signed `prehash`. With `low_s`, refuses an `s` above half the curve order (EIP-2).
pub(crate) fn recover_signer(
    signature: &Signature,
    prehash: B256,
    low_s: bool,
) -> Result<Address, RecoveryError> {
    if low_s && signature.s() > SECP256K1N_HALF {
        return Err(high_s());
    }
    recover(signature, prehash).map_err(RecoveryError::from_source)
}

/// Who sent each transaction; refuses signatures with a high `s` (EIP-2).
pub(crate) fn recover_signers<'a>(
    txs: impl Iterator<Item = &'a TxEnvelope> + Clone,
) -> Vec<Result<Address, RecoveryError>> {
    let mut signed = Joined::default();
    let mut signatures = Vec::new();
    for tx in txs.clone() {
        if let Some(signature) = low(tx) {
            signatures.push(signature);
            signed.push(|out| tx.encode_for_signing(out));
        }
    }
    let signatures: Vec<_> = signatures.into_iter().zip(signed.hashes()).collect();
    let mut signers = recover_batch(&signatures).into_iter();
    txs.map(|tx| match (tx, low(tx)) {
        (TxEnvelope::Deposit(deposit), _) => Ok(deposit.inner().from),
        (_, None) => Err(high_s()),
        (_, Some(_)) => match signers.next() {
            Some(signer) => signer.map_err(RecoveryError::from_source),
            None => Err(RecoveryError::new()),
        },
    })
    .collect()
}

/// The hash of each transaction, by its canonical encoding.
pub(crate) fn hashes<'a>(txs: impl Iterator<Item = &'a TxEnvelope>) -> Vec<B256> {
    let mut encoded = Joined::default();
    txs.for_each(|tx| encoded.push(|out| tx.encode_2718(out)));
    encoded.hashes()
}

/// The signature of a transaction that has one, with an `s` that EIP-2 allows.
fn low(tx: &TxEnvelope) -> Option<Signature> {
    tx.signature().filter(|signature| signature.s() <= SECP256K1N_HALF).copied()
}

fn high_s() -> RecoveryError {
    RecoveryError::from_source(InvalidSignatureS)
}

/// Byte strings, one after the other.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Joined {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn hashes(&self) -> Vec<B256> {
        let mut start = 0;
        let parts: Vec<&[u8]> = self
            .ends
            .iter()
            .map(|end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
            .collect();
        keccak256_batch(&parts)
    }
}
