//! Lanes in plain Rust: for tests of everything that is built on them, on any machine.

use std::{array::from_fn, marker::PhantomData};

use super::{LANES, Lanes, Mask, There, Words};

const LOW_52: u64 = (1 << 52) - 1;

/// Eight words in an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([u64; LANES]);

impl There<Portable> {
    pub(crate) const ALWAYS: Self = Self(PhantomData);
}

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(u64) -> u64) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self(from_fn(|lane| f(self.0[lane], other.0[lane])))
    }

    #[inline(always)]
    fn mask(f: impl Fn(usize) -> bool) -> Mask {
        (0..LANES).map(|lane| u8::from(f(lane)) << lane).sum()
    }
}

#[inline(always)]
fn product(a: u64, b: u64) -> u128 {
    u128::from(a & LOW_52) * u128::from(b & LOW_52)
}

impl Words for Portable {
    const COUNT: usize = LANES;

    fn is_there() -> bool {
        true
    }

    #[inline(always)]
    fn compiled<R>(run: impl FnOnce() -> R) -> R {
        run()
    }

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[u64; LANES], _at: usize) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn store(self, values: &mut [u64; LANES], _at: usize) {
        *values = self.0;
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }

    #[inline(always)]
    fn xor3(self, second: Self, third: Self) -> Self {
        self.xor(second).xor(third)
    }

    #[inline(always)]
    fn chi(self, other: Self, third: Self) -> Self {
        self.xor(other.zip(third, |b, c| !b & c))
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self) -> Self {
        self.map(|a| a.rotate_left(BITS.unsigned_abs()))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn new(values: [u64; LANES]) -> Self {
        Self(values)
    }

    #[inline(always)]
    fn values(self) -> [u64; LANES] {
        self.0
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        self.map(|a| a << bits)
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        self.map(|a| a >> bits)
    }

    #[inline(always)]
    fn madd_low(self, a: Self, b: Self) -> Self {
        self.add(a.zip(b, |a, b| product(a, b) as u64 & LOW_52))
    }

    #[inline(always)]
    fn madd_high(self, a: Self, b: Self) -> Self {
        self.add(a.zip(b, |a, b| (product(a, b) >> 52) as u64))
    }

    #[inline(always)]
    fn zeros(self) -> Mask {
        Self::mask(|lane| self.0[lane] == 0)
    }

    #[inline(always)]
    fn tests(self, bits: Self) -> Mask {
        !self.and(bits).zeros()
    }

    #[inline(always)]
    fn choose(self, mask: Mask, chosen: Self) -> Self {
        Self(from_fn(|lane| if mask >> lane & 1 == 1 { chosen.0[lane] } else { self.0[lane] }))
    }

    #[inline(always)]
    fn columns(rows: [&[u64; LANES]; LANES]) -> [Self; LANES] {
        from_fn(|column| Self(from_fn(|lane| rows[lane][column])))
    }
}
