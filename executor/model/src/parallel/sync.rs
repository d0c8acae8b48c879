//! loom's locks and atomics, with the calls that the executor uses.

pub(super) use loom::{
    hint::spin_loop,
    sync::{
        Condvar, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
};

pub(super) const LOOKS: usize = 1;

pub(super) const AHEAD: usize = 2;

pub(super) const TAKEN: usize = 2;

pub(super) const ENOUGH: u64 = 2;

#[derive(Debug)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread panics")
    }
}

pub(super) fn sleep<'a, T>(sleepers: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    sleepers.wait(guard).expect("no thread panics")
}

/// A lock to try for. Giving it back is a step that others can come before: loom's own lock does not count it as one, and so would
/// not try what happens when a thread finds the lock taken at that very moment.
#[derive(Debug)]
pub(super) struct Turn<T> {
    taken: AtomicBool,
    value: Mutex<T>,
}

pub(super) struct TurnGuard<'a, T> {
    taken: Option<&'a AtomicBool>,
    value: Option<MutexGuard<'a, T>>,
}

impl<T> Turn<T> {
    pub(super) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: Mutex::new(value) }
    }

    pub(super) fn try_lock(&self) -> Option<TurnGuard<'_, T>> {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.taken.compare_exchange(false, true, success, failure);
        taken
            .is_ok()
            .then(|| TurnGuard { taken: Some(&self.taken), value: Some(self.value.lock()) })
    }

    /// Waits for the lock; for when nobody tries any more, or may wait as well.
    pub(super) fn lock(&self) -> TurnGuard<'_, T> {
        TurnGuard { taken: None, value: Some(self.value.lock()) }
    }
}

impl<T> Drop for TurnGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.value.take());
        if let Some(taken) = self.taken {
            taken.store(false, Ordering::Release);
        }
    }
}

impl<T> std::ops::Deref for TurnGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until the guard is dropped")
    }
}

impl<T> std::ops::DerefMut for TurnGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until the guard is dropped")
    }
}
