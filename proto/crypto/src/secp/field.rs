//! The field of secp256k1: integers modulo p = 2^256 - 2^32 - 977, eight at a time.
//!
//! An element is five limbs of 52 bits, as the processor's 52-bit multiply-add takes them. It is reduced *weakly*: each limb is below 2^52, and
//! the whole below 2^256 + 2^220, so that one value can have two forms. [`Fe::canonical`] gives the one below p.

use crate::lanes::{Lanes, Mask, each, splat_all};

pub(crate) const LIMBS: usize = 5;
pub(crate) const LIMB_BITS: u32 = 52;
pub(crate) const LIMB: u64 = (1 << LIMB_BITS) - 1;
/// What the highest limb holds of 256 bits.
const TOP_BITS: u32 = 48;
const TOP: u64 = (1 << TOP_BITS) - 1;
/// 2^256 mod p.
const FOLD_256: u64 = 0x1_0000_03d1;
/// 2^260 mod p.
const FOLD_260: u64 = FOLD_256 << 4;
/// p.
pub(crate) const P: [u64; LIMBS] = [LIMB - (FOLD_256 - 1), LIMB, LIMB, LIMB, TOP];

/// Eight elements, one a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fe<L>(pub(crate) [L; LIMBS]);

/// A sum of a few elements, before its carries: limbs are signed, and smaller in size than 2^57 - 2^52.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum<L>([L; LIMBS]);

#[inline(always)]
fn zip<L: Lanes>(a: [L; LIMBS], b: [L; LIMBS], f: impl Fn(L, L) -> L) -> [L; LIMBS] {
    each(
        #[inline(always)]
        |limb| f(a[limb], b[limb]),
    )
}

/// Carries from limb to limb, up to the highest.
#[inline(always)]
pub(super) fn carried<L: Lanes>(mut limbs: [L; LIMBS]) -> [L; LIMBS] {
    for limb in 0..LIMBS - 1 {
        limbs[limb + 1] = limbs[limb + 1].add(limbs[limb].shr(LIMB_BITS));
        limbs[limb] = limbs[limb].and(L::splat(LIMB));
    }
    limbs
}

impl<L: Lanes> Fe<L> {
    /// The same element in all lanes.
    #[inline(always)]
    pub(crate) fn splat(limbs: [u64; LIMBS]) -> Self {
        Self(splat_all(limbs))
    }

    #[inline(always)]
    pub(crate) fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    /// From little-endian words of 64 bits; any 256 bits.
    #[inline(always)]
    pub(crate) fn from_words(words: [L; 4]) -> Self {
        Self(limbs_of(words))
    }

    /// Little-endian words of 64 bits of an element that is canonical.
    #[inline(always)]
    pub(crate) fn to_words(self) -> [L; 4] {
        words_of(self.0)
    }

    /// The form below p.
    #[inline(always)]
    pub(crate) fn canonical(self) -> Self {
        // Below 2 p: p is taken off once if adding 2^256 - p reaches 2^256.
        let mut moved = self.0;
        moved[0] = moved[0].add(L::splat(FOLD_256));
        let mut moved = carried(moved);
        let reaches = moved[LIMBS - 1].tests(L::splat(!TOP));
        moved[LIMBS - 1] = moved[LIMBS - 1].and(L::splat(TOP));
        self.choose(reaches, Self(moved))
    }

    /// The lanes that are zero modulo p.
    #[inline(always)]
    pub(crate) fn zeros(self) -> Mask {
        let [a, b, c, d, e] = self.canonical().0;
        a.or(b).or(c.or(d)).or(e).zeros()
    }

    /// The lanes that are odd; of a canonical element.
    #[inline(always)]
    pub(crate) fn odd(self) -> Mask {
        self.0[0].tests(L::splat(1))
    }

    /// The lanes of `chosen` where the mask is set, others of `self`.
    #[inline(always)]
    pub(crate) fn choose(self, mask: Mask, chosen: Self) -> Self {
        Self(zip(
            self.0,
            chosen.0,
            #[inline(always)]
            |a, b| a.choose(mask, b),
        ))
    }

