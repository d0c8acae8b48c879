//! The thread that builds blocks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use millrace_proto::{
    BlockAttributes, BlockNumHash, BlockSelector, ExecutedBlock, ExecutorError, RecoveredTx,
    TxOutcome,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::{feed::Shown, metrics::ExecutorMetrics};
use crate::{
    chain::Chain,
    evm::{BlockBuilder, WorkerPool},
};

/// How many commands may wait. Callers wait for replies, so a few builders never fill it.
const QUEUED_COMMANDS: usize = 16;

type Reply<T> = oneshot::Sender<Result<T, ExecutorError>>;

/// What the worker is asked to do.
pub(super) enum Command {
    Open { attributes: BlockAttributes, reply: Reply<Opened> },
    Execute { build: u64, transactions: Vec<Arc<RecoveredTx>>, reply: Reply<Vec<TxOutcome>> },
    Seal { build: u64, reply: Reply<Arc<ExecutedBlock>> },
    Discard { build: u64 },
    Unwind { to: BlockNumHash, reply: Reply<()> },
}

/// An opened block.
pub(super) struct Opened {
    pub(super) build: u64,
    pub(super) base_fee: Option<u64>,
}

/// The worker's handle. Dropping it stops the thread and waits for it.
pub(super) struct Worker {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(super) fn start(
        chain: Arc<Chain>,
        pool: Arc<WorkerPool>,
        shown: Shown,
        metrics: ExecutorMetrics,
    ) -> Result<Self, ExecutorError> {
        let (sender, receiver) = mpsc::channel(QUEUED_COMMANDS);
        let thread = thread::Builder::new()
            .name("executor".to_owned())
            .spawn(move || {
                Builder { chain, pool, shown, metrics, builds: 0, open: None }.run(receiver);
            })
            .map_err(|error| ExecutorError::Stopped(format!("cannot start the thread: {error}")))?;
        Ok(Self { commands: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, ExecutorError> {
        let stopped = || ExecutorError::Stopped("the service is closed".to_owned());
        let sender = self.commands.lock().clone().ok_or_else(stopped)?;
        let (reply, answer) = oneshot::channel();
        sender.send(command(reply)).await.map_err(|_| stopped())?;
        drop(sender);
        answer.await.map_err(|_| {
            ExecutorError::Stopped("a block failed with a panic, see the log".to_owned())
        })?
    }

    /// Tells the worker that nobody wants a build any more. If the queue is full, the next opened block discards it.
    pub(super) fn discard(&self, build: u64) {
        if let Some(sender) = &*self.commands.lock() {
            let _ = sender.try_send(Command::Discard { build });
        }
    }

    /// Takes no more commands, does those that wait, and ends the thread. Blocking.
    pub(super) fn stop(&self) {
        drop(self.commands.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            error!(target: "millrace::executor", "the worker thread panicked");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Builder {
    chain: Arc<Chain>,
    pool: Arc<WorkerPool>,
    shown: Shown,
    metrics: ExecutorMetrics,
    builds: u64,
    open: Option<OpenBlock>,
}

struct OpenBlock {
    build: u64,
    block: BlockBuilder,
}

impl Builder {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            // A panic loses its reply, which the caller sees, and the block, but not the service: the store is
            // written in one step at the end of a block.
            if catch_unwind(AssertUnwindSafe(|| self.handle(command))).is_err() {
                error!(target: "millrace::executor", "discarded a block that panicked");
                self.open = None;
            }
        }
    }

    // A reply that nobody waits for any more is dropped.
    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { attributes, reply } => {
                let _ = reply.send(self.open(attributes));
            }
            Command::Execute { build, transactions, reply } => {
                let outcomes = self.execute(build, transactions);
                if outcomes.is_err() {
                    self.discard(build);
                }
                let _ = reply.send(outcomes);
            }
            Command::Seal { build, reply } => {
                let _ = reply.send(self.seal(build));
            }
            Command::Discard { build } => self.discard(build),
            Command::Unwind { to, reply } => {
                let _ = reply.send(self.unwind(to));
            }
        }
    }

    fn open(&mut self, attributes: BlockAttributes) -> Result<Opened, ExecutorError> {
        self.open = None;
        let plan = self.chain.plan(attributes).map_err(|error| {
            let head = self.chain.head();
            ExecutorError::NotHead {
                head_number: head.number,
                head_hash: head.seal(),
                problem: error.to_string(),
            }
        })?;
        let base_fee = plan.base_fee();
        let block = self.chain.build(plan, self.pool.clone())?;
        self.builds += 1;
        let opened = Opened { build: self.builds, base_fee };
        self.open = Some(OpenBlock { build: self.builds, block });
        Ok(opened)
    }

    fn execute(
        &mut self,
        build: u64,
        transactions: Vec<Arc<RecoveredTx>>,
    ) -> Result<Vec<TxOutcome>, ExecutorError> {
        let open = self.open.as_mut().filter(|open| open.build == build);
        let open = open.ok_or(ExecutorError::BuildDiscarded)?;
        let started = Instant::now();
        let hashes: Vec<_> = transactions.iter().map(|tx| tx.hash()).collect();
        let outcomes = open.block.execute(transactions)?;
        for (hash, outcome) in hashes.iter().zip(&outcomes) {
            if let TxOutcome::Invalid(reason) = outcome {
                self.metrics.invalid.increment(1);
                debug!(target: "millrace::executor", %hash, %reason, "left out");
            }
        }
        self.metrics.execute.record(started.elapsed());
        Ok(outcomes)
    }

    fn seal(&mut self, build: u64) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        let OpenBlock { block, .. } =
            self.open.take_if(|open| open.build == build).ok_or(ExecutorError::BuildDiscarded)?;
        let started = Instant::now();
        self.metrics.count(block.stats());
        let (plan, output) = block.finish()?;
        plan.check(&output).map_err(|error| ExecutorError::InvalidRequest(error.to_string()))?;
        let committed = self.chain.commit(&plan, output)?;
        self.metrics.root.record(committed.root_time);
        self.metrics.commit.record(committed.commit_time);
        self.metrics.seal.record(started.elapsed());
        self.publish(&committed.block);
        Ok(committed.block)
    }

    fn publish(&self, block: &Arc<ExecutedBlock>) {
        let header = &block.header;
        self.metrics.blocks.increment(1);
        self.metrics.transactions.increment(block.transactions.len() as u64);
        self.metrics.gas.increment(header.gas_used);
        self.metrics.head.set(header.number as f64);
        self.metrics.fill.set(header.gas_used as f64 / header.gas_limit.max(1) as f64);
        debug!(
            target: "millrace::executor",
            number = header.number,
            hash = %header.seal(),
            transactions = block.transactions.len(),
            gas = header.gas_used,
            "sealed",
        );
        self.shown.head(block.header.clone());
    }

    fn unwind(&mut self, to: BlockNumHash) -> Result<(), ExecutorError> {
        self.open = None;
        let unknown = || ExecutorError::UnknownBlock(BlockSelector::Hash(to.hash));
        let store = self.chain.store();
        let stays = store.header(BlockSelector::Number(to.number))?;
        stays.filter(|header| header.seal() == to.hash).ok_or_else(unknown)?;
        let head = self.chain.head().number;
        if head == to.number {
            return Ok(());
        }
        let result = self.shown.unwind(&self.chain, to.number);
        let now = self.chain.head();
        warn!(target: "millrace::executor", from = head, to = now.number, hash = %now.seal(), "blocks taken back");
        self.metrics.head.set(now.number as f64);
        self.metrics.unwound.increment(head - now.number);
        Ok(result?)
    }

    fn discard(&mut self, build: u64) {
        if self.open.as_ref().is_some_and(|open| open.build == build) {
            self.open = None;
        }
    }
}
