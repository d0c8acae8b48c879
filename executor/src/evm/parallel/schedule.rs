//! Who does what of a stretch, and in which order it takes effect. Knows nothing of transactions.
//!
//! Every thread does the same: it commits what is ready at the front, if no other thread is at it, and runs ahead
//! otherwise.

use crossbeam_utils::CachePadded;

use super::{
    signal::Signal,
    sync::{AtomicBool, AtomicU8, AtomicUsize, Ordering, Turn},
};

/// How far ahead of the front items are run; bounds what is kept of them.
pub(super) const AHEAD: usize = 256;

/// How far ahead of the front is read for items that are not run ahead. Far, as a thread that has come here sleeps: whom the front wakes
/// is late by what a hundred short items take.
const FETCHED: usize = 4096;

/// Nobody works on the item yet.
const WAITS: u8 = 0;
/// Somebody does.
const RUNS: u8 = 1;
/// It was run ahead.
const RAN: u8 = 2;

/// What there is to do.
pub(super) trait Work {
    /// What a thread works with.
    type Lane;
    /// What is changed only in order.
    type Front;

    /// Whether an item is worth running ahead.
    fn is_worth(&self, at: usize) -> bool;

    /// Reads what an item that is not run ahead is known to need, which changes nothing. Its turn may come meanwhile, or be over.
    fn fetch(&self, at: usize);

    /// Runs an item ahead of the front, which changes nothing.
    fn run_ahead(&self, lane: &mut Self::Lane, at: usize);

    /// Commits an item, which `ran` ahead or did not.
    fn commit(&self, lane: &mut Self::Lane, front: &mut Self::Front, at: usize, ran: bool) -> Step;

    /// A place where another thread may come between.
    fn meet(&self) {}
}

/// What became of an item at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Committed.
    Done,
    /// Committed; so many items after it should not be run ahead.
    Pause(usize),
    /// The stretch ends here.
    Stop,
}

/// The items of a stretch.
pub(super) struct Schedule<F> {
    states: Vec<AtomicU8>,
    /// Items before this are taken; only a hint.
    next: CachePadded<AtomicUsize>,
    /// Nothing is run ahead before the front is here.
    resume: AtomicUsize,
    committed: CachePadded<Signal>,
    /// Something failed: all stop.
    stopped: AtomicBool,
    front: CachePadded<Turn<Front<F>>>,
}

struct Front<F> {
    at: usize,
    inner: F,
}

enum Claim {
    Taken(usize),
    /// Nothing until the front is here.
    Later(usize),
    /// All are taken.
    None,
}

impl<F> Schedule<F> {
    /// Nothing is run ahead among the first `pause` items.
    pub(super) fn new(count: usize, pause: usize, front: F) -> Self {
        Self {
            states: (0..count).map(|_| AtomicU8::new(WAITS)).collect(),
            next: CachePadded::new(AtomicUsize::new(0)),
            resume: AtomicUsize::new(pause),
            committed: CachePadded::new(Signal::new()),
            stopped: AtomicBool::new(false),
            front: CachePadded::new(Turn::new(Front { at: 0, inner: front })),
        }
    }

    /// How many items are committed.
    pub(super) fn committed(&self) -> usize {
        self.committed.get()
    }

    /// Works until every item is committed or taken by another thread.
    pub(super) fn work<W: Work<Front = F>>(&self, work: &W, lane: &mut W::Lane) {
        loop {
            self.advance(work, lane);
            if self.is_over() {
                return;
            }
            work.meet();
            match self.claim(work) {
                Claim::Taken(at) => {
                    work.run_ahead(lane, at);
                    // See `advance`.
                    self.states[at].swap(RAN, Ordering::AcqRel);
                }
                Claim::Later(count) => self.committed.wait(count),
                Claim::None => return,
            }
        }
    }

    /// Waits until all is committed, or stopped, and gives the front to `take`.
    pub(super) fn finish<T>(&self, take: impl FnOnce(&mut F) -> T) -> T {
        self.committed.wait(self.states.len());
        take(&mut self.front.lock().inner)
    }

    /// Ends the stretch where it is, after telling the front why: who waits for the end is told as well.
    pub(super) fn fail(&self, tell: impl FnOnce(&mut F)) {
        let mut front = self.front.lock();
        tell(&mut front.inner);
        self.stop();
    }

    /// Ends the stretch where the front is.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.committed.set(usize::MAX);
    }

    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.committed.get() >= self.states.len()
    }

    /// Commits what is ready, if no other thread is at it.
    fn advance<W: Work<Front = F>>(&self, work: &W, lane: &mut W::Lane) {
        loop {
            let Some(mut front) = self.front.try_lock() else { return };
            let Some(at) = self.commit_ready(work, lane, &mut front) else { return };
            work.meet();
            drop(front);
            // The thread that runs the item at the front comes here when it is done. This looks whether it is by changing nothing: so
            // either it is seen to be done, or it sees that this came before, and the front with it that is free.
            if self.states[at].fetch_or(0, Ordering::AcqRel) != RAN {
                return;
            }
        }
    }

    /// Commits until the front is at an item that another thread runs, which is returned.
    fn commit_ready<W: Work<Front = F>>(
        &self,
        work: &W,
        lane: &mut W::Lane,
        front: &mut Front<F>,
    ) -> Option<usize> {
        loop {
            let at = front.at;
            if at == self.states.len() || self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let (success, failure) = (Ordering::Acquire, Ordering::Acquire);
            let ran = match self.states[at].compare_exchange(WAITS, RUNS, success, failure) {
                Ok(_) => false,
                Err(RAN) => true,
                Err(_) => return Some(at),
            };
            work.meet();
            match work.commit(lane, &mut front.inner, at, ran) {
                Step::Done => {}
                Step::Pause(count) => self.resume.store(at + 1 + count, Ordering::Relaxed),
                Step::Stop => {
                    self.stop();
                    return None;
                }
            }
            front.at += 1;
            self.committed.set(at + 1);
        }
    }

    /// Takes the next item to run ahead.
    fn claim<W: Work<Front = F>>(&self, work: &W) -> Claim {
        let count = self.states.len();
        let committed = self.committed.get();
        let resume = self.resume.load(Ordering::Relaxed);
        let first = self.next.load(Ordering::Relaxed).max(committed);
        let later = |at: usize, front: usize| {
            self.next.store(at, Ordering::Relaxed);
            Claim::Later(front.min(count))
        };
        for at in first..count {
            if at >= committed.saturating_add(FETCHED) {
                return later(at, committed + FETCHED / 2);
            }
            let state = &self.states[at];
            if state.load(Ordering::Relaxed) != WAITS {
                continue;
            }
            if !work.is_worth(at) {
                work.fetch(at);
                continue;
            }
            if committed < resume {
                return later(at, resume);
            }
            if at >= committed.saturating_add(AHEAD) {
                return later(at, at - AHEAD * 3 / 4);
            }
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            if state.compare_exchange(WAITS, RUNS, success, failure).is_ok() {
                self.next.store(at + 1, Ordering::Relaxed);
                return Claim::Taken(at);
            }
        }
        Claim::None
    }
}
