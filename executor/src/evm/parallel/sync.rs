//! What threads meet by. The models in `executor/model` put loom's in its place.

pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

use parking_lot::MutexGuard;
pub(super) use parking_lot::{Condvar, Mutex};

/// A lock that threads try for, and do without if another has it.
pub(super) type Turn<T> = Mutex<T>;

/// How often a thread looks before it sleeps: a few microseconds.
pub(super) const LOOKS: usize = 200;

/// How far ahead of the front items are run; bounds what is kept of them.
pub(super) const AHEAD: usize = 256;

/// How many items a thread takes at once where runs hardly ever fail.
pub(super) const TAKEN: usize = 8;

/// A thread takes no more items when those that it took cost this much. In gas: some twenty microseconds.
pub(super) const ENOUGH: u64 = 400_000;

/// Sleeps until it is woken, and perhaps for no reason.
pub(super) fn sleep<'a, T>(sleepers: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    sleepers.wait(&mut guard);
    guard
}
