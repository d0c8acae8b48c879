//! Four words in a register of AVX2: enough to hash with.

use std::arch::x86_64::*;

use super::{LANES, Words};

/// Four words in a register.
///
/// Its methods may run only where there is a [`There<Avx2>`](super::There).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(__m256i);

/// Each intrinsic is called where the processor has its instruction.
macro_rules! there {
    ($value:expr) => {
        // SAFETY: these words are used only where there is a `There<Avx2>`.
        unsafe { $value }
    };
}

impl Words for Avx2 {
    const COUNT: usize = 4;

    fn is_there() -> bool {
        is_x86_feature_detected!("avx2")
    }

    #[inline(always)]
    fn compiled<R>(run: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn compiled<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        debug_assert!(Self::is_there(), "nothing that has no `There` works with lanes");
        there!(compiled(run))
    }

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(there!(_mm256_set1_epi64x(value.cast_signed())))
    }

    #[inline(always)]
    fn load(values: &[u64; LANES], at: usize) -> Self {
        let half = if at == 0 { &values[..4] } else { &values[4..] };
        // SAFETY: as many bytes are read as the half has; otherwise as above.
        Self(unsafe { _mm256_loadu_si256(half.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, values: &mut [u64; LANES], at: usize) {
        let half = if at == 0 { &mut values[..4] } else { &mut values[4..] };
        // SAFETY: as many bytes are written as the half has; otherwise as above.
        unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), self.0) };
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(there!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn xor3(self, second: Self, third: Self) -> Self {
        self.xor(second).xor(third)
    }

    #[inline(always)]
    fn chi(self, second: Self, third: Self) -> Self {
        self.xor(Self(there!(_mm256_andnot_si256(second.0, third.0))))
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        let left = there!(_mm256_sll_epi64(self.0, _mm_cvtsi32_si128(BITS)));
        let right = there!(_mm256_srl_epi64(self.0, _mm_cvtsi32_si128(64 - BITS)));
        Self(there!(_mm256_or_si256(left, right)))
    }
}
