//! Who does what of a stretch, and in which order it takes effect. Knows nothing of transactions.
//!
//! Every thread does the same: it commits what is ready at the front, if no other thread is at it, and runs ahead
//! otherwise.

use std::ops::Range;

use crossbeam_utils::CachePadded;

use super::{
    signal::Signal,
    sync::{AHEAD, AtomicBool, AtomicU8, AtomicUsize, ENOUGH, Ordering, TAKEN, Turn},
};

/// How far ahead of the front is read for items that are not run ahead. Far, as a thread that has come here sleeps: whom the front wakes
/// is late by what a hundred short items take.
const FETCHED: usize = 4096;

/// Nobody works on the item yet.
const WAITS: u8 = 0;
/// Somebody does.
const RUNS: u8 = 1;
/// It was run ahead, by the thread whose number is added.
const RAN: u8 = 2;

/// What there is to do.
pub(super) trait Work {
    /// What a thread works with.
    type Lane;
    /// What is changed only in order.
    type Front;

    /// Whether runs hardly ever depend on each other. Then there is no hurry to commit them: the thread that ran an item commits it, so
    /// that what it made of the item stays where it is.
    fn is_calm(&self) -> bool;

    /// Whether an item is worth running ahead.
    fn is_worth(&self, at: usize) -> bool;

    /// An earlier item, without whose result this one would probably be run in vain.
    fn needs(&self, at: usize) -> Option<usize>;

    /// The first item that needs this one.
    fn needed_by(&self, at: usize) -> Option<usize>;

    /// Reads what an item that is not run ahead is known to need, which changes nothing. Its turn may come meanwhile, or be over.
    fn fetch(&self, at: usize);

    /// The same for items that a thread would run ahead, had it not to wait until so many are committed.
    fn fetch_waiting(&self, items: Range<usize>, until: usize);

    /// Runs an item ahead of the front, which changes nothing. Gives what it cost, in gas.
    fn run_ahead(&self, lane: &mut Self::Lane, at: usize) -> u64;

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
    count: usize,
    states: Vec<States>,
    /// Nothing is run ahead before the front is here.
    resume: AtomicUsize,
    /// Something failed: all stop.
    stopped: AtomicBool,
    /// The asking thread waits, or has left.
    rests: AtomicBool,
    /// How many threads have come to work.
    threads: AtomicUsize,
    /// Items before this are taken, about to be, or need others; only a hint.
    next: CachePadded<AtomicUsize>,
    committed: CachePadded<Signal>,
    front: CachePadded<Turn<Front<F>>>,
}

/// On a cache line of their own, as a thread takes them together.
#[repr(align(64))]
struct States([AtomicU8; TAKEN]);

struct Front<F> {
    at: usize,
    inner: F,
}

/// What a thread is to do next.
enum Task {
    /// Run the first of these items, which is taken, and the others as far as nobody has them.
    Run(Range<usize>),
    /// Nothing until the front is here, or nothing more: the rest is taken, or comes one after the other. What some items need that wait can
    /// be read.
    Rest { until: Option<usize>, waiting: Range<usize> },
}

impl Task {
    const fn wait(until: usize, waiting: Range<usize>) -> Self {
        Self::Rest { until: Some(until), waiting }
    }
}

/// Which thread works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that has asked for the items, and takes what becomes of them. In pauses it has the front, so that what it makes of the items,
    /// and frees later, is made and freed on one thread.
    Asks,
    /// Another.
    Helps,
}

/// Where committing comes to an end, for now.
enum Halt {
    /// At the end, or at an item that another thread is to commit.
    Over,
    /// At an item that another thread runs.
    Running(usize),
    /// At the start of a pause.
    Pause,
}

/// Whose runs a thread commits.
#[derive(Clone, Copy)]
enum Whose {
    /// Those with this state.
    Own(u8),
    All,
}

impl<F> Schedule<F> {
    /// Nothing is run ahead among the first `pause` items.
    pub(super) fn new(count: usize, pause: usize, front: F) -> Self {
        Self {
            count,
            states: (0..count.div_ceil(TAKEN))
                .map(|_| States(std::array::from_fn(|_| AtomicU8::new(WAITS))))
                .collect(),
            resume: AtomicUsize::new(pause),
            stopped: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            next: CachePadded::new(AtomicUsize::new(0)),
            committed: CachePadded::new(Signal::new()),
            front: CachePadded::new(Turn::new(Front { at: 0, inner: front })),
        }
    }

