//! ECDSA public key recovery with libsecp256k1.

use alloy::{
    consensus::crypto::{RecoveryError, SECP256K1N_HALF},
    primitives::{Address, B256, Signature, keccak256},
};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// Recovers the address that signed `prehash`. With `low_s`, refuses an `s` above half the curve order (EIP-2).
pub(crate) fn recover_signer(
    signature: &Signature,
    prehash: B256,
    low_s: bool,
) -> Result<Address, RecoveryError> {
    if low_s && signature.s() > SECP256K1N_HALF {
        return Err(RecoveryError::from_source(alloy::consensus::crypto::InvalidSignatureS));
    }
    let mut rs = [0u8; 64];
    rs[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    rs[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let id = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let recoverable =
        RecoverableSignature::from_compact(&rs, id).map_err(RecoveryError::from_source)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(prehash.0), &recoverable)
        .map_err(RecoveryError::from_source)?;
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    Ok(Address::from_slice(&hash[12..]))
}
