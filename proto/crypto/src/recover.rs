//! Recovering signers.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use rayon::prelude::*;
use secp256k1::{
    Message, SECP256K1,
    constants::CURVE_ORDER,
    ecdsa::{RecoverableSignature, RecoveryId},
};

#[cfg(target_arch = "x86_64")]
use crate::lanes::Avx512;
use crate::{
    counters,
    engine::{RecoverPath, engine},
    keccak::hash_all,
    lanes::{LANES, Lanes, There},
    secp::{self, Input, Key},
};

/// The group's order n.
pub(crate) const ORDER: U256 = U256::from_be_bytes(CURVE_ORDER);

/// Most signatures that are recovered with the same inversions.
const BATCH: usize = 32 * LANES;
/// Fewer signatures than this are recovered one by one.
const LEAST: usize = 3;
/// Least signatures that a thread is given in lanes where there are more than a batch: with fewer the inversions cost more than they save.
const LEAST_ON_THREAD: usize = 8 * LANES;
/// From how many signatures on several threads are used where there are no lanes.
const SINGLY: usize = 64;

/// A public key: its x and its y, each of 32 big-endian bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 64]);

impl PublicKey {
    /// The address of the key's account: the last 20 bytes of the Keccak-256 hash of the key.
    pub fn address(&self) -> Address {
        address(keccak256(self.0))
    }
}

/// Why a signature has no signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// r or s is zero, or not below the group's order.
    #[error("the signature's r and s have to be from 1 to the group's order less 1")]
    OutOfRange,
    /// No point of the curve has r for its x, or the signature's equation gives the point at infinity.
    #[error("no key can have made this signature")]
    NoKey,
}

/// Recovers the address that signed each message hash. Gives what libsecp256k1 gives, also for an s above n / 2, which EIP-2 forbids
/// in transactions: that is for the caller to refuse.
///
/// More than a batch, which is 256 signatures in lanes, are recovered on rayon's threads.
pub fn recover_batch(signatures: &[(Signature, B256)]) -> Vec<Result<Address, RecoverError>> {
    addresses(&recover_keys(signatures))
}

pub(crate) fn addresses(
    keys: &[Result<PublicKey, RecoverError>],
) -> Vec<Result<Address, RecoverError>> {
    let found: Vec<&[u8]> = keys.iter().flatten().map(|key| key.0.as_slice()).collect();
    let mut addresses = hash_all(&found).into_iter().map(address);
    keys.iter()
        .map(|key| key.map(|key| addresses.next().unwrap_or_else(|| key.address())))
        .collect()
}

/// Recovers the key that signed each message hash: [`recover_batch`] with the keys.
pub fn recover_keys(signatures: &[(Signature, B256)]) -> Vec<Result<PublicKey, RecoverError>> {
    #[cfg(target_arch = "x86_64")]
    if engine().recover == RecoverPath::Avx512Ifma
        && let Some(there) = There::<Avx512>::detect()
    {
        return on_threads(signatures, LEAST_ON_THREAD..=BATCH, |signatures| {
            recover_in_lanes(there, signatures)
        });
    }
    on_threads(signatures, LANES..=SINGLY, recover_singly)
}

type Keys = Vec<Result<PublicKey, RecoverError>>;

/// More signatures than the most of a batch are shared out to rayon's threads, at least its least to each; fewer are recovered here.
fn on_threads(
    signatures: &[(Signature, B256)],
    batch: RangeInclusive<usize>,
    recover: impl Fn(&[(Signature, B256)]) -> Keys + Send + Sync,
) -> Keys {
    let (least, most) = batch.into_inner();
    if signatures.len() <= most {
        return recover(signatures);
    }
    // About as many for each thread, in whole lanes.
    let threads = rayon::current_num_threads();
    let rounds = signatures.len().div_ceil(most * threads);
    let each = signatures.len().div_ceil(rounds * threads).next_multiple_of(LANES);
    let keys: Vec<Keys> = signatures.par_chunks(each.clamp(least, most)).map(recover).collect();
    keys.concat()
}

