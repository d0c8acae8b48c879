//! The process's allocator: mimalloc, also for C and C++ (`override` in Cargo.toml), and what is allocated while a benchmark counts.

use std::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_long,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use millrace_workload::bench::{Allocated, AllocationMeter};
use mimalloc::MiMalloc;

/// mimalloc, which counts while it is told to; else that costs one load a call.
///
/// Bytes are those that were asked for. What is freed counts against them, whenever it was allocated.
#[derive(Debug)]
pub(crate) struct Allocator {
    counts: AtomicBool,
    calls: AtomicU64,
    /// Allocated less freed since the start.
    live: AtomicI64,
    peak: AtomicI64,
}

/// `mi_option_purge_delay` (`mimalloc.h`, version 3): milliseconds after which freed memory goes back to the system.
const PURGE_DELAY: mi_option_t = 15;
/// Batches and blocks come every second or so, and take what the ones before them had. With mimalloc's own second the system took it away, and cleared it again, for each.
const KEPT_MILLIS: c_long = 10_000;

/// Has memory kept for a while that is used again and again, unless `MIMALLOC_PURGE_DELAY` says something else. To be called before there are other threads.
pub(crate) fn keep_memory() {
    // SAFETY: options are numbers in a table, this one is in it, and nobody else changes them.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MILLIS) };
}

impl Allocator {
    pub(crate) const fn new() -> Self {
        Self {
            counts: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            live: AtomicI64::new(0),
            peak: AtomicI64::new(0),
        }
    }

    /// Counts `new` bytes in place of `old` ones, if the allocation succeeded.
    fn allocated(&self, pointer: *mut u8, old: usize, new: usize) -> *mut u8 {
        if self.counts.load(Relaxed) && !pointer.is_null() {
            self.calls.fetch_add(1, Relaxed);
            self.change(new as i64 - old as i64);
        }
        pointer
    }

    fn change(&self, bytes: i64) {
        let live = self.live.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(live, Relaxed);
    }
}

impl AllocationMeter for Allocator {
    fn start(&self) {
        self.calls.store(0, Relaxed);
        self.live.store(0, Relaxed);
        self.peak.store(0, Relaxed);
        self.counts.store(true, Relaxed);
    }

    fn stop(&self) -> Allocated {
        self.counts.store(false, Relaxed);
        let peak = self.peak.load(Relaxed).try_into().unwrap_or_default();
        Allocated { calls: self.calls.load(Relaxed), peak }
    }
}

// SAFETY: every call goes to mimalloc, and what it answers is given on unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        let pointer = unsafe { MiMalloc.alloc(layout) };
        self.allocated(pointer, 0, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        let pointer = unsafe { MiMalloc.alloc_zeroed(layout) };
        self.allocated(pointer, 0, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`; the pointer came from mimalloc, as every one does.
        let pointer = unsafe { MiMalloc.realloc(pointer, layout, size) };
        self.allocated(pointer, layout.size(), size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the pointer came from mimalloc, as every one does.
        unsafe { MiMalloc.dealloc(pointer, layout) };
        if self.counts.load(Relaxed) {
            self.change(-(layout.size() as i64));
        }
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    /// No other option of mimalloc's is a second by default.
    #[test]
    fn memory_is_kept_by_the_option_that_is_meant() {
        // SAFETY: both only read and write the table of options.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1_000);
        keep_memory();
        assert_eq!(get(), KEPT_MILLIS);
    }

    #[test]
    fn calls_and_the_most_bytes_are_counted_between_start_and_stop() {
        let allocator = Allocator::new();
        let of = |size| Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: no size is zero, and every pointer is given back with the layout that it has.
        unsafe {
            let before = allocator.alloc(of(100));
            assert_eq!(allocator.stop(), Allocated::default());

            allocator.start();
            let first = allocator.alloc(of(1000));
            let second = allocator.alloc_zeroed(of(500));
            let first = allocator.realloc(first, of(1000), 2000);
            allocator.dealloc(second, of(500));
            let third = allocator.alloc(of(100));
            allocator.dealloc(first, of(2000));
            assert_eq!(allocator.stop(), Allocated { calls: 4, peak: 2500 });

            allocator.dealloc(third, of(100));
            allocator.start();
            allocator.dealloc(before, of(100));
            let last = allocator.alloc(of(70));
            allocator.dealloc(last, of(70));
            assert_eq!(allocator.stop(), Allocated { calls: 1, peak: 0 });
        }
    }

    #[test]
    fn the_process_allocates_through_it() {
        let meter: &dyn AllocationMeter = &crate::ALLOCATOR;
        meter.start();
        let bytes = std::hint::black_box(vec![1_u8; 1 << 20]);
        let allocated = meter.stop();
        assert!(allocated.calls >= 1 && allocated.peak >= 1 << 19, "{allocated:?}");
        drop(bytes);
    }
}
