//! Threads that decode, check and recover, off the async ones. What waits forms batches.

use std::{
    fmt, io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use alloy::primitives::TxHash;
use millrace_crypto::{RecoverPath, engine};
use millrace_proto::{Peer, RejectReason};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tracing::error;

use super::{
    Checked, Checker, Submitted,
    queue::{FairQueue, Job},
};

/// Transactions of a job at most, and of those that one thread takes at a time while there is not much to do.
const BATCH: usize = 32;
/// The same where more than that waits for each thread: an eighth less time for each signature. Few enough for `recover_batch` to do its work here, and not on other threads.
const MOST: usize = 4 * BATCH;

#[derive(Default)]
struct Queue {
    waiting: FairQueue,
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
}

impl fmt::Debug for RecoveryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl RecoveryPool {
    /// Starts the threads.
    pub(crate) fn start(checker: Arc<Checker>, threads: usize) -> io::Result<Self> {
        let shared = Shared { queue: Mutex::default(), arrived: Condvar::new(), checker, threads };
        let mut pool = Self { shared: Arc::new(shared), threads: Vec::new() };
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

    /// Checks a client's transactions: a result for each, in order. `None` if the threads are gone.
    pub(crate) async fn check(&self, txs: Vec<Submitted>, from: Option<Peer>) -> Option<Checked> {
        let mut checked = Vec::with_capacity(txs.len());
        for reply in self.queue(txs, from) {
            checked.extend(reply.await.ok()?);
        }
        refuse_after_full(&mut checked, |hash| self.shared.checker.holds(hash));
        Some(checked)
    }

    fn queue(&self, txs: Vec<Submitted>, from: Option<Peer>) -> Vec<oneshot::Receiver<Checked>> {
        let mut replies = Vec::with_capacity(txs.len().div_ceil(BATCH));
        let mut rest = txs;
        let mut queue = self.shared.queue.lock();
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(BATCH));
            let (reply, replied) = oneshot::channel();
            queue.waiting.push(Job { from, txs: std::mem::replace(&mut rest, later), reply });
            replies.push(replied);
        }
        drop(queue);
        if replies.len() == 1 {
            self.shared.arrived.notify_one();
        } else {
            self.shared.arrived.notify_all();
        }
        replies
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
        let first = loop {
            if queue.closed {
                return None;
            }
            match queue.waiting.pop(usize::MAX) {
                Some(job) => break job,
                None => self.arrived.wait(&mut queue),
            }
        };
        let share = queue.waiting.len() / self.threads;
        let mut count = first.txs.len();
        let mut batch = vec![first];
        loop {
            let most = if batch.len() <= share { MOST } else { BATCH };
            let Some(job) = queue.waiting.pop(most.saturating_sub(count)) else { break };
            count += job.txs.len();
            batch.push(job);
        }
        // The other threads take some of those that wait at once.
        Some((batch, queue.waiting.len() > self.threads))
    }
}
