//! Threads that decode, check and recover, off the async ones. What waits forms batches.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use alloy::primitives::TxHash;
use millrace_crypto::{RecoverPath, engine};
use millrace_proto::RejectReason;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use super::{Checked, Checker, Submitted};

/// Transactions that one thread takes at most at a time. Few enough for `recover_batch` to do its work here, and not on other threads.
const BATCH: usize = 32;

struct Job {
    txs: Vec<Submitted>,
    reply: oneshot::Sender<Checked>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    checker: Arc<Checker>,
    /// How many of these there are.
    threads: usize,
}

/// The bounded pool of recovery threads. They end when it is dropped.
pub(crate) struct RecoveryPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    slots: Semaphore,
    capacity: usize,
}

impl fmt::Debug for RecoveryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl RecoveryPool {
    /// Starts the threads. At most `capacity` transactions are in work; callers beyond wait.
    pub(crate) fn start(
        checker: Arc<Checker>,
        threads: usize,
        capacity: usize,
    ) -> io::Result<Self> {
        let shared = Shared { queue: Mutex::default(), arrived: Condvar::new(), checker, threads };
        let shared = Arc::new(shared);
        let mut pool =
            Self { shared, threads: Vec::new(), slots: Semaphore::new(capacity), capacity };
        for index in 0..threads {
            let shared = pool.shared.clone();
            let name = format!("millrace-recover-{index}");
            pool.threads.push(thread::Builder::new().name(name).spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// What the checks know of the chain.
    pub(crate) fn checker(&self) -> &Checker {
        &self.shared.checker
    }

    /// Checks transactions: a result for each, in order. `None` if the threads are gone.
    pub(crate) async fn check(&self, txs: Vec<Submitted>) -> Option<Checked> {
        let mut checked = Vec::with_capacity(txs.len());
        let mut rest = txs;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(self.capacity));
            checked.extend(self.check_some(std::mem::replace(&mut rest, later)).await?);
        }
        refuse_after_full(&mut checked, |hash| self.shared.checker.holds(hash));
        Some(checked)
    }

    /// At most `capacity` transactions.
    async fn check_some(&self, txs: Vec<Submitted>) -> Option<Checked> {
        let count = u32::try_from(txs.len()).ok()?;
        let _slots = self.slots.acquire_many(count).await.ok()?;
        let mut replies = Vec::with_capacity(txs.len().div_ceil(BATCH));
        {
            let mut rest = txs;
            let mut queue = self.shared.queue.lock();
            while !rest.is_empty() {
                let later = rest.split_off(rest.len().min(BATCH));
                let (reply, replied) = oneshot::channel();
                queue.jobs.push_back(Job { txs: std::mem::replace(&mut rest, later), reply });
                replies.push(replied);
            }
        }
        if replies.len() == 1 {
            self.shared.arrived.notify_one();
        } else {
            self.shared.arrived.notify_all();
        }
        let mut checked = Vec::with_capacity(count as usize);
        for reply in replies {
            checked.extend(reply.await.ok()?);
        }
        Some(checked)
    }
}

/// What comes after one that there was no room for has none either, though there was time to look at it, unless it is in the pool: else a sender's later transactions would
/// take the room of its earlier ones.
fn refuse_after_full(checked: &mut Checked, holds: impl Fn(TxHash) -> bool) {
    let no_room = |checked: &Result<_, RejectReason>| match checked {
        Err(reason @ (RejectReason::PoolFull { .. } | RejectReason::SourceLimit { .. })) => {
            Some(reason.clone())
        }
        _ => None,
    };
    let Some((first, reason)) =
        checked.iter().enumerate().find_map(|(at, one)| Some((at, no_room(one)?)))
    else {
        return;
    };
    for later in &mut checked[first..] {
        if later.as_ref().is_ok_and(|tx| !holds(tx.hash())) {
            *later = Err(reason.clone());
        }
    }
}

impl Drop for RecoveryPool {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                error!(target: "millrace::sequencer", "a recovery thread panicked");
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        // One by one nothing is gained by waiting for the others' answers.
        let together = engine().recover != RecoverPath::Scalar;
        while let Some((batch, more)) = self.next_batch() {
            if !together {
                for job in batch {
                    let _ = job.reply.send(self.checker.check(job.txs, more));
                }
                continue;
            }
            let mut txs = Vec::new();
            let mut replies = Vec::with_capacity(batch.len());
            for mut job in batch {
                replies.push((job.reply, job.txs.len()));
                txs.append(&mut job.txs);
            }
            let mut checked = self.checker.check(txs, more).into_iter();
            for (reply, count) in replies {
                // A caller that went away does not want the reply any more.
                let _ = reply.send(checked.by_ref().take(count).collect());
            }
        }
    }

    /// Waits for a job, and takes those that wait with it, up to a batch. `true` if more wait behind them: there are more signatures than time.
    fn next_batch(&self) -> Option<(Vec<Job>, bool)> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if !queue.jobs.is_empty() {
                break;
            }
            self.arrived.wait(&mut queue);
        }
        let mut batch = Vec::new();
        let mut count = 0;
        while let Some(job) =
            queue.jobs.pop_front_if(|job| batch.is_empty() || count + job.txs.len() <= BATCH)
        {
            count += job.txs.len();
            batch.push(job);
        }
        // The other threads take some of those that wait at once.
        Some((batch, queue.jobs.len() > self.threads))
    }
}
