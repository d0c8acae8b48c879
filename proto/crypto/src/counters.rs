//! What has been done in lanes and what has not: for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What this process has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Signatures whose signer was looked for in lanes.
    pub recovered_in_lanes: u64,
    /// Lanes in use for those and the next. More than there are signatures, as some of a batch's last lanes are left over: signatures over
    /// lanes is how full batches are.
    pub recovery_lanes: u64,
    /// Signatures that went on to libsecp256k1 as the lanes' formulas are not made for their sums. Nobody makes such signatures by chance.
    pub fallbacks: u64,
    /// Signatures that went to libsecp256k1 as there were no lanes, or too few signatures for them.
    pub recovered_singly: u64,
    /// Messages hashed in lanes.
    pub hashed_in_lanes: u64,
    /// Lanes in use for them.
    pub hash_lanes: u64,
    /// Messages of batches that were hashed one by one.
    pub hashed_singly: u64,
}

/// Reads the counters.
pub fn counters() -> Counters {
    Counters {
        recovered_in_lanes: RECOVERED_IN_LANES.get(),
        recovery_lanes: RECOVERY_LANES.get(),
        fallbacks: FALLBACKS.get(),
        recovered_singly: RECOVERED_SINGLY.get(),
        hashed_in_lanes: HASHED_IN_LANES.get(),
        hash_lanes: HASH_LANES.get(),
        hashed_singly: HASHED_SINGLY.get(),
    }
}

/// A number that only grows, on a cache line of its own.
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

pub(crate) static RECOVERED_IN_LANES: Counter = Counter::new();
pub(crate) static RECOVERY_LANES: Counter = Counter::new();
pub(crate) static FALLBACKS: Counter = Counter::new();
pub(crate) static RECOVERED_SINGLY: Counter = Counter::new();
pub(crate) static HASHED_IN_LANES: Counter = Counter::new();
pub(crate) static HASH_LANES: Counter = Counter::new();
pub(crate) static HASHED_SINGLY: Counter = Counter::new();

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
