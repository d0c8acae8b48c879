//! Threads that stay, and sleep between jobs.

use std::{
    fmt, io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex};

use super::{
    gauge::Gauge, hints::Hints, lane::Lane, lane_cache::LaneCache, memory::Memory,
    precompiles::PrecompileCache, schedule::Role, stretch::Stretch, view::Shared,
};

/// Threads for executing blocks, besides the one that asks. A pool serves one block at a time; more share it in turns.
pub struct WorkerPool {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
    /// Of a block that is over.
    spare: Mutex<Option<Arc<Memory>>>,
    /// Of the asking thread, between blocks.
    cache: Mutex<LaneCache>,
    precompiles: Arc<PrecompileCache>,
    /// As the last block left it: the next one is probably alike.
    gauge: Mutex<Gauge>,
    hints: Mutex<Hints>,
    disturbance: Option<Disturbance>,
}

/// What the threads of a pool work on together.
pub(super) trait Job: Send + Sync {
    /// Works on it as long as there is something to do.
    fn run(&self, seat: &mut Seat);
}

/// What a thread keeps from job to job.
#[derive(Default)]
pub(super) struct Seat {
    /// Of the block that it worked on last.
    lane: Option<Lane>,
    cache: LaneCache,
}

#[derive(Default)]
struct Inner {
    job: Mutex<Posted>,
    posted: Condvar,
}

#[derive(Default)]
struct Posted {
    /// Counts jobs.
    number: u64,
    work: Option<Arc<dyn Job>>,
    closed: bool,
}

impl WorkerPool {
    /// Starts a pool that executes on `threads` threads, the asking one included.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: NonZeroUsize) -> io::Result<Self> {
        let mut pool = Self {
            inner: Arc::default(),
            threads: Vec::with_capacity(threads.get() - 1),
            spare: Mutex::default(),
            cache: Mutex::default(),
            precompiles: Arc::default(),
            gauge: Mutex::default(),
            hints: Mutex::default(),
            disturbance: None,
        };
        for number in 1..threads.get() {
            let inner = pool.inner.clone();
            let thread = thread::Builder::new().name(format!("execute-{number}"));
            // If one cannot be started, those that were end with the pool.
            pool.threads.push(thread.spawn(move || inner.serve())?);
        }
        Ok(pool)
    }

    /// A pool for tests: its threads give way at random places, so that they meet in more ways than they would by themselves.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn disturbed(threads: NonZeroUsize, seed: u64) -> io::Result<Self> {
        let mut pool = Self::new(threads)?;
        pool.disturbance = Some(Disturbance::new(seed));
        Ok(pool)
    }

    pub(super) fn disturbance(&self) -> Option<Disturbance> {
        self.disturbance.clone()
    }

    /// How many threads execute, the asking one included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// An empty memory, with the room that the last block needed.
    pub(super) fn memory(&self) -> Arc<Memory> {
        self.spare.lock().take().unwrap_or_default()
    }

    /// The asking thread's cache.
    pub(super) fn cache(&self) -> LaneCache {
        std::mem::take(&mut *self.cache.lock())
    }

    /// Keeps the asking thread's cache for the next block.
    pub(super) fn keep_cache(&self, cache: LaneCache) {
        *self.cache.lock() = cache;
    }

    /// What precompiles gave in the last blocks.
    pub(super) fn precompiles(&self) -> Arc<PrecompileCache> {
        self.precompiles.clone()
    }

    /// Forgets what precompiles gave, and what transactions contended for: a block that is executed once more then costs what it costs the
    /// first time.
    pub fn forget(&self) {
        self.precompiles.clear();
        self.hints.lock().forget();
        if let Some(memory) = &*self.spare.lock() {
            memory.forget_contended();
        }
    }

    /// What the last blocks tell of running ahead.
    pub(super) fn gauge(&self) -> Gauge {
        *self.gauge.lock()
    }

    pub(super) fn keep_gauge(&self, gauge: Gauge) {
        *self.gauge.lock() = gauge;
    }

    /// What the last blocks tell of their transactions.
    pub(super) fn hints(&self) -> Hints {
        std::mem::take(&mut *self.hints.lock())
    }

    pub(super) fn keep_hints(&self, hints: Hints) {
        *self.hints.lock() = hints;
    }

    /// Takes the memory of a block that is over, with no run under way.
    pub(super) fn reuse(&self, memory: Arc<Memory>) {
        memory.clear();
        *self.spare.lock() = Some(memory);
    }

    /// Wakes the threads for a job.
    pub(super) fn post(&self, job: Arc<dyn Job>) {
        self.set(Some(job));
    }

    /// Lets the threads forget the block of the last job.
    pub(super) fn release(&self) {
        self.set(None);
    }

    fn set(&self, work: Option<Arc<dyn Job>>) {
        if self.threads.is_empty() {
            return;
        }
        let mut job = self.inner.job.lock();
        job.number += 1;
        job.work = work;
        drop(job);
        self.inner.posted.notify_all();
    }
}

impl Inner {
    fn serve(&self) {
        let mut seen = 0;
        let mut seat = Seat::default();
        loop {
            let work = {
                let mut job = self.job.lock();
                while job.number == seen && !job.closed {
                    self.posted.wait(&mut job);
                }
                if job.closed {
                    return;
                }
                seen = job.number;
                job.work.clone()
            };
            match work {
                Some(work) => work.run(&mut seat),
                None => {
                    let cache = seat.take_cache();
                    seat.keep_cache(cache);
                }
            }
        }
    }
}

impl Seat {
    /// A lane for a block: that of the last job, if it was the same block.
    fn lane(&mut self, shared: &Arc<Shared>) -> &mut Lane {
        let lane = match self.lane.take() {
            Some(lane) if lane.is_of(shared) => lane,
            Some(mut other) => Lane::new(shared.clone(), other.take_cache()),
            None => Lane::new(shared.clone(), std::mem::take(&mut self.cache)),
        };
        self.lane.insert(lane)
    }

    /// The thread's cache; gives up the lane that uses it.
    pub(super) fn take_cache(&mut self) -> LaneCache {
        match self.lane.take() {
            Some(mut lane) => lane.take_cache(),
            None => std::mem::take(&mut self.cache),
        }
    }

    pub(super) fn keep_cache(&mut self, cache: LaneCache) {
        self.cache = cache;
    }
}

impl Job for Stretch {
    fn run(&self, seat: &mut Seat) {
        run_on(self, seat.lane(self.shared()), Role::Helps);
    }
}

/// Places where threads give way at random.
#[derive(Debug, Clone)]
pub(super) struct Disturbance(Arc<AtomicU64>);

impl Disturbance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// The next of a sequence that all threads draw from: SplitMix64, but for its last step.
    pub(super) fn draw(&self) -> u64 {
        let mut draw = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    /// Gives way, now and then.
    pub(super) fn meet(&self) {
        let draw = self.draw();
        match (draw >> 32) % 8 {
            0 => (0..(draw >> 40) % 2_000).for_each(|_| std::hint::spin_loop()),
            1 | 2 => thread::yield_now(),
            _ => {}
        }
    }
}

/// Works on a stretch. A panic ends the stretch with an error, not the thread.
pub(super) fn run_on(stretch: &Stretch, lane: &mut Lane, role: Role) {
    if catch_unwind(AssertUnwindSafe(|| stretch.work(lane, role))).is_err() {
        stretch.poison();
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.inner.job.lock().closed = true;
        self.inner.posted.notify_all();
        for thread in self.threads.drain(..) {
            // Panics are caught where they happen.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("threads", &self.threads()).finish()
    }
}
