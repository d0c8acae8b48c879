//! Eight 64-bit words at a time: what the arithmetic is written in.

use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(test, feature = "torture"))]
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(test)]
pub(crate) use portable::Portable;

/// How many lanes there are.
pub(crate) const LANES: usize = 8;

/// One bit a lane, the first lane's lowest.
pub(crate) type Mask = u8;

/// That this processor has the instructions for a kind of words. Whatever works with them is behind a function that asks for this.
#[derive(Debug)]
pub(crate) struct There<W>(PhantomData<fn() -> W>);

impl<W: Words> There<W> {
    pub(crate) fn detect() -> Option<Self> {
        W::is_there().then_some(Self(PhantomData))
    }
}

impl<W> Clone for There<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for There<W> {}

/// Some unsigned 64-bit words, one a lane: what hashing needs.
///
/// Every method is inlined, so that a whole computation becomes one function. That function has to be compiled for the processor's
/// features: [`Words::compiled`] does this for all that is inlined into its closure.
pub(crate) trait Words: Copy {
    /// How many there are: 4 or 8.
    const COUNT: usize;

    /// Whether this processor and its operating system have the instructions.
    fn is_there() -> bool;

    /// Runs a closure that is compiled for the features that the methods need.
    fn compiled<R>(run: impl FnOnce() -> R) -> R;

    fn splat(value: u64) -> Self;
    /// Reads the words from `at` on.
    fn load(values: &[u64; LANES], at: usize) -> Self;
    /// Writes the words from `at` on.
    fn store(self, values: &mut [u64; LANES], at: usize);

    fn xor(self, other: Self) -> Self;
    /// `self ^ second ^ third`.
    fn xor3(self, second: Self, third: Self) -> Self;
    /// `self ^ (!second & third)`.
    fn chi(self, second: Self, third: Self) -> Self;
    fn rotate_left<const BITS: i32>(self) -> Self;
}

/// Eight unsigned 64-bit words, one a lane. All arithmetic wraps.
pub(crate) trait Lanes: Words + Send + Sync + 'static {
    fn new(values: [u64; LANES]) -> Self;
    fn values(self) -> [u64; LANES];

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    /// Shifts each lane by the same number of bits, below 64.
    fn shl(self, bits: u32) -> Self;
    /// Shifts each lane by the same number of bits, below 64.
    fn shr(self, bits: u32) -> Self;

    /// Adds the low 52 bits of the product of the low 52 bits of two words.
    fn madd_low(self, a: Self, b: Self) -> Self;
    /// Adds the high 52 bits of the product of the low 52 bits of two words.
    fn madd_high(self, a: Self, b: Self) -> Self;

    /// The lanes that are zero.
    fn zeros(self) -> Mask;
    /// The lanes that have any of these bits.
    fn tests(self, bits: Self) -> Mask;
    /// The lanes of `chosen` where the mask is set, others of `self`.
    fn choose(self, mask: Mask, chosen: Self) -> Self;

    /// Turns eight rows, each of which becomes a lane, into eight columns.
    fn columns(rows: [&[u64; LANES]; LANES]) -> [Self; LANES];
}

/// An array of lanes by their index. (Unlike the standard library's functions, it becomes part of the function that it is called in, whatever the
/// compiler thinks of its size: only there is it compiled for the processor's features.)
#[inline(always)]
pub(crate) fn each<L: Lanes, const N: usize>(at: impl Fn(usize) -> L) -> [L; N] {
    let mut all = [L::splat(0); N];
    for index in 0..N {
        all[index] = at(index);
    }
    all
}

/// Numbers that are the same in all lanes.
#[inline(always)]
pub(crate) fn splat_all<L: Lanes, const N: usize>(values: [u64; N]) -> [L; N] {
    each(
        #[inline(always)]
        |index| L::splat(values[index]),
    )
}

/// Turns eight columns into eight rows, a lane each: the inverse of [`Lanes::columns`].
#[inline(always)]
pub(crate) fn rows<L: Lanes>(columns: [L; LANES]) -> [[u64; LANES]; LANES] {
    let mut values = [[0; LANES]; LANES];
    for (values, column) in values.iter_mut().zip(columns) {
        *values = column.values();
    }
    let [a, b, c, d, e, f, g, h] = &values;
    let turned = L::columns([a, b, c, d, e, f, g, h]);
    for (values, row) in values.iter_mut().zip(turned) {
        *values = row.values();
    }
    values
}