fn recover_singly(signatures: &[(Signature, B256)]) -> Keys {
    let tried = signatures.iter().filter(|(signature, _)| in_range(signature)).count();
    counters::RECOVERED_SINGLY.add(tried);
    signatures.iter().map(|(signature, hash)| recover_key(signature, *hash)).collect()
}

/// Makes now what recovering in lanes needs and would make at its first use: some 30 milliseconds' work. Nothing where there are no lanes.
pub fn prepare() {
    if engine().recover != RecoverPath::Scalar {
        secp::prepare();
    }
}

/// Recovers the address that signed one message hash.
///
/// # Errors
/// When there is none.
pub fn recover(signature: &Signature, hash: B256) -> Result<Address, RecoverError> {
    counters::RECOVERED_SINGLY.add(1);
    recover_key(signature, hash).map(|key| key.address())
}

fn address(hash: B256) -> Address {
    Address::from_slice(&hash[12..])
}

/// With libsecp256k1.
pub(crate) fn recover_key(signature: &Signature, hash: B256) -> Result<PublicKey, RecoverError> {
    if !in_range(signature) {
        return Err(RecoverError::OutOfRange);
    }
    let mut rs = [0; 64];
    rs[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    rs[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let id = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let recoverable =
        RecoverableSignature::from_compact(&rs, id).map_err(|_| RecoverError::OutOfRange)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(hash.0), &recoverable)
        .map_err(|_| RecoverError::NoKey)?;
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&key.serialize_uncompressed()[1..]);
    Ok(PublicKey(bytes))
}

fn in_range(signature: &Signature) -> bool {
    [signature.r(), signature.s()].iter().all(|value| !value.is_zero() && *value < ORDER)
}

/// In lanes, with libsecp256k1 for what those cannot do and where there is too little for them.
pub(crate) fn recover_in_lanes<L: Lanes>(
    there: There<L>,
    signatures: &[(Signature, B256)],
) -> Keys {
    let mut results = Vec::with_capacity(signatures.len());
    let (mut inputs, mut keys) = (Vec::new(), Vec::new());
    for batch in signatures.chunks(BATCH) {
        inputs.clear();
        inputs.extend(batch.iter().filter(|(signature, _)| in_range(signature)).map(input));
        if inputs.len() < LEAST {
            results.extend(recover_singly(batch));
            continue;
        }
        keys.clear();
        secp::recover(there, &inputs, &mut keys);
        let exceptional = keys.iter().filter(|key| matches!(key, Key::Exceptional)).count();
        counters::RECOVERED_IN_LANES.add(keys.len() - exceptional);
        counters::FALLBACKS.add(exceptional);
        counters::RECOVERY_LANES.add(inputs.len().next_multiple_of(LANES));
        let mut keys = keys.iter();
        for (signature, hash) in batch {
            results.push(if in_range(signature) {
                match keys.next() {
                    Some(Key::Point(point)) => Ok(key_of(point)),
                    Some(Key::NotOnCurve) => Err(RecoverError::NoKey),
                    Some(Key::Exceptional) | None => recover_key(signature, *hash),
                }
            } else {
                Err(RecoverError::OutOfRange)
            });
        }
    }
    results
}

fn input((signature, hash): &(Signature, B256)) -> Input {
    Input {
        r: signature.r().into_limbs(),
        s: signature.s().into_limbs(),
        message: U256::from_be_bytes(hash.0).into_limbs(),
        odd: signature.v(),
    }
}

fn key_of(point: &[u64; LANES]) -> PublicKey {
    let mut bytes = [0; 64];
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (at, word) in words.iter_mut().enumerate() {
        *word = point[if at < 4 { 3 - at } else { 11 - at }].to_be_bytes();
    }
    PublicKey(bytes)
}
