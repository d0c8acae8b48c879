//! The thread that the replayed chain lives on.

use std::{fmt, io, sync::Arc, thread};

use millrace_proto::{ExecutedBlock, Replay, ReplayError, give_way};
use tokio::sync::{mpsc, oneshot};

/// The thread is gone: it panicked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the replay thread has stopped")]
pub struct ReplayWorkerGone;

type Job = Box<dyn FnOnce(&mut dyn Replay) + Send>;

/// Reads the replayed chain from beside, for as long as its thread lives.
#[derive(Debug, Clone)]
pub(crate) struct ReplayReader {
    jobs: mpsc::WeakSender<Job>,
}

impl ReplayReader {
    /// A block that was executed, once the work at hand is done.
    pub(crate) async fn block(
        &self,
        number: u64,
    ) -> Result<Result<Option<Arc<ExecutedBlock>>, ReplayError>, ReplayWorkerGone> {
        let jobs = self.jobs.upgrade().ok_or(ReplayWorkerGone)?;
        run(&jobs, move |replay| replay.block(number)).await
    }
}

async fn run<T: Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    work: impl FnOnce(&mut dyn Replay) -> T + Send + 'static,
) -> Result<T, ReplayWorkerGone> {
    let (reply, result) = oneshot::channel();
    let job: Job = Box::new(move |replay| {
        // The caller may have gone; what was executed stays.
        let _ = reply.send(work(replay));
    });
    jobs.send(job).await.map_err(|_| ReplayWorkerGone)?;
    result.await.map_err(|_| ReplayWorkerGone)
}

/// Runs work on the replayed chain, one piece at a time, on a thread of its own. The thread ends when this is dropped and the
/// work at hand is done; [`Self::close`] waits for that.
pub(crate) struct ReplayWorker {
    jobs: mpsc::Sender<Job>,
    ended: oneshot::Receiver<()>,
}

impl fmt::Debug for ReplayWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayWorker").finish_non_exhaustive()
    }
}

impl ReplayWorker {
    /// Starts the thread.
    pub(crate) fn spawn(mut replay: Box<dyn Replay>) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(1);
        let (ending, ended) = oneshot::channel();
        thread::Builder::new().name("settlement-replay".to_owned()).spawn(move || {
            // Verification may wait, and sequencing may not.
            give_way();
            while let Some(job) = queue.blocking_recv() {
                job(replay.as_mut());
            }
            drop(replay);
            // Nobody may be waiting for the end.
            let _ = ending.send(());
        })?;
        Ok(Self { jobs, ended })
    }

    /// Runs a piece of work and waits for it. If the caller stops waiting, the work still runs to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Replay) -> T + Send + 'static,
    ) -> Result<T, ReplayWorkerGone> {
        run(&self.jobs, work).await
    }

    /// For reading from beside.
    pub(crate) fn reader(&self) -> ReplayReader {
        ReplayReader { jobs: self.jobs.downgrade() }
    }

    /// Waits until the work at hand is done and the replayed chain is closed.
    pub(crate) async fn close(self) -> Result<(), ReplayWorkerGone> {
        drop(self.jobs);
        self.ended.await.map_err(|_| ReplayWorkerGone)
    }
}
