//! Multiples of the generator, computed once.

use std::sync::LazyLock;

use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};

use crate::lanes::LANES;

/// Bits of a digit of the generator's multiplier.
pub(crate) const WIDTH: u32 = 13;
/// The largest size of a digit.
pub(crate) const LARGEST: usize = 1 << (WIDTH - 1);

/// A point: its x and its y, each as four little-endian words.
pub(crate) type Row = [u64; LANES];

/// What is known beforehand: half a megabyte.
pub(crate) struct Known {
    /// 1 G, 2 G, 3 G ...
    pub(crate) low: Box<[Row; LARGEST]>,
    /// 1 H, 2 H, 3 H ...; H is 2^128 G.
    pub(crate) high: Box<[Row; LARGEST]>,
    /// A point at which sums begin, as they cannot begin at infinity.
    pub(crate) start: Row,
    /// -2^[`DOUBLINGS`] times that point: what takes it out of a sum again.
    pub(crate) end: Row,
}

/// How often a sum is doubled.
pub(crate) const DOUBLINGS: u32 = 125;

/// Made when it is asked for first, in some 30 milliseconds.
pub(crate) static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    // Nothing is special about this multiple of the generator.
    let start = multiple(*b"where all sums of points begin..");
    let end = start
        .mul_tweak(SECP256K1, &Scalar::from(secret(power_of_two(DOUBLINGS))))
        .expect("a point times what is not zero is a point")
        .negate(SECP256K1);
    Known {
        low: table(multiple(power_of_two(0))),
        high: table(multiple(power_of_two(128))),
        start: row(&start),
        end: row(&end),
    }
});

/// Makes it now.
pub(crate) fn prepare() {
    LazyLock::force(&KNOWN);
}

/// Big-endian.
fn power_of_two(power: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[31 - power as usize / 8] = 1 << (power % 8);
    bytes
}

fn secret(bytes: [u8; 32]) -> SecretKey {
    SecretKey::from_byte_array(bytes).expect("below the group's order")
}

fn multiple(of_generator: [u8; 32]) -> PublicKey {
    PublicKey::from_secret_key(SECP256K1, &secret(of_generator))
}

fn table(point: PublicKey) -> Box<[Row; LARGEST]> {
    let next = |sum: &PublicKey| Some(sum.combine(&point).expect("far below the group's order"));
    let rows = std::iter::successors(Some(point), next).take(LARGEST).map(|point| row(&point));
    rows.collect::<Box<[Row]>>().try_into().expect("as many as were taken")
}

fn row(point: &PublicKey) -> Row {
    let bytes = point.serialize_uncompressed();
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[1 + at * 8..][..8]);
        u64::from_be_bytes(word)
    };
    std::array::from_fn(|at| word(if at < 4 { 3 - at } else { 11 - at }))
}
