//! The two kinds of integers against big integers.

use alloy_primitives::U256;
use proptest::prelude::*;

use super::*;
use crate::{
    lanes::{LANES, Mask},
    secp::{
        field::{Fe, LIMB, LIMBS, P, inverse, square_roots},
        scalar::{Digits, Scalar, halves},
    },
};

type Wide = ruint::Uint<512, 8>;

const PRIME: U256 = alloy_primitives::uint!(
    0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256
);
const ORDER: U256 = alloy_primitives::uint!(
    0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256
);

/// What an element's limbs stand for, modulo p.
fn value(limbs: [u64; LIMBS]) -> U256 {
    let mut sum = Wide::ZERO;
    for (limb, word) in limbs.into_iter().enumerate() {
        sum += Wide::from(word) << (52 * limb);
    }
    U256::from(sum % Wide::from(PRIME))
}

/// Weakly reduced elements: any limbs below 2^52, the highest so that the whole is below 2^256 + 2^220.
fn limbs() -> impl Strategy<Value = [u64; LIMBS]> {
    let limb = || prop_oneof![0..=LIMB, Just(0), Just(1), Just(LIMB), Just(LIMB - 1)];
    let top = 1_u64 << 48;
    let below =
        (limb(), limb(), limb(), limb(), 0..top).prop_map(|(a, b, c, d, e)| [a, b, c, d, e]);
    let over = (limb(), limb(), limb(), limb(), 0..1_u64 << 12)
        .prop_map(move |(a, b, c, d, e)| [a, b, c, d, top + e]);
    let near = (0..5_u64, any::<bool>()).prop_map(|(off, above)| {
        let mut near = P;
        near[0] = if above { P[0] + off } else { P[0] - off };
        near
    });
    prop_oneof![6 => below, 1 => over, 1 => near]
}

fn eight<T: std::fmt::Debug + Copy>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = [T; LANES]> {
    proptest::collection::vec(one, LANES).prop_map(|all| std::array::from_fn(|lane| all[lane]))
}

fn element<L: Lanes>(all: &[[u64; LIMBS]; LANES]) -> Fe<L> {
    Fe(std::array::from_fn(|limb| L::new(std::array::from_fn(|lane| all[lane][limb]))))
}

fn limbs_in<L: Lanes>(lanes: [L; LIMBS]) -> [[u64; LIMBS]; LANES] {
    let values = lanes.map(L::values);
    std::array::from_fn(|lane| std::array::from_fn(|limb| values[limb][lane]))
}

/// An element's values, which must be weakly reduced.
fn values<L: Lanes>(element: Fe<L>) -> [U256; LANES] {
    limbs_in(element.0).map(|limbs| {
        assert!(limbs.iter().all(|limb| *limb <= LIMB), "{limbs:x?}");
        assert!(limbs[LIMBS - 1] < (1 << 48) + (1 << 12), "{limbs:x?}");
        value(limbs)
    })
}

fn words_in<L: Lanes>(words: [L; 4]) -> [U256; LANES] {
    let values = words.map(L::values);
    std::array::from_fn(|lane| U256::from_limbs(std::array::from_fn(|word| values[word][lane])))
}

fn words<L: Lanes>(all: &[U256; LANES]) -> [L; 4] {
    std::array::from_fn(|word| L::new(std::array::from_fn(|lane| all[lane].as_limbs()[word])))
}

fn mask(of: impl Fn(usize) -> bool) -> Mask {
    (0..LANES).map(|lane| Mask::from(of(lane)) << lane).sum()
}

fn minus(a: U256, b: U256) -> U256 {
    a.add_mod(PRIME - b % PRIME, PRIME)
}

fn field_agrees<L: Lanes>(a: [[u64; LIMBS]; LANES], b: [[u64; LIMBS]; LANES]) {
    let (x, y) = (element::<L>(&a), element::<L>(&b));
    let (a, b) = (a.map(value), b.map(value));
    let each = |f: &dyn Fn(U256, U256) -> U256| -> [U256; LANES] {
        std::array::from_fn(|lane| f(a[lane], b[lane]))
    };
    assert_eq!(values(x.mul(y)), each(&|a, b| a.mul_mod(b, PRIME)));
    assert_eq!(values(x.square()), each(&|a, _| a.mul_mod(a, PRIME)));
    assert_eq!(values(x.negated()), each(&|a, _| minus(U256::ZERO, a)));
    assert_eq!(values(x.sum().add(y).carried()), each(&|a, b| a.add_mod(b, PRIME)));
    // The largest sums that the points' formulas make, of either sign.
    let eight = U256::from(8);
    let sum = x.sum().sub(y).sub(y).sub_sum(y.sum().doubled(3)).carried();
    assert_eq!(values(sum), each(&|a, b| minus(a, b.mul_mod(U256::from(10), PRIME))));
    let sum = x.sum().doubled(3).add(y).carried();
    assert_eq!(values(sum), each(&|a, b| a.mul_mod(eight, PRIME).add_mod(b, PRIME)));
    let odd = mask(|lane| lane % 3 == 1);
    let mixed: [U256; LANES] = std::array::from_fn(|lane| {
        if lane % 3 == 1 { minus(a[lane], b[lane]) } else { a[lane].add_mod(b[lane], PRIME) }
    });
    assert_eq!(values(x.sum().add_or_sub(odd, y).carried()), mixed);
    let canonical = x.canonical();
    assert_eq!(words_in(canonical.to_words()), a);
    assert_eq!(canonical.odd(), mask(|lane| a[lane].bit(0)));
    assert_eq!(x.zeros(), mask(|lane| a[lane].is_zero()));
    assert_eq!(x.sum().sub(x).carried().zeros(), !0);
    assert_eq!(values(Fe::<L>::from_words(words(&b))), b);
    let mut inverted = x;
    inverse(&mut inverted);
    assert_eq!(values(inverted), each(&|a, _| a.inv_mod(PRIME).unwrap_or_default()));
    let mut roots = [x.square(), y.square()];
    square_roots(&mut roots);
    for (root, of) in roots.into_iter().zip([a, b]) {
        for (root, of) in values(root).into_iter().zip(of) {
            assert!(root == of || root == minus(U256::ZERO, of));
        }
    }
}

