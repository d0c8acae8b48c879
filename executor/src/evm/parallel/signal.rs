//! Waiting for the front to reach a place, without spinning.

use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::{Condvar, Mutex};

/// Looks this often before it sleeps: a few microseconds.
const LOOKS: usize = 200;

/// A count that only grows, and that threads can wait for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    reached: AtomicUsize,
    /// The least count that someone sleeps for.
    awaited: AtomicUsize,
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self { awaited: AtomicUsize::new(usize::MAX), ..Self::default() }
    }

    pub(super) fn get(&self) -> usize {
        self.reached.load(Ordering::Acquire)
    }

    /// Only one thread at a time sets.
    pub(super) fn set(&self, count: usize) {
        self.reached.store(count, Ordering::Release);
        // Either this sees who sleeps, or who is about to sleep sees the count.
        fence(Ordering::SeqCst);
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
            std::hint::spin_loop();
        }
        let mut lock = self.lock.lock();
        loop {
            self.awaited.fetch_min(count, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.get() >= count {
                return;
            }
            self.sleepers.wait(&mut lock);
        }
    }
}
