//! Integers modulo the order n of secp256k1's group, eight at a time, and how multipliers of points are cut into digits.

use super::field::{LIMB, LIMB_BITS, LIMBS, carried, limbs_of, words_of};
use crate::lanes::{Lanes, Mask, each, splat_all};

/// n.
const N: [u64; LIMBS] =
    [0x25e8cd0364141, 0xe6af48a03bbfd, 0xffffffebaaedc, 0xfffffffffffff, 0x0ffffffffffff];
/// -1 / n mod 2^52.
const MINUS_N_INVERSE: u64 = 0xdff665588b13f;
/// R^2 mod n.
const R2: [u64; LIMBS] =
    [0xe180c268b3b23, 0x94fd6e33e4c8e, 0xd07c73b975948, 0xc5e697f5e45bc, 0x0671cd581c69b];
/// n - 2 in digits of four bits, highest first.
const N_MINUS_2: [u8; 64] = {
    let words = [
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_ffff_fffe,
        0xbaae_dce6_af48_a03b,
        0xbfd2_5e8c_d036_413f_u64,
    ];
    let mut digits = [0; 64];
    let mut digit = 0;
    while digit < 64 {
        digits[digit] = (words[digit / 16] >> (60 - digit % 16 * 4) & 0xf) as u8;
        digit += 1;
    }
    digits
};

/// Eight integers modulo n, one a lane: limbs below 2^52, the whole below 2^257.
///
/// Products are Montgomery's with R = 2^260, that is, over R: an integer *in Montgomery's form* is one times R.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar<L>(pub(crate) [L; LIMBS]);

impl<L: Lanes> Scalar<L> {
    /// From little-endian words of 64 bits; any 256 bits.
    #[inline(always)]
    pub(crate) fn from_words(words: [L; 4]) -> Self {
        Self(limbs_of(words))
    }

    /// Little-endian words of 64 bits of the integer below n.
    #[inline(always)]
    pub(crate) fn to_words(self) -> [L; 4] {
        words_of(self.canonical())
    }

    /// In Montgomery's form.
    #[inline(always)]
    pub(crate) fn montgomery(self) -> Self {
        self.mul(Self(splat_all(R2)))
    }

    /// The product over R: of two integers in Montgomery's form, it is in Montgomery's form; of one that is and one that is not, it is not.
    #[inline(always)]
    pub(crate) fn mul(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        let n = splat_all(N);
        let zero = L::splat(0);
        let mut columns = [zero; 2 * LIMBS];
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                columns[i + j] = columns[i + j].madd_low(a[i], b[j]);
                columns[i + j + 1] = columns[i + j + 1].madd_high(a[i], b[j]);
            }
        }
        for i in 0..LIMBS {
            // Makes the lowest limb that is left zero.
            let times = zero.madd_low(columns[i], L::splat(MINUS_N_INVERSE));
            for j in 0..LIMBS {
                columns[i + j] = columns[i + j].madd_low(times, n[j]);
                columns[i + j + 1] = columns[i + j + 1].madd_high(times, n[j]);
            }
            columns[i + 1] = columns[i + 1].add(columns[i].shr(LIMB_BITS));
        }
        let [_, _, _, _, _, t @ ..] = columns;
        Self(carried(t))
    }

    /// One over an integer, both in Montgomery's form; zero for zero. (`x^(n - 2)`.)
    #[inline(never)]
    pub(crate) fn inverse(self) -> Self {
        L::compiled(
            #[inline(always)]
            || {
                let one = Self(splat_all([1, 0, 0, 0, 0])).montgomery();
                let mut powers = [one; 16];
                for power in 1..16 {
                    powers[power] = powers[power - 1].mul(self);
                }
                let mut result = one;
                for digit in N_MINUS_2 {
                    for _ in 0..4 {
                        result = result.mul(result);
                    }
                    result = result.mul(powers[usize::from(digit)]);
                }
                result
            },
        )
    }

    /// The form below n.
    #[inline(always)]
    fn canonical(self) -> [L; LIMBS] {
        let less = sub(self.0, splat_all(N));
        let fits = !negative(less);
        each(
            #[inline(always)]
            |limb| self.0[limb].choose(fits, less[limb]),
        )
    }

    /// One over n less.
    #[inline(always)]
    pub(crate) fn negated(self) -> Self {
        Self(sub(splat_all(N), self.canonical()))
    }

    /// Two multipliers k and l, each below 2^128 in size, so that k + l λ is this integer: λ times a point (x, y) is (β x, y).
    /// (Gallant, Lambert and Vanstone, *Faster Point Multiplication on Elliptic Curves with Efficient Endomorphisms*, 2001; the
    /// basis of short vectors is the one that libsecp256k1 documents.)
    #[inline(always)]
    pub(crate) fn split(self) -> [Signed<L>; 2] {
        const A1: [u64; 3] = [0xc90e49284eb15, 0x21a7d46bcde86, 0x3086d2];
        const MINUS_B1: [u64; 3] = [0x47fa90abfe4c3, 0xd6010e88286f5, 0xe4437e];
        const A2: [u64; 3] = [0x1108d9d44cfd8, 0xf7a8e2f3f657c, 0x114ca50];
        const B2: [u64; 3] = A1;
        /// 2^384 b2 / n and -2^384 b1 / n, rounded.
        const G1: [u64; LIMBS] =
            [0x3209a45dbb031, 0x1471e8ca7fe89, 0x284eb153daa8a, 0x6bcde86c90e49, 0x3086d221a7d4];
        const G2: [u64; LIMBS] =
            [0x1b4ae8ac47f71, 0xac9df506c6157, 0xabfe4c4221208, 0x88286f547fa90, 0xe4437ed6010e];
        let k = self.canonical();
        let (c1, c2) = (scaled(k, G1), scaled(k, G2));
        // All of it fits into four limbs, the sign included.
        let (a1, a2) = (product(c1, A1), product(c2, A2));
        let (b1, b2) = (product(c1, MINUS_B1), product(c2, B2));
        let first: [L; 4] = each(
            #[inline(always)]
            |limb| k[limb].sub(a1[limb]).sub(a2[limb]),
        );
        let second: [L; 4] = each(
            #[inline(always)]
            |limb| b1[limb].sub(b2[limb]),
        );
        [Signed::new(first), Signed::new(second)]
    }
}