fn scalars_agree<L: Lanes>(a: [U256; LANES], b: [U256; LANES]) {
    let (x, y) = (Scalar::<L>::from_words(words(&a)), Scalar::from_words(words(&b)));
    let product = x.montgomery().mul(y);
    let want: [U256; LANES] = std::array::from_fn(|lane| a[lane].mul_mod(b[lane], ORDER));
    assert_eq!(words_in(product.to_words()), want);
    let negated: [U256; LANES] = want.map(|value| (ORDER - value) % ORDER);
    assert_eq!(words_in(product.negated().to_words()), negated);
    // Out of Montgomery's form by a product with one.
    let one = Scalar::from_words(words(&[U256::ONE; LANES]));
    let inverses = words_in(x.montgomery().inverse().mul(one).to_words());
    assert_eq!(inverses, a.map(|value| (value % ORDER).inv_mod(ORDER).unwrap_or_default()));

    // k + l λ is the integer, and its digits are k's and l's.
    let lambda = alloy_primitives::uint!(
        0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256
    );
    let [first, second] = x.split();
    let signed = |part: &crate::secp::scalar::Signed<L>, lane: usize| {
        let size = part.size.map(L::values);
        let size =
            size[0][lane] as u128 | (size[1][lane] as u128) << 52 | (size[2][lane] as u128) << 104;
        assert!(part.size[2].values()[lane] < 1 << 24, "below 2^128");
        let value = U256::from(size);
        if part.negative >> lane & 1 == 1 { (ORDER - value) % ORDER } else { value }
    };
    for lane in 0..LANES {
        let sum = signed(&first, lane).add_mod(signed(&second, lane).mul_mod(lambda, ORDER), ORDER);
        assert_eq!(sum, a[lane] % ORDER);
    }
    let [low, high] = halves(words::<L>(&b));
    for (half, shift) in [(low, 0), (high, 128)] {
        let halves = b.map(|value| value >> shift & U256::from(u128::MAX));
        assert_eq!(digits_add_up::<L, 5>(half), halves);
        assert_eq!(digits_add_up::<L, 13>(half), halves);
        assert_eq!(digits_add_up::<L, 8>(half), halves);
    }
}

fn digits_add_up<L: Lanes, const WIDTH: u32>(size: [L; 3]) -> [U256; LANES] {
    let digits = Digits::<L, WIDTH>::new(size);
    let mut sums = [U256::ZERO; LANES];
    for at in (0..Digits::<L, WIDTH>::COUNT).rev() {
        let digit = digits.at(at);
        for (lane, size) in digit.size.values().into_iter().enumerate() {
            assert!(size <= 1 << (WIDTH - 1));
            assert_eq!(digit.zero >> lane & 1 == 1, size == 0);
            let shifted = sums[lane] << WIDTH as usize;
            sums[lane] = if digit.negative >> lane & 1 == 1 {
                shifted.wrapping_sub(U256::from(size))
            } else {
                shifted.wrapping_add(U256::from(size))
            };
        }
    }
    sums
}

fn number() -> impl Strategy<Value = U256> {
    let edge = prop_oneof![
        Just(U256::ZERO),
        Just(U256::MAX),
        Just(ORDER),
        Just(ORDER >> 1),
        Just(U256::ONE << 128),
        Just(U256::from(u128::MAX)),
    ];
    let near = (edge, 0..3_u64, any::<bool>()).prop_map(|(edge, off, above)| {
        let off = U256::from(off);
        if above { edge.wrapping_add(off) } else { edge.wrapping_sub(off) }
    });
    prop_oneof![4 => any::<[u64; 4]>().prop_map(U256::from_limbs), 1 => near]
}

proptest! {
    #[test]
    fn the_field_is_that_of_big_integers(a in eight(limbs()), b in eight(limbs())) {
        field_agrees::<Portable>(a, b);
        if There::<Avx512>::detect().is_some() {
            field_agrees::<Avx512>(a, b);
        }
    }

    #[test]
    fn scalars_are_those_of_big_integers(a in eight(number()), b in eight(number())) {
        scalars_agree::<Portable>(a, b);
        if There::<Avx512>::detect().is_some() {
            scalars_agree::<Avx512>(a, b);
        }
    }
}