    #[inline(always)]
    pub(crate) fn sum(self) -> Sum<L> {
        Sum(self.0)
    }

    #[inline(always)]
    pub(crate) fn negated(self) -> Self {
        Sum([L::splat(0); LIMBS]).sub(self).carried()
    }

    /// The product.
    #[inline(always)]
    pub(crate) fn mul(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        let zero = L::splat(0);
        let (mut low, mut high) = ([zero; 2 * LIMBS], [zero; 2 * LIMBS]);
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                low[i + j] = low[i + j].madd_low(a[i], b[j]);
                high[i + j + 1] = high[i + j + 1].madd_high(a[i], b[j]);
            }
        }
        Self::folded(each(
            #[inline(always)]
            |column| low[column].add(high[column]),
        ))
    }

    /// The square.
    #[inline(always)]
    pub(crate) fn square(self) -> Self {
        let a = self.0;
        let zero = L::splat(0);
        let (mut low, mut high) = ([zero; 2 * LIMBS], [zero; 2 * LIMBS]);
        for i in 0..LIMBS {
            for j in i + 1..LIMBS {
                low[i + j] = low[i + j].madd_low(a[i], a[j]);
                high[i + j + 1] = high[i + j + 1].madd_high(a[i], a[j]);
            }
        }
        // Products of different limbs come twice.
        let mut columns: [L; 2 * LIMBS] = each(
            #[inline(always)]
            |column| low[column].add(high[column]).shl(1),
        );
        for i in 0..LIMBS {
            columns[2 * i] = columns[2 * i].madd_low(a[i], a[i]);
            columns[2 * i + 1] = columns[2 * i + 1].madd_high(a[i], a[i]);
        }
        Self::folded(columns)
    }

    /// Reduces the columns of a product, each below 2^57.
    #[inline(always)]
    fn folded(mut columns: [L; 2 * LIMBS]) -> Self {
        let limb = L::splat(LIMB);
        // The upper half as limbs. (2^256 + 2^220)^2 leaves its highest below 2^45.
        for column in LIMBS..2 * LIMBS - 1 {
            columns[column + 1] = columns[column + 1].add(columns[column].shr(LIMB_BITS));
            columns[column] = columns[column].and(limb);
        }
        let fold = L::splat(FOLD_260);
        let mut t: [L; LIMBS] = each(
            #[inline(always)]
            |column| columns[column].madd_low(columns[column + LIMBS], fold),
        );
        for column in 0..LIMBS - 1 {
            t[column + 1] = t[column + 1].madd_high(columns[column + LIMBS], fold);
        }
        // Below 2^30: it stands at 2^260.
        let over = L::splat(0).madd_high(columns[2 * LIMBS - 1], fold);
        let above = t[LIMBS - 1].shr(TOP_BITS).add(over.shl(LIMB_BITS - TOP_BITS));
        let fold = L::splat(FOLD_256);
        t[LIMBS - 1] = t[LIMBS - 1].and(L::splat(TOP));
        t[0] = t[0].madd_low(above, fold);
        t[1] = t[1].madd_high(above, fold);
        Self(carried(t))
    }
}

impl<L: Lanes> Sum<L> {
    #[inline(always)]
    pub(crate) fn add(self, other: Fe<L>) -> Self {
        Self(zip(self.0, other.0, L::add))
    }

    #[inline(always)]
    pub(crate) fn sub(self, other: Fe<L>) -> Self {
        Self(zip(self.0, other.0, L::sub))
    }

    /// Adds, or subtracts in the lanes of the mask.
    #[inline(always)]
    pub(crate) fn add_or_sub(self, mask: Mask, other: Fe<L>) -> Self {
        Self(zip(
            self.0,
            other.0,
            #[inline(always)]
            |a, b| a.add(b.choose(mask, L::splat(0).sub(b))),
        ))
    }

    #[inline(always)]
    pub(crate) fn sub_sum(self, other: Self) -> Self {
        Self(zip(self.0, other.0, L::sub))
    }

    /// Doubles `times` times.
    #[inline(always)]
    pub(crate) fn doubled(self, times: u32) -> Self {
        Self(each(
            #[inline(always)]
            |limb| self.0[limb].shl(times),
        ))
    }