/// An integer by its size, below 2^128, and the lanes in which it is negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<L> {
    pub(crate) size: [L; 3],
    pub(crate) negative: Mask,
}

impl<L: Lanes> Signed<L> {
    /// From limbs that are sums of a few, modulo 2^208.
    #[inline(always)]
    fn new(limbs: [L; 4]) -> Self {
        let limbs = wrapped(limbs);
        let negative = limbs[3].tests(L::splat(1 << (LIMB_BITS - 1)));
        let negated = wrapped(each(
            #[inline(always)]
            |limb| L::splat(0).sub(limbs[limb]),
        ));
        let [a, b, c, _] = each(
            #[inline(always)]
            |limb| limbs[limb].choose(negative, negated[limb]),
        );
        Self { size: [a, b, c], negative }
    }
}

/// Carries, with the sign, through limbs that are signed, modulo 2^208.
#[inline(always)]
fn wrapped<L: Lanes>(mut limbs: [L; 4]) -> [L; 4] {
    // So that no limb is below zero: what is added to one is taken from the next.
    let lift = 1 << 60;
    for limb in 0..4 {
        let up = limbs[limb].add(L::splat(lift));
        limbs[limb] = up.and(L::splat(LIMB));
        if limb + 1 < 4 {
            let carry = up.shr(LIMB_BITS);
            limbs[limb + 1] = limbs[limb + 1].add(carry).sub(L::splat(lift >> LIMB_BITS));
        }
    }
    limbs
}

/// `a b / 2^384`, rounded: three limbs.
#[inline(always)]
fn scaled<L: Lanes>(a: [L; LIMBS], b: [u64; LIMBS]) -> [L; 3] {
    const SHIFT: u32 = 384 - 7 * LIMB_BITS;
    let mut columns = [L::splat(0); 2 * LIMBS];
    for i in 0..LIMBS {
        for j in 0..LIMBS {
            let b = L::splat(b[j]);
            columns[i + j] = columns[i + j].madd_low(a[i], b);
            columns[i + j + 1] = columns[i + j + 1].madd_high(a[i], b);
        }
    }
    columns[7] = columns[7].add(L::splat(1 << (SHIFT - 1)));
    for column in 0..2 * LIMBS - 1 {
        columns[column + 1] = columns[column + 1].add(columns[column].shr(LIMB_BITS));
        columns[column] = columns[column].and(L::splat(LIMB));
    }
    let limb = |at: usize| {
        let high = columns[at + 1].shl(LIMB_BITS - SHIFT);
        columns[at].shr(SHIFT).or(high).and(L::splat(LIMB))
    };
    [limb(7), limb(8), columns[9].shr(SHIFT)]
}

