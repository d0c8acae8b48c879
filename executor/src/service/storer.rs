//! The thread that stores closed blocks, beside the execution of the next one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use millrace_proto::{ExecutedBlock, ExecutorError};
use tracing::{debug, error};

use super::{feed::Shown, metrics::ExecutorMetrics, worker::Reply};
use crate::{
    chain::{Chain, Closed},
    store::StoreError,
};

/// A block to store.
struct Job {
    closed: Closed,
    /// How long it took to close it.
    closing: Duration,
    reply: Reply<Arc<ExecutedBlock>>,
    done: mpsc::Sender<()>,
}

/// The thread's handle. Dropping it lets the thread finish what it was given, and waits for it.
pub(super) struct Storer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A block that is being stored: hangs up once that is over, one way or the other.
#[derive(Debug)]
pub(super) struct Storing(mpsc::Receiver<()>);

impl Storing {
    /// Waits until it is over.
    pub(super) fn wait(&self) {
        // Nothing is sent.
        let _ = self.0.recv();
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.0.try_recv() == Err(mpsc::TryRecvError::Disconnected)
    }
}

impl Storer {
    pub(super) fn start(
        chain: Arc<Chain>,
        shown: Shown,
        metrics: ExecutorMetrics,
    ) -> Result<Self, std::io::Error> {
        let (jobs, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("executor-store".to_owned()).spawn(move || {
            for job in receiver {
                run(&chain, &shown, &metrics, job);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Stores a block, makes it the head, and answers.
    pub(super) fn store(
        &self,
        closed: Closed,
        closing: Duration,
        reply: Reply<Arc<ExecutedBlock>>,
    ) -> Storing {
        let (done, over) = mpsc::channel();
        let job = Job { closed, closing, reply, done };
        if let Some(jobs) = &self.jobs {
            // The thread ends after this handle: what it was given is done. Were it gone, the reply would go with the job.
            let _ = jobs.send(job);
        }
        Storing(over)
    }
}

impl Drop for Storer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(target: "millrace::executor", "the storing thread panicked");
        }
    }
}

fn run(chain: &Chain, shown: &Shown, metrics: &ExecutorMetrics, job: Job) {
    let Job { closed, closing, reply, done } = job;
    let started = Instant::now();
    let block = closed.block.clone();
    metrics.root.record(closed.root_time);
    let stored = catch_unwind(AssertUnwindSafe(|| {
        chain.store_closed(closed)?;
        metrics.commit.record(started.elapsed());
        metrics.seal.record(closing + started.elapsed());
        publish(shown, metrics, &block);
        Ok::<_, StoreError>(())
    }));
    let Ok(stored) = stored else {
        // It may be stored already: whoever asked looks for it.
        error!(target: "millrace::executor", number = block.number(), "storing a block panicked");
        chain.forget_closed();
        return;
    };
    let is_stored = stored.is_ok();
    // A reply that nobody waits for any more is dropped.
    let _ = reply.send(stored.map(|()| block.clone()).map_err(ExecutorError::from));
    if is_stored && let Err(error) = chain.store().index() {
        // The store says so to the next block too.
        error!(target: "millrace::executor", number = block.number(), %error, "the index of a block is not written");
    }
    drop(done);
}

fn publish(shown: &Shown, metrics: &ExecutorMetrics, block: &ExecutedBlock) {
    let header = &block.header;
    metrics.blocks.increment(1);
    metrics.transactions.increment(block.transactions.len() as u64);
    metrics.gas.increment(header.gas_used);
    metrics.head.set(header.number as f64);
    metrics.fill.set(header.gas_used as f64 / header.gas_limit.max(1) as f64);
    debug!(
        target: "millrace::executor",
        number = header.number,
        hash = %header.seal(),
        transactions = block.transactions.len(),
        gas = header.gas_used,
        "sealed",
    );
    shown.head(header.clone());
}
