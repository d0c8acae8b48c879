//! Waiting for the front to reach a place, without spinning.

use super::sync::{AtomicUsize, Condvar, LOOKS, Mutex, Ordering, sleep, spin_loop};

/// A count that only grows, and that threads can wait for.
#[derive(Debug)]
pub(super) struct Signal {
    reached: AtomicUsize,
    /// The least count that someone sleeps for.
    awaited: AtomicUsize,
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self {
            reached: AtomicUsize::new(0),
            awaited: AtomicUsize::new(usize::MAX),
            lock: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }

    pub(super) fn get(&self) -> usize {
        self.reached.load(Ordering::Acquire)
    }

    /// Raises the count; a lower one than it has changes nothing.
    pub(super) fn set(&self, count: usize) {
        // Either this sees who sleeps, or who is about to sleep, and changes nothing here, sees the count.
        self.reached.fetch_max(count, Ordering::AcqRel);
        if count >= self.awaited.load(Ordering::Relaxed) {
            // Under the lock, so that nobody's wish is overwritten.
            let lock = self.lock.lock();
            self.awaited.store(usize::MAX, Ordering::Relaxed);
            self.sleepers.notify_all();
            drop(lock);
        }
    }

    /// Waits until the count is at least `count`.
    pub(super) fn wait(&self, count: usize) {
        for _ in 0..LOOKS {
            if self.get() >= count {
                return;
            }
            spin_loop();
        }
        let mut lock = self.lock.lock();
        loop {
            self.awaited.fetch_min(count, Ordering::Relaxed);
            if self.reached.fetch_or(0, Ordering::AcqRel) >= count {
                return;
            }
            lock = sleep(&self.sleepers, lock);
        }
    }
}