/// The four lowest columns of a product.
#[inline(always)]
fn product<L: Lanes>(a: [L; 3], b: [u64; 3]) -> [L; 4] {
    let mut columns = [L::splat(0); 4];
    for i in 0..3 {
        for j in 0..3 {
            let b = L::splat(b[j]);
            if i + j < 4 {
                columns[i + j] = columns[i + j].madd_low(a[i], b);
            }
            if i + j + 1 < 4 {
                columns[i + j + 1] = columns[i + j + 1].madd_high(a[i], b);
            }
        }
    }
    columns
}

/// The difference of two integers. Where it is negative, its highest limb is.
#[inline(always)]
fn sub<L: Lanes>(a: [L; LIMBS], b: [L; LIMBS]) -> [L; LIMBS] {
    let mut limbs: [L; LIMBS] = each(
        #[inline(always)]
        |limb| a[limb].sub(b[limb]),
    );
    for limb in 0..LIMBS - 1 {
        // One, where the limb is below zero.
        let borrow = limbs[limb].shr(63);
        limbs[limb] = limbs[limb].add(borrow.shl(LIMB_BITS));
        limbs[limb + 1] = limbs[limb + 1].sub(borrow);
    }
    limbs
}

#[inline(always)]
fn negative<L: Lanes>(limbs: [L; LIMBS]) -> Mask {
    limbs[LIMBS - 1].tests(L::splat(1 << 63))
}

/// The digits, `WIDTH` bits each, of integers below 2^128, from -2^(WIDTH - 1) to 2^(WIDTH - 1) - 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits<L, const WIDTH: u32>([L; 3]);

/// A digit: its size, and the lanes in which it is negative or zero.
pub(crate) struct Digit<L> {
    pub(crate) size: L,
    pub(crate) negative: Mask,
    pub(crate) zero: Mask,
}

impl<L: Lanes, const WIDTH: u32> Digits<L, WIDTH> {
    /// How many there are.
    pub(crate) const COUNT: u32 = 128_u32.div_ceil(WIDTH) + if 128 % WIDTH == 0 { 1 } else { 0 };

    /// 2^(WIDTH - 1) in each digit: with it added, all digits are from 0 to 2^WIDTH - 1.
    const LIFT: [u64; 3] = {
        let mut limbs = [0; 3];
        let mut digit = 0;
        while digit < Self::COUNT {
            let bit = digit * WIDTH + WIDTH - 1;
            limbs[(bit / LIMB_BITS) as usize] |= 1 << (bit % LIMB_BITS);
            digit += 1;
        }
        limbs
    };

    #[inline(always)]
    pub(crate) fn new(size: [L; 3]) -> Self {
        let mut limbs: [L; 3] = each(
            #[inline(always)]
            |limb| size[limb].add(L::splat(Self::LIFT[limb])),
        );
        for limb in 0..2 {
            limbs[limb + 1] = limbs[limb + 1].add(limbs[limb].shr(LIMB_BITS));
            limbs[limb] = limbs[limb].and(L::splat(LIMB));
        }
        Self(limbs)
    }

    /// The digit of `2^(WIDTH at)`.
    #[inline(always)]
    pub(crate) fn at(&self, at: u32) -> Digit<L> {
        let (limb, bit) = ((at * WIDTH / LIMB_BITS) as usize, at * WIDTH % LIMB_BITS);
        let mut bits = self.0[limb].shr(bit);
        if bit + WIDTH > LIMB_BITS && limb < 2 {
            bits = bits.or(self.0[limb + 1].shl(LIMB_BITS - bit));
        }
        let half = L::splat(1 << (WIDTH - 1));
        let digit = bits.and(L::splat((1 << WIDTH) - 1)).sub(half);
        let negative = digit.tests(L::splat(1 << 63));
        let size = digit.choose(negative, L::splat(0).sub(digit));
        Digit { size, negative, zero: size.zeros() }
    }
}

/// The lower and the upper 128 bits of integers below 2^256.
#[inline(always)]
pub(crate) fn halves<L: Lanes>(words: [L; 4]) -> [[L; 3]; 2] {
    let [a, b, c, d] = words;
    [half(a, b), half(c, d)]
}

#[inline(always)]
fn half<L: Lanes>(low: L, high: L) -> [L; 3] {
    let limb = L::splat(LIMB);
    [low.and(limb), low.shr(52).or(high.shl(12)).and(limb), high.shr(40)]
}
