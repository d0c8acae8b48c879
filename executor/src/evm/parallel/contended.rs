//! Places of the state that transactions contend for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Places that runs ahead were wrong about, in this block and in those before it, by a hash of their key. A place may be taken for one of
/// them, which costs a little and changes no result.
pub(super) struct Contended {
    bits: Box<[AtomicU64]>,
    count: AtomicUsize,
}

impl Contended {
    /// 8 KiB of bits.
    const BITS: usize = 1 << 16;
    /// With more marks than this too many places would be taken for contended ones.
    const MOST: usize = Self::BITS / 16;

    pub(super) fn mark(&self, hash: u64) {
        let (word, bit) = self.bit(hash);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0
            && self.count.fetch_add(1, Ordering::Relaxed) == Self::MOST
        {
            self.forget();
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.bit(hash);
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        self.bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.count.store(0, Ordering::Relaxed);
    }

    fn bit(&self, hash: u64) -> (&AtomicU64, u64) {
        let bit = (hash >> 16) as usize % Self::BITS;
        (&self.bits[bit / 64], 1 << (bit % 64))
    }
}

impl Default for Contended {
    fn default() -> Self {
        let bits = (0..Self::BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self { bits, count: AtomicUsize::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_there_are_too_many() {
        let contended = Contended::default();
        let place = |number: usize| (number as u64) << 16;
        for number in 0..Contended::MOST {
            assert!(!contended.has(place(number)));
            contended.mark(place(number));
            contended.mark(place(number));
        }
        assert!((0..Contended::MOST).all(|number| contended.has(place(number))));
        contended.mark(place(Contended::MOST));
        assert!(contended.has(place(Contended::MOST)) && !contended.has(place(0)));
    }
}
