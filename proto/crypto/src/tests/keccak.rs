use alloy_primitives::{B256, hex, keccak256};
use rand::RngExt;
use sha3::{Digest, Keccak256};

use super::*;
use crate::{
    keccak::{hash_in_lanes, keccak256_batch},
    lanes::LANES,
};

fn agrees<W: Words>(there: There<W>) {
    let mut rng = rng(2);
    for longest in 0..=1100 {
        // Eight of one length, and some shorter ones.
        let count = LANES + rng.random_range(0..12);
        let messages: Vec<Vec<u8>> = (0..count)
            .map(|at| {
                let length = if at < LANES { longest } else { rng.random_range(0..=longest) };
                (0..length).map(|_| rng.random()).collect()
            })
            .collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let want: Vec<_> = messages.iter().map(keccak256).collect();
        let other = messages.iter().map(|message| B256::from_slice(&Keccak256::digest(message)));
        assert!(other.eq(want.iter().copied()), "{longest}");
        assert_eq!(hash_in_lanes(there, &messages), want, "{longest}");
    }
}

#[test]
fn hashes_are_those_of_one_at_a_time() {
    agrees(There::ALWAYS);
    if let Some(there) = There::<Avx2>::detect() {
        agrees(there);
    }
    if let Some(there) = There::<Avx512>::detect() {
        agrees(there);
    }
}

#[test]
fn known_hashes() {
    let empty = hex!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    let abc = hex!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    // The reference's ShortMsgKAT_256 of 8 and of 16 bits.
    let cc = hex!("eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a");
    let fb = hex!("a8eaceda4d47b3281a795ad9e1ea2122b407baf9aabcb9e18b5717b7873537d2");
    let known: [(&[u8], _); 4] = [(b"", empty), (b"abc", abc), (&[0xcc], cc), (&[0x41, 0xfb], fb)];
    let messages: Vec<&[u8]> = (0..19).map(|at| known[at * 7 % 4].0).collect();
    let check = |hashes: Vec<B256>| {
        for (at, hash) in hashes.iter().enumerate() {
            assert_eq!(hash.0, known[at * 7 % 4].1);
        }
    };
    check(hash_in_lanes(There::ALWAYS, &messages));
    check(keccak256_batch(&messages));
}
