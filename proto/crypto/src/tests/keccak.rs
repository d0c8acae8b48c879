use alloy_primitives::{hex, keccak256};
use rand::RngExt;

use super::*;
use crate::{keccak::hash_in_lanes, lanes::LANES};

fn agrees<W: Words>() {
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
        assert_eq!(hash_in_lanes::<W>(&messages), want, "{longest}");
    }
}

#[test]
fn hashes_are_those_of_one_at_a_time() {
    agrees::<Portable>();
    if Avx2::is_there() {
        agrees::<Avx2>();
    }
    if Avx512::is_there() {
        agrees::<Avx512>();
    }
}

#[test]
fn known_hashes() {
    let empty = hex!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    let abc = hex!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
    let messages: [&[u8]; 9] = [b"", b"abc", b"", b"abc", b"", b"abc", b"", b"abc", b"abc"];
    for (at, hash) in hash_in_lanes::<Portable>(&messages).iter().enumerate() {
        assert_eq!(hash.0, if at < 8 && at % 2 == 0 { empty } else { abc });
    }
}
