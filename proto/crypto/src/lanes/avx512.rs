//! Lanes in a register of AVX-512.

use std::arch::x86_64::*;

use super::{LANES, Lanes, Mask, Words};

/// Eight words in a register.
///
/// Its methods may run only where there is a [`There<Avx512>`](super::There).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(__m512i);

/// Each intrinsic is called where the processor has its instruction.
macro_rules! there {
    ($value:expr) => {
        // SAFETY: these lanes are used only where there is a `There<Avx512>`.
        unsafe { $value }
    };
}

impl Words for Avx512 {
    const COUNT: usize = LANES;

    fn is_there() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma")
    }

    #[inline(always)]
    fn compiled<R>(run: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
        fn compiled<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        debug_assert!(Self::is_there(), "nothing that has no `There` works with lanes");
        there!(compiled(run))
    }

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(there!(_mm512_set1_epi64(value.cast_signed())))
    }

    #[inline(always)]
    fn load(values: &[u64; LANES], _at: usize) -> Self {
        // SAFETY: as many bytes are read as the array has; otherwise as above.
        Self(unsafe { _mm512_loadu_si512(values.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, values: &mut [u64; LANES], _at: usize) {
        // SAFETY: as many bytes are written as the array has; otherwise as above.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), self.0) };
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(there!(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn xor3(self, second: Self, third: Self) -> Self {
        Self(there!(_mm512_ternarylogic_epi64::<0x96>(self.0, second.0, third.0)))
    }

    #[inline(always)]
    fn chi(self, other: Self, third: Self) -> Self {
        Self(there!(_mm512_ternarylogic_epi64::<0xd2>(self.0, other.0, third.0)))
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        Self(there!(_mm512_rol_epi64::<BITS>(self.0)))
    }
}

impl Lanes for Avx512 {
    #[inline(always)]
    fn new(values: [u64; LANES]) -> Self {
        Self::load(&values, 0)
    }

    #[inline(always)]
    fn values(self) -> [u64; LANES] {
        let mut values = [0; LANES];
        self.store(&mut values, 0);
        values
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(there!(_mm512_add_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(there!(_mm512_sub_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(there!(_mm512_and_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(there!(_mm512_or_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        Self(there!(_mm512_sll_epi64(self.0, _mm_cvtsi32_si128(bits.cast_signed()))))
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        Self(there!(_mm512_srl_epi64(self.0, _mm_cvtsi32_si128(bits.cast_signed()))))
    }

    #[inline(always)]
    fn madd_low(self, a: Self, b: Self) -> Self {
        Self(there!(_mm512_madd52lo_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn madd_high(self, a: Self, b: Self) -> Self {
        Self(there!(_mm512_madd52hi_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn zeros(self) -> Mask {
        there!(_mm512_testn_epi64_mask(self.0, self.0))
    }

    #[inline(always)]
    fn tests(self, bits: Self) -> Mask {
        there!(_mm512_test_epi64_mask(self.0, bits.0))
    }

    #[inline(always)]
    fn choose(self, mask: Mask, chosen: Self) -> Self {
        Self(there!(_mm512_mask_mov_epi64(self.0, mask, chosen.0)))
    }

    #[inline(always)]
    fn columns(rows: [&[u64; LANES]; LANES]) -> [Self; LANES] {
        let [a, b, c, d, e, f, g, h] = rows;
        let pairs = [
            pairs(Self::new(*a), Self::new(*b)),
            pairs(Self::new(*c), Self::new(*d)),
            pairs(Self::new(*e), Self::new(*f)),
            pairs(Self::new(*g), Self::new(*h)),
        ];
        let [c0, c2, c4, c6] = four_columns([pairs[0].0, pairs[1].0, pairs[2].0, pairs[3].0]);
        let [c1, c3, c5, c7] = four_columns([pairs[0].1, pairs[1].1, pairs[2].1, pairs[3].1]);
        [c0, c1, c2, c3, c4, c5, c6, c7]
    }
}

/// The even words of two rows, each beside that of the other; and the odd ones.
#[inline(always)]
fn pairs(a: Avx512, b: Avx512) -> (Avx512, Avx512) {
    let even = there!(_mm512_unpacklo_epi64(a.0, b.0));
    let odd = there!(_mm512_unpackhi_epi64(a.0, b.0));
    (Avx512(even), Avx512(odd))
}

/// The first and the third pair of words of two registers; and the second and the fourth.
#[inline(always)]
fn halves(a: Avx512, b: Avx512) -> (Avx512, Avx512) {
    let first = there!(_mm512_shuffle_i64x2::<0b10_00_10_00>(a.0, b.0));
    let second = there!(_mm512_shuffle_i64x2::<0b11_01_11_01>(a.0, b.0));
    (Avx512(first), Avx512(second))
}

/// Four columns of four pairs of rows.
#[inline(always)]
fn four_columns(pairs: [Avx512; 4]) -> [Avx512; 4] {
    let (low, high) = (halves(pairs[0], pairs[1]), halves(pairs[2], pairs[3]));
    let (first, third) = halves(low.0, high.0);
    let (second, fourth) = halves(low.1, high.1);
    [first, second, third, fourth]
}
