//! Group commit: one thread appends everything that arrived while the last append was on its way to the disk.

use std::{
    fmt, io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{mpsc, watch};
use tracing::{debug, error, warn};

use super::{LogError, OrderLog, Position, Record};
use crate::metrics::LogMetrics;

/// Called on the log's thread once the records are on disk, or cannot be brought there.
pub(crate) type OnDurable = Box<dyn FnOnce(Result<Position, Arc<LogError>>) + Send>;

/// Bounds of the writer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterSettings {
    /// Requests that may wait; beyond, the caller waits.
    pub(crate) queue: usize,
    /// Most requests in one append.
    pub(crate) group: usize,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self { queue: 1024, group: 256 }
    }
}

enum Request {
    Append { records: Vec<Record>, queued: Instant, done: OnDurable },
    Cursor(Position),
}

/// How far the writer is.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Appends that are on disk.
    durable: u64,
    failed: Option<Arc<LogError>>,
}

/// The only one that writes records to the log. Requests are carried out in order. After a failed append every later one fails with
/// the same error.
pub(crate) struct LogWriter {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    sent: u64,
    progress: watch::Receiver<Progress>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Starts the thread.
    pub(crate) fn start(log: Arc<dyn OrderLog>, settings: WriterSettings) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel(settings.queue);
        let (report, progress) = watch::channel(Progress::default());
        let worker =
            Worker { log, report, group: settings.group, metrics: LogMetrics::new(), durable: 0 };
        let thread =
            thread::Builder::new().name("millrace-log".into()).spawn(move || worker.run(inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), sent: 0, progress })
    }

    /// Queues records. `done` is called when they are on disk.
    pub(crate) async fn append(&mut self, records: Vec<Record>, done: OnDurable) {
        self.send(Request::Append { records, queued: Instant::now(), done }).await;
        // Only now: who gives up before waits for nothing that is not queued.
        self.sent += 1;
    }

    /// Queues a move of the cursor, after all appends so far.
    pub(crate) async fn set_cursor(&self, to: Position) {
        self.send(Request::Cursor(to)).await;
    }

    /// Waits until every append so far is on disk.
    pub(crate) fn durable(&self) -> impl Future<Output = Result<(), Arc<LogError>>> + use<> {
        let (mut progress, sent) = (self.progress.clone(), self.sent);
        async move {
            let reached =
                progress.wait_for(|now| now.failed.is_some() || now.durable >= sent).await;
            match reached.as_deref() {
                Ok(Progress { failed: Some(error), .. }) => Err(error.clone()),
                Ok(_) => Ok(()),
                Err(_) => Err(writer_gone()),
            }
        }
    }

    /// The error that the log failed with, if it has.
    pub(crate) fn failure(&self) -> Option<Arc<LogError>> {
        self.progress.borrow().failed.clone()
    }

    async fn send(&self, request: Request) {
        let Some(requests) = &self.requests else { return };
        if let Err(mpsc::error::SendError(Request::Append { done, .. })) =
            requests.send(request).await
        {
            done(Err(writer_gone()));
        }
    }
}

impl Drop for LogWriter {
    /// Lets the thread carry out what is queued, and waits for it: the store is free for the next owner after that.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(target: "millrace::sequencer", "the order log's thread panicked");
        }
    }
}

fn writer_gone() -> Arc<LogError> {
    Arc::new(LogError::Storage("the order log's thread is gone".into()))
}

struct Worker {
    log: Arc<dyn OrderLog>,
    report: watch::Sender<Progress>,
    group: usize,
    metrics: LogMetrics,
    durable: u64,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(self.group);
        while inbox.blocking_recv_many(&mut group, self.group) > 0 {
            self.carry_out(std::mem::take(&mut group));
        }
        debug!(target: "millrace::sequencer", end = %self.log.end(), "order log closed");
    }

    fn carry_out(&mut self, group: Vec<Request>) {
        let mut records = Vec::new();
        let mut waiting = Vec::new();
        let mut notes = Vec::new();
        for request in group {
            match request {
                Request::Append { records: more, queued, done } => {
                    waiting.push((records.len() as u64, queued, done));
                    records.extend(more);
                }
                note => notes.push(note),
            }
        }
        if !waiting.is_empty() {
            self.append(&records, waiting);
        }
        if self.report.borrow().failed.is_none() {
            self.take_notes(notes);
        }
    }

    fn append(&mut self, records: &[Record], waiting: Vec<(u64, Instant, OnDurable)>) {
        let poisoned = self.report.borrow().failed.clone();
        let result = match poisoned {
            Some(error) => Err(error),
            None => {
                let started = Instant::now();
                let result = self.log.append(records).map_err(Arc::new);
                self.metrics.fsync_seconds.record(started.elapsed());
                self.metrics.records.increment(records.len() as u64);
                self.metrics.group_records.record(records.len() as f64);
                result
            }
        };
        self.durable += waiting.len() as u64;
        // Callbacks first: who waits for `durable` finds every transaction acknowledged.
        for (offset, queued, done) in waiting {
            self.metrics.append_seconds.record(queued.elapsed());
            done(result.clone().map(|first| first.plus(offset)));
        }
        match result {
            Ok(_) => self.report.send_modify(|progress| progress.durable = self.durable),
            Err(failure) => {
                error!(target: "millrace::sequencer", error = %failure, "the order log cannot be written; nothing is acknowledged any more");
                self.report.send_modify(|progress| progress.failed = Some(failure));
            }
        }
    }

    /// The cursor only saves work at the next start: a failure is no loss.
    fn take_notes(&self, notes: Vec<Request>) {
        for note in notes {
            let result = match note {
                Request::Cursor(to) => self.log.set_cursor(to),
                Request::Append { .. } => continue,
            };
            if let Err(error) = result {
                warn!(target: "millrace::sequencer", %error, "a note in the order log failed");
            }
        }
    }
}
