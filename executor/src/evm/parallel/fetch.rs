//! What transactions are known to need, read ahead of the front by threads that have nothing to run.
//!
//! The accounts of transactions are handed over; what else is read the reader keeps.

use std::{
    mem,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use millrace_proto::AccountInfo;
use parking_lot::Mutex;

/// So many transactions' accounts are read by one thread and handed over at once: what goes from thread to thread piece by piece costs more
/// than reading it.
const CHUNK: usize = 64;

/// A transaction's sender and the account that it calls, as they were before the block; the sender again, if it creates one.
pub(super) type Parties = [Option<AccountInfo>; 2];

/// What was read for the transactions of a stretch.
pub(super) struct Fetches(Vec<Chunk>);

#[derive(Default)]
struct Chunk {
    /// A thread reads it, or has.
    taken: AtomicBool,
    /// Empty until it is read; `None` for what was not read, as it will be run ahead, and for what could not be.
    parties: Mutex<Vec<Option<Parties>>>,
}

/// The chunk where the front is.
#[derive(Default)]
pub(super) struct Fetched {
    parties: Vec<Option<Parties>>,
}

impl Fetches {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count.div_ceil(CHUNK)).map(|_| Chunk::default()).collect())
    }

    /// Reads the chunk of the transaction at an index, unless another thread does, or the front would be there first.
    pub(super) fn fetch(&self, at: usize, front: usize, read: impl Fn(usize) -> Option<Parties>) {
        let first = at - at % CHUNK;
        let Some(chunk) = self.0.get(at / CHUNK) else { return };
        let taken = chunk.taken.load(Ordering::Relaxed);
        if taken
            || front.saturating_add(CHUNK / 2) > first
            || chunk.taken.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let parties = (first..first + CHUNK).map(read).collect();
        *chunk.parties.lock() = parties;
    }

    /// The first transaction of each chunk that these are in.
    pub(super) fn firsts(items: Range<usize>) -> impl Iterator<Item = usize> {
        let first = items.start - items.start % CHUNK;
        (first..items.end).step_by(CHUNK)
    }
}

impl Fetched {
    /// What was read for the next transaction, which is at this index.
    pub(super) fn next(&mut self, fetches: &Fetches, at: usize) -> Option<&Parties> {
        if at.is_multiple_of(CHUNK) {
            let chunk = fetches.0.get(at / CHUNK);
            self.parties =
                chunk.map(|chunk| mem::take(&mut *chunk.parties.lock())).unwrap_or_default();
        }
        self.parties.get(at % CHUNK)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_chunk_is_read_once_and_handed_over() {
        let fetches = Fetches::new(3 * CHUNK);
        let read = RefCell::new(Vec::new());
        for at in [CHUNK + 3, CHUNK, 2 * CHUNK - 1] {
            fetches.fetch(at, 0, |at| {
                read.borrow_mut().push(at);
                (at % 2 == 0).then_some([None, None])
            });
        }
        assert_eq!(*read.borrow(), (CHUNK..2 * CHUNK).collect::<Vec<_>>());
        let mut fetched = Fetched::default();
        for at in 0..3 * CHUNK {
            let there = at / CHUNK == 1 && at % 2 == 0;
            assert_eq!(fetched.next(&fetches, at).is_some(), there, "{at}");
        }
    }

    #[test]
    fn a_range_is_in_all_chunks_that_it_touches() {
        let firsts: Vec<_> = Fetches::firsts(2 * CHUNK - 1..3 * CHUNK + 1).collect();
        assert_eq!(firsts, [CHUNK, 2 * CHUNK, 3 * CHUNK]);
        assert_eq!(Fetches::firsts(0..0).count(), 0);
    }

    #[test]
    fn where_the_front_would_be_first_nothing_is_read() {
        let fetches = Fetches::new(3 * CHUNK);
        for front in [CHUNK - CHUNK / 2 + 1, CHUNK, 3 * CHUNK, usize::MAX] {
            fetches.fetch(CHUNK, front, |_| unreachable!("it is too late"));
        }
    }
}
