//! Points against libsecp256k1.

use proptest::prelude::*;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::*;
use crate::{
    lanes::{LANES, Mask},
    secp::{
        curve::{Affine, Jacobian, MULTIPLES, invert_all, multiples},
        field::{Fe, inverse},
    },
};

type Coordinates = [u64; 4];

fn point(multiplier: u64) -> PublicKey {
    let mut secret = [0; 32];
    secret[24..].copy_from_slice(&multiplier.to_be_bytes());
    PublicKey::from_secret_key(
        SECP256K1,
        &SecretKey::from_byte_array(secret).expect("small, and not zero"),
    )
}

/// The multiple of the generator; `None` for the point at infinity.
fn multiple(multiplier: i64) -> Option<PublicKey> {
    let size = multiplier.unsigned_abs();
    (size > 0).then(|| {
        let point = point(size);
        if multiplier < 0 { point.negate(SECP256K1) } else { point }
    })
}

fn coordinates(point: &PublicKey) -> [Coordinates; 2] {
    let bytes = point.serialize_uncompressed();
    [0, 32].map(|from| {
        std::array::from_fn(|word| {
            let mut bytes_of_word = [0; 8];
            bytes_of_word.copy_from_slice(&bytes[1 + from + 24 - 8 * word..][..8]);
            u64::from_be_bytes(bytes_of_word)
        })
    })
}

fn lanes_of<L: Lanes>(all: [Coordinates; LANES]) -> Fe<L> {
    Fe::from_words(std::array::from_fn(|word| L::new(all.map(|one| one[word]))))
}

fn affine<L: Lanes>(points: [PublicKey; LANES]) -> Affine<L> {
    let both = points.map(|point| coordinates(&point));
    Affine { x: lanes_of(both.map(|[x, _]| x)), y: lanes_of(both.map(|[_, y]| y)) }
}

fn words_in<L: Lanes>(element: Fe<L>) -> [Coordinates; LANES] {
    let words = element.canonical().to_words().map(L::values);
    std::array::from_fn(|lane| words.map(|values| values[lane]))
}

/// Each lane's point, or `None` where Z is zero.
fn points_in<L: Lanes>(sum: &Jacobian<L>) -> [Option<[Coordinates; 2]>; LANES] {
    let zeros = sum.z.zeros();
    let mut inverse_of_z = sum.z;
    inverse(&mut inverse_of_z);
    let square = inverse_of_z.square();
    let x = words_in(sum.x.mul(square));
    let y = words_in(sum.y.mul(square.mul(inverse_of_z)));
    std::array::from_fn(|lane| (zeros >> lane & 1 == 0).then(|| [x[lane], y[lane]]))
}

fn wanted(multipliers: [i64; LANES]) -> [Option<[Coordinates; 2]>; LANES] {
    multipliers.map(|multiplier| multiple(multiplier).map(|point| coordinates(&point)))
}

fn mask(of: impl Fn(usize) -> bool) -> Mask {
    (0..LANES).map(|lane| Mask::from(of(lane)) << lane).sum()
}

fn points_agree<L: Lanes>(a: [i64; LANES], b: [i64; LANES], negative: Mask, skipped: Mask) {
    let is = |mask: Mask, lane: usize| mask >> lane & 1 == 1;
    let of = |multipliers: [i64; LANES]| {
        affine::<L>(multipliers.map(|multiplier| multiple(multiplier).expect("not zero")))
    };
    let mut sum = of(a).jacobian();
    assert_eq!(points_in(&sum), wanted(a));
    sum.double();
    let doubled = a.map(|a| 2 * a);
    assert_eq!(points_in(&sum), wanted(doubled));
    sum.add(&of(b), negative, skipped);
    let added: [i64; LANES] = std::array::from_fn(|lane| {
        let b = if is(negative, lane) { -b[lane] } else { b[lane] };
        if is(skipped, lane) { doubled[lane] } else { doubled[lane] + b }
    });
    // Equal points are not for this formula, nor opposite ones: Z is zero for both, and stays so.
    let exceptional =
        mask(|lane| !is(skipped, lane) && doubled[lane].unsigned_abs() == b[lane].unsigned_abs());
    let want = wanted(added);
    let want_of = |lane: usize| if is(exceptional, lane) { None } else { want[lane] };
    assert_eq!(points_in(&sum), std::array::from_fn(want_of));
    sum.double();
    sum.add(&of(a), 0, skipped);
    assert_eq!(sum.z.zeros() & exceptional, exceptional);
}

fn multiples_agree<L: Lanes>(all: &[[i64; LANES]]) {
    let points: Vec<_> = all
        .iter()
        .map(|some| affine::<L>(some.map(|multiplier| multiple(multiplier).expect("not zero"))))
        .collect();
    let tables = multiples(&points);
    assert_eq!(tables.len(), all.len());
    for (table, some) in tables.iter().zip(all) {
        for times in 1..=MULTIPLES {
            let found = points_in(&table[times - 1].jacobian());
            assert_eq!(found, wanted(some.map(|multiplier| multiplier * times as i64)));
        }
    }
}

fn inversions_agree<L: Lanes>(all: &[[i64; LANES]]) {
    let elements: Vec<Fe<L>> = all
        .iter()
        .map(|some| lanes_of(some.map(|value| [value.unsigned_abs(), 0, 0, 0])))
        .collect();
    let mut inverses = elements.clone();
    invert_all(&mut inverses, &mut Vec::new());
    for (element, inverse) in elements.iter().zip(inverses) {
        assert_eq!(words_in(element.mul(inverse)), [[1, 0, 0, 0]; LANES]);
    }
}

/// Small multiples meet each other; large ones are any points.
fn multiplier() -> impl Strategy<Value = i64> {
    let size = prop_oneof![1..6_i64, 1..i64::MAX >> 8];
    (size, any::<bool>()).prop_map(|(size, negative)| if negative { -size } else { size })
}

fn eight() -> impl Strategy<Value = [i64; LANES]> {
    proptest::collection::vec(multiplier(), LANES)
        .prop_map(|all| std::array::from_fn(|lane| all[lane]))
}

proptest! {
    #[test]
    fn points_are_libsecp256k1s(a in eight(), b in eight(), negative: Mask, skipped: Mask) {
        points_agree::<Portable>(a, b, negative, skipped);
        if There::<Avx512>::detect().is_some() {
            points_agree::<Avx512>(a, b, negative, skipped);
        }
    }

    #[test]
    fn multiples_and_inverses_of_several(all in proptest::collection::vec(eight(), 1..4)) {
        multiples_agree::<Portable>(&all);
        inversions_agree::<Portable>(&all);
        if There::<Avx512>::detect().is_some() {
            multiples_agree::<Avx512>(&all);
            inversions_agree::<Avx512>(&all);
        }
    }
}