    /// As an element.
    #[inline(always)]
    pub(crate) fn carried(self) -> Fe<L> {
        // With 32 p, no limb is below zero, and each is below 2^58.
        let mut t: [L; LIMBS] = each(
            #[inline(always)]
            |limb| self.0[limb].add(L::splat(P[limb] << 5)),
        );
        let above = t[LIMBS - 1].shr(TOP_BITS);
        t[LIMBS - 1] = t[LIMBS - 1].and(L::splat(TOP));
        t[0] = t[0].madd_low(above, L::splat(FOLD_256));
        Fe(carried(t))
    }
}

/// Limbs of 52 bits of 256 bits.
#[inline(always)]
pub(crate) fn limbs_of<L: Lanes>(words: [L; 4]) -> [L; LIMBS] {
    let [a, b, c, d] = words;
    let limb = L::splat(LIMB);
    [
        a.and(limb),
        a.shr(52).or(b.shl(12)).and(limb),
        b.shr(40).or(c.shl(24)).and(limb),
        c.shr(28).or(d.shl(36)).and(limb),
        d.shr(16),
    ]
}

/// 256 bits of limbs of 52 bits.
#[inline(always)]
pub(crate) fn words_of<L: Lanes>(limbs: [L; LIMBS]) -> [L; 4] {
    let [a, b, c, d, e] = limbs;
    [a.or(b.shl(52)), b.shr(12).or(c.shl(40)), c.shr(24).or(d.shl(28)), d.shr(36).or(e.shl(16))]
}

/// Squares each of some elements `times` times. They are taken in turn, as each square has to wait for the one before.
#[inline(always)]
fn squared<L: Lanes, const N: usize>(mut x: [Fe<L>; N], times: u32) -> [Fe<L>; N] {
    for _ in 0..times {
        for x in &mut x {
            *x = x.square();
        }
    }
    x
}

#[inline(always)]
fn times<L: Lanes, const N: usize>(a: [Fe<L>; N], b: [Fe<L>; N]) -> [Fe<L>; N] {
    let mut products = a;
    for (product, b) in products.iter_mut().zip(b) {
        *product = product.mul(b);
    }
    products
}

/// `x^(2^223 - 1)`, and `x^(2^22 - 1)` and `x^3` on the way.
#[inline(always)]
fn ones<L: Lanes, const N: usize>(x: [Fe<L>; N]) -> [[Fe<L>; N]; 3] {
    // `xn` is x^(2^n - 1).
    let x2 = times(squared(x, 1), x);
    let x3 = times(squared(x2, 1), x);
    let x6 = times(squared(x3, 3), x3);
    let x9 = times(squared(x6, 3), x3);
    let x11 = times(squared(x9, 2), x2);
    let x22 = times(squared(x11, 11), x11);
    let x44 = times(squared(x22, 22), x22);
    let x88 = times(squared(x44, 44), x44);
    let x176 = times(squared(x88, 88), x88);
    let x220 = times(squared(x176, 44), x44);
    let x223 = times(squared(x220, 3), x3);
    [x223, x22, x2]
}

/// The square root of each of `N` elements, if it has one; else that of its negative. (`x^((p + 1) / 4)`.)
#[inline(never)]
pub(crate) fn square_roots<L: Lanes, const N: usize>(x: &mut [Fe<L>; N]) {
    L::compiled(
        #[inline(always)]
        || {
            let [x223, x22, x2] = ones(*x);
            let t = times(squared(x223, 23), x22);
            let t = times(squared(t, 6), x2);
            *x = squared(t, 2);
        },
    );
}

/// One over an element; zero for zero. (`x^(p - 2)`.)
#[inline(never)]
pub(crate) fn inverse<L: Lanes>(x: &mut Fe<L>) {
    L::compiled(
        #[inline(always)]
        || {
            let one = [*x];
            let [x223, x22, x2] = ones(one);
            let t = times(squared(x223, 23), x22);
            let t = times(squared(t, 5), one);
            let t = times(squared(t, 3), x2);
            [*x] = times(squared(t, 2), one);
        },
    );
}