    fn state(&self, at: usize) -> &AtomicU8 {
        &self.states[at / TAKEN].0[at % TAKEN]
    }

    /// How many items are committed.
    pub(super) fn committed(&self) -> usize {
        self.committed.get()
    }

    /// Works until every item is committed or taken by another thread, or left to one that does those before it.
    pub(super) fn work<W: Work<Front = F>>(&self, work: &W, lane: &mut W::Lane, role: Role) {
        // Threads that share a number commit each other's items, which is right as well.
        let number = self.threads.fetch_add(1, Ordering::Relaxed) % usize::from(u8::MAX - RAN);
        let ran = RAN + number as u8;
        let mut cost = 0;
        loop {
            // While this thread was long at something, others may have waited for the front.
            let calm = work.is_calm() && cost < ENOUGH;
            self.advance(work, lane, role, if calm { Whose::Own(ran) } else { Whose::All });
            if self.is_over() {
                return;
            }
            work.meet();
            let (until, waiting) = match self.task(work, calm) {
                Task::Run(items) => {
                    cost = self.run_ahead(work, lane, items, ran);
                    continue;
                }
                Task::Rest { until, waiting } => (until, waiting),
            };
            // Others may have left the front to this thread, or in calm counted on it for what they ran. Those that come from now on see
            // that it rests; what others left before is seen here.
            if role == Role::Asks {
                self.rests.swap(true, Ordering::AcqRel);
            }
            if calm || role == Role::Asks {
                self.advance(work, lane, role, Whose::All);
            }
            work.fetch_waiting(waiting, until.unwrap_or(self.count));
            let Some(until) = until else { return };
            self.committed.wait(until);
            if role == Role::Asks {
                self.rests.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Waits until all is committed, or stopped, and gives the front to `take`.
    pub(super) fn finish<T>(&self, take: impl FnOnce(&mut F) -> T) -> T {
        self.committed.wait(self.count);
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
        self.stopped.load(Ordering::Acquire) || self.committed.get() >= self.count
    }

    /// Commits what is ready, if no other thread is at it.
    fn advance<W: Work<Front = F>>(&self, work: &W, lane: &mut W::Lane, role: Role, whose: Whose) {
        while !(role == Role::Helps && self.is_left_to_who_asks()) {
            let Some(mut front) = self.front.try_lock() else { return };
            let halt = self.commit_ready(work, lane, &mut front, role, whose);
            work.meet();
            drop(front);
            match halt {
                Halt::Over => return,
                Halt::Pause => {}
                // The thread that runs the item at the front comes here when it is done. This looks whether it is by changing nothing: so
                // either it is seen to be done, or it sees that this came before, and the front with it that is free.
                Halt::Running(at) => {
                    if self.state(at).fetch_or(0, Ordering::AcqRel) == RUNS {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there is a pause, in which the asking thread comes to the front by itself. This looks by changing nothing: either the thread
    /// is seen to rest, or it sees, when it comes to rest, that this came before, and the front with it that is free.
    fn is_left_to_who_asks(&self) -> bool {
        self.committed.get() < self.resume.load(Ordering::Relaxed)
            && !self.rests.fetch_or(false, Ordering::AcqRel)
    }

    /// Commits until the front is where another thread goes on.
    fn commit_ready<W: Work<Front = F>>(
        &self,
        work: &W,
        lane: &mut W::Lane,
        front: &mut Front<F>,
        role: Role,
        whose: Whose,
    ) -> Halt {
        loop {
            let at = front.at;
            if at == self.count || self.stopped.load(Ordering::Relaxed) {
                return Halt::Over;
            }
            let (success, failure) = (Ordering::Acquire, Ordering::Acquire);
            let ran = match self.state(at).compare_exchange(WAITS, RUNS, success, failure) {
                Ok(_) => false,
                Err(RUNS) => return Halt::Running(at),
                Err(by) => match whose {
                    Whose::Own(own) if own != by => return Halt::Over,
                    _ => true,
                },
            };
            work.meet();
            let step = work.commit(lane, &mut front.inner, at, ran);
            match step {
                Step::Done => {}
                Step::Pause(count) => self.resume.store(at + 1 + count, Ordering::Relaxed),
                Step::Stop => {
                    self.stop();
                    return Halt::Over;
                }
            }
            front.at += 1;
            self.committed.set(at + 1);
            if !ran && let Some(next) = work.needed_by(at).filter(|next| *next > at + 1) {
                self.give_back(next);
            }
            if role == Role::Helps && matches!(step, Step::Pause(_)) {
                return Halt::Pause;
            }
        }
    }

    /// Finds items to run ahead.
    fn task<W: Work<Front = F>>(&self, work: &W, calm: bool) -> Task {
        let count = self.count;
        let (committed, next) = (self.committed.get(), self.next.load(Ordering::Relaxed));
        let most = committed.saturating_add(AHEAD);
        for at in next.max(committed)..count {
            if at >= committed.saturating_add(FETCHED) {
                self.move_on(next, at);
                return Task::wait((committed + FETCHED / 2).min(count), 0..0);
            }
            if self.state(at).load(Ordering::Relaxed) != WAITS {
                continue;
            }
            if !work.is_worth(at) {
                work.fetch(at);
                continue;
            }
            let resume = self.resume.load(Ordering::Relaxed);
            if committed < resume {
                self.move_on(next, at);
                return Task::wait(resume.min(count), self.within(at, resume));
            }
            if at >= most {
                self.move_on(next, at);
                return Task::wait(at - AHEAD * 3 / 4, self.within(at, at));
            }
            if self.missing(work, at).is_none() && self.take(at) {
                let taken = if calm { TAKEN - at % TAKEN } else { 1 };
                let end = (at + taken).min(count);
                self.move_on(next, end);
                return Task::Run(at..end.min(most));
            }
        }
        self.move_on(next, count);
        self.remainder(work, committed)
    }

    /// The items from one on that are run ahead when the front is at another.
    fn within(&self, first: usize, front: usize) -> Range<usize> {
        first..front.saturating_add(AHEAD).min(self.count)
    }

    /// Finds an item among those that others are about to run or that were not ready, from the last on.
    fn remainder<W: Work<Front = F>>(&self, work: &W, committed: usize) -> Task {
        let near = self.within(committed, committed);
        let mut until = None;
        let resume = self.resume.load(Ordering::Relaxed);
        for at in near.clone().rev() {
            if self.state(at).load(Ordering::Relaxed) != WAITS || !work.is_worth(at) {
                continue;
            }
            if committed < resume {
                return Task::wait(resume.min(self.count), near);
            }
            match self.missing(work, at) {
                None if self.take(at) => return Task::Run(at..at + 1),
                // Of several that need the same, each may have a thread.
                Some(other) if work.needed_by(other) != Some(at) => until = Some(other + 1),
                _ => {}
            }
        }
        Task::Rest { until, waiting: near }
    }

    /// Runs the first of the items, which is taken, and those after it that nobody has taken meanwhile. Gives what they cost.
    fn run_ahead<W: Work<Front = F>>(
        &self,
        work: &W,
        lane: &mut W::Lane,
        items: Range<usize>,
        ran: u8,
    ) -> u64 {
        let mut cost = 0;
        for at in items.clone() {
            if at > items.start {
                if cost >= ENOUGH || at < self.resume.load(Ordering::Relaxed) {
                    self.give_back(at);
                    break;
                }
                work.meet();
                let waits = self.state(at).load(Ordering::Relaxed) == WAITS;
                if !waits
                    || !work.is_worth(at)
                    || self.missing(work, at).is_some()
                    || !self.take(at)
                {
                    continue;
                }
            }
            cost += work.run_ahead(lane, at);
            // See `advance`.
            self.state(at).swap(ran, Ordering::AcqRel);
            if let Some(next) = work.needed_by(at) {
                self.give_back(next);
            }
        }
        cost
    }

    /// What an item needs and is not done.
    fn missing<W: Work<Front = F>>(&self, work: &W, at: usize) -> Option<usize> {
        work.needs(at).filter(|other| {
            let ran = self.state(*other).load(Ordering::Relaxed) >= RAN;
            !ran && *other >= self.committed.get()
        })
    }

    fn take(&self, at: usize) -> bool {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        self.state(at).compare_exchange(WAITS, RUNS, success, failure).is_ok()
    }

    /// Marks what is before an item as seen through, unless others have come or given back meanwhile.
    fn move_on(&self, seen: usize, at: usize) {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.next.compare_exchange(seen, at, success, failure);
    }

    /// Leaves items to whoever comes next.
    fn give_back(&self, at: usize) {
        self.next.fetch_min(at, Ordering::Relaxed);
    }
}
