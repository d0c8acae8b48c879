use alloy_primitives::{B256, Signature, U256};
use rand::RngExt;
use secp256k1::{Message, SECP256K1, SecretKey, ecdsa::RecoverableSignature};

use super::*;
use crate::{
    lanes::LANES,
    recover::{recover_in_lanes, recover_key},
};

/// n.
const N: U256 = alloy_primitives::uint!(
    0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256
);
/// p.
const P: U256 = alloy_primitives::uint!(
    0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256
);

fn signed(rng: &mut StdRng) -> (Signature, B256) {
    loop {
        let hash: [u8; 32] = rng.random();
        let Ok(key) = SecretKey::from_byte_array(rng.random()) else { continue };
        let signature: RecoverableSignature =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash), &key);
        let (id, rs) = signature.serialize_compact();
        return (Signature::from_bytes_and_parity(&rs, i32::from(id) & 1 == 1), hash.into());
    }
}

/// Recovered in lanes, the answers are libsecp256k1's.
fn agree<L: Lanes>(signatures: &[(Signature, B256)]) {
    let keys = recover_in_lanes::<L>(signatures);
    assert_eq!(keys.len(), signatures.len());
    for (at, ((signature, hash), key)) in signatures.iter().zip(keys).enumerate() {
        assert_eq!(key, recover_key(signature, *hash), "{at}: {signature:?} {hash}");
    }
}

fn agree_everywhere(signatures: &[(Signature, B256)]) {
    agree::<Portable>(signatures);
    if Avx512::is_there() {
        agree::<Avx512>(signatures);
    }
}

#[test]
fn keys_are_libsecp256k1s() {
    let mut rng = rng(1);
    let signatures: Vec<_> = (0..1000).map(|_| signed(&mut rng)).collect();
    agree_everywhere(&signatures);
    for count in 0..30 {
        agree_everywhere(&signatures[..count]);
    }
}

/// Numbers near to where something changes.
fn edges() -> Vec<U256> {
    let half = N >> 1;
    let mut all = vec![U256::ZERO, U256::ONE, U256::MAX, U256::MAX - U256::ONE];
    for middle in [N, P, P - N, half, U256::from(1) << 128, U256::from(7), half << 1] {
        for off in 0..3 {
            all.push(middle.wrapping_add(U256::from(off)));
            all.push(middle.wrapping_sub(U256::from(off)));
        }
    }
    all
}

#[test]
fn edges_in_every_lane() {
    let mut rng = rng(3);
    let edges = edges();
    // As many good ones in front as move each case to each lane.
    let mut signatures: Vec<_> = (0..LANES).map(|_| signed(&mut rng)).collect();
    for &r in &edges {
        for &s in &edges {
            for odd in [false, true] {
                let hash = edges[rng.random_range(0..edges.len())];
                signatures.push((Signature::new(r, s, odd), B256::from(hash)));
            }
        }
    }
    // With an r that is a point's x, so that the rest is reached.
    for &s in &edges {
        for &hash in &edges {
            let (good, _) = signed(&mut rng);
            signatures.push((Signature::new(good.r(), s, good.v()), B256::from(hash)));
        }
    }
    for lane in 0..LANES {
        agree_everywhere(&signatures[lane..]);
    }
}

/// Signatures whose sums meet equal and opposite points, and infinity.
#[test]
fn exceptional_sums() {
    let mut rng = rng(4);
    let mut signatures = Vec::new();
    for small in 1..200_u64 {
        // R is a small multiple of G, so that multiples of R and of G meet.
        let mut k = [0; 32];
        k[24..].copy_from_slice(&small.to_be_bytes());
        let point = secp256k1::PublicKey::from_secret_key(
            SECP256K1,
            &SecretKey::from_byte_array(k).expect("below the order"),
        )
        .serialize_uncompressed();
        let r = U256::from_be_slice(&point[1..33]);
        let odd = point[64] & 1 == 1;
        // s R = m G: the point at infinity, which is no key.
        let s = U256::from(rng.random::<u64>());
        let m = s.mul_mod(U256::from(small), N);
        for m in [m, m.add_mod(U256::ONE, N), N.wrapping_sub(m), U256::ZERO] {
            signatures.push((Signature::new(r, s, odd), B256::from(m)));
        }
        signatures.push((Signature::new(r, U256::ONE, odd), B256::from(U256::from(small))));
        signatures.push((Signature::new(r, r, odd), B256::from(r)));
        signatures.push((Signature::new(r, r, !odd), B256::from(r)));
        signatures.push((
            Signature::new(r, r.mul_mod(U256::from(5), N), odd),
            B256::from(r.mul_mod(U256::from(5 * small), N)),
        ));
    }
    agree_everywhere(&signatures);
}
