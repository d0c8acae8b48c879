//! The thread that builds blocks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use millrace_proto::{
    BlockAttributes, BlockNumHash, BlockSelector, Executed, ExecutedBlock, ExecutorError, Noting,
    RecoveredTx, SealedHeader, StateDiff, TxOutcome,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::{
    feed::Shown,
    metrics::ExecutorMetrics,
    open::{OpenBlocks, OpenState},
    storer::{Storer, Storing},
};
use crate::{
    chain::{Chain, Closed, ParentState},
    evm::{BlockBuilder, BlockPlan, WorkerPool},
};

/// How many commands may wait. Callers wait for replies, so a few builders never fill it.
const QUEUED_COMMANDS: usize = 16;

pub(super) type Reply<T> = oneshot::Sender<Result<T, ExecutorError>>;

/// What the worker is asked to do.
pub(super) enum Command {
    Open {
        attributes: BlockAttributes,
        reply: Reply<Opened>,
    },
    Execute {
        build: u64,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
        reply: Reply<Executed>,
    },
    Close {
        build: u64,
        reply: Reply<Arc<ExecutedBlock>>,
    },
    Seal {
        build: u64,
        reply: Reply<Arc<ExecutedBlock>>,
    },
    Discard {
        build: u64,
    },
    Unwind {
        to: BlockNumHash,
        reply: Reply<()>,
    },
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
        readable: Arc<OpenBlocks>,
    ) -> Result<Self, ExecutorError> {
        let (sender, receiver) = mpsc::channel(QUEUED_COMMANDS);
        let no_thread = |error| ExecutorError::Stopped(format!("cannot start the thread: {error}"));
        let storer =
            Storer::start(chain.clone(), shown.clone(), metrics.clone()).map_err(no_thread)?;
        let thread = thread::Builder::new()
            .name("executor".to_owned())
            .spawn(move || {
                let (builds, open, closed) = (0, None, None);
                let builder =
                    Builder { chain, pool, shown, metrics, storer, builds, open, closed, readable };
                builder.run(receiver);
            })
            .map_err(no_thread)?;
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
    storer: Storer,
    builds: u64,
    open: Option<OpenBlock>,
    closed: Option<ClosedBlock>,
    /// Of these two, what can be read.
    readable: Arc<OpenBlocks>,
}

struct OpenBlock {
    build: u64,
    block: BlockBuilder,
    /// The build of the closed block on which it was opened.
    after: Option<u64>,
    /// That block, and what it changed.
    on: Option<(SealedHeader, Arc<StateDiff>)>,
    /// What can be read of it, if somebody asked for that.
    noted: Option<Arc<OpenState>>,
}

/// The block after the head, with its roots.
struct ClosedBlock {
    build: u64,
    block: Arc<ExecutedBlock>,
    diff: Arc<StateDiff>,
    state: ClosedState,
}

enum ClosedState {
    /// Not to be stored yet. With how long it took to close it.
    Waiting(Closed, Duration),
    Storing(Storing),
}

impl ClosedBlock {
    /// Whether it is stored, or lost.
    fn is_over(&self) -> bool {
        matches!(&self.state, ClosedState::Storing(storing) if storing.is_over())
    }
}

impl Builder {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            // A panic loses its reply, which the caller sees, and the block, but not the service: the store is
            // written in one step at the end of a block.
            if catch_unwind(AssertUnwindSafe(|| self.handle(command))).is_err() {
                error!(target: "millrace::executor", "discarded a block that panicked");
                self.open = None;
                self.forget_closed();
            }
            self.let_go();
        }
    }

    /// Of blocks that are gone nothing is read any more; before anybody is told that they are.
    fn let_go(&self) {
        let open = self.open.as_ref().map(|open| open.build);
        self.readable.keep([open, self.closed.as_ref().map(|closed| closed.build)]);
    }

    // A reply that nobody waits for any more is dropped.
    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { attributes, reply } => {
                let opened = self.open(attributes);
                self.let_go();
                let _ = reply.send(opened);
            }
            Command::Execute { build, transactions, noting, reply } => {
                let executed = self.execute(build, transactions, noting);
                if executed.is_err() {
                    self.discard(build);
                    self.let_go();
                }
                let _ = reply.send(executed);
                if let Some(open) = &mut self.open {
                    open.block.hash_ahead();
                }
            }
            Command::Close { build, reply } => {
                let _ = reply.send(self.close(build));
            }
            Command::Seal { build, reply } => self.seal(build, reply),
            Command::Discard { build } => self.discard(build),
            Command::Unwind { to, reply } => {
                let unwound = self.unwind(to);
                self.let_go();
                let _ = reply.send(unwound);
            }
        }
    }

    fn open(&mut self, attributes: BlockAttributes) -> Result<Opened, ExecutorError> {
        self.open = None;
        self.closed.take_if(|closed| closed.is_over());
        let closed = (self.closed.as_ref())
            .filter(|closed| attributes.parent_hash == closed.block.hash())
            .map(|closed| (closed.build, closed.block.header.clone(), closed.diff.clone()));
        if closed.is_none() {
            // Nobody builds on it any more.
            self.forget_closed();
        }
        let parent =
            closed.as_ref().map_or_else(|| self.chain.head(), |(_, header, _)| header.clone());
        let spec = self.chain.spec().clone();
        let plan =
            BlockPlan::new(spec, &parent, attributes).map_err(|error| ExecutorError::NotHead {
                head_number: parent.number,
                head_hash: parent.seal(),
                problem: error.to_string(),
            })?;
        let base_fee = plan.base_fee();
        let (after, on) = closed.map(|(build, header, diff)| (build, (header, diff))).unzip();
        let block = self.chain.build(plan, on.clone(), self.pool.clone())?;
        self.builds += 1;
        let opened = Opened { build: self.builds, base_fee };
        self.open = Some(OpenBlock { build: self.builds, block, after, on, noted: None });
        Ok(opened)
    }

    fn execute(
        &mut self,
        build: u64,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
    ) -> Result<Executed, ExecutorError> {
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
        if noting == Noting::Nothing && open.noted.is_none() {
            return Ok(Executed { outcomes, diff: None });
        }
        let diff = Arc::new(open.block.changes()?);
        let noted = match &open.noted {
            Some(noted) => noted,
            None => {
                let state = self.chain.state(BlockSelector::Latest)?;
                let before = ParentState::new(state, open.on.clone());
                let header = open.block.plan().open_header();
                open.noted.insert(self.readable.add(build, header, before))
            }
        };
        let (transactions, receipts) = open.block.held();
        noted.add(&diff, transactions, receipts);
        Ok(Executed { outcomes, diff: (noting == Noting::Told).then_some(diff) })
    }

    fn close(&mut self, build: u64) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        if let Some(closed) = self.closed.as_ref().filter(|closed| closed.build == build) {
            return Ok(closed.block.clone());
        }
        let OpenBlock { block, after, .. } =
            self.open.take_if(|open| open.build == build).ok_or(ExecutorError::BuildDiscarded)?;
        let started = Instant::now();
        self.metrics.count(block.stats());
        let (plan, output, lists) = block.finish()?;
        plan.check(&output).map_err(|error| ExecutorError::InvalidRequest(error.to_string()))?;
        self.store_before(after)?;
        let closed = self.chain.close(&plan, output, lists)?;
        let (block, diff) = (closed.block.clone(), closed.diff.clone());
        let state = ClosedState::Waiting(closed, started.elapsed());
        self.closed = Some(ClosedBlock { build, block: block.clone(), diff, state });
        Ok(block)
    }

    /// The block before must be in the store before the next one's root is computed.
    fn store_before(&mut self, after: Option<u64>) -> Result<(), ExecutorError> {
        let Some(closed) = &self.closed else { return Ok(()) };
        if let ClosedState::Waiting(..) = closed.state {
            let problem = "the block before is closed and not sealed: seal it first";
            return Err(ExecutorError::InvalidRequest(problem.to_owned()));
        }
        let hash = closed.block.hash();
        self.forget_closed();
        if after.is_some() && self.chain.head().seal() != hash {
            return Err(ExecutorError::BuildDiscarded);
        }
        Ok(())
    }

    fn seal(&mut self, build: u64, reply: Reply<Arc<ExecutedBlock>>) {
        if let Err(error) = self.close(build) {
            let _ = reply.send(Err(error));
            return;
        }
        let Some(ClosedBlock { build, block, diff, state }) = self.closed.take() else { return };
        let state = match state {
            ClosedState::Waiting(closed, closing) => {
                ClosedState::Storing(self.storer.store(closed, closing, reply))
            }
            // It is sealed already, and the build with it.
            storing @ ClosedState::Storing(_) => {
                let _ = reply.send(Err(ExecutorError::BuildDiscarded));
                storing
            }
        };
        self.closed = Some(ClosedBlock { build, block, diff, state });
    }

    /// Lets go of the closed block: it is discarded, or, where it is to be stored, waited for.
    fn forget_closed(&mut self) {
        match self.closed.take().map(|closed| closed.state) {
            None => {}
            Some(ClosedState::Waiting(..)) => self.chain.forget_closed(),
            Some(ClosedState::Storing(storing)) => storing.wait(),
        }
    }

    fn unwind(&mut self, to: BlockNumHash) -> Result<(), ExecutorError> {
        self.open = None;
        self.forget_closed();
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

    /// Nobody wants this build any more, unless it is to be stored.
    fn discard(&mut self, build: u64) {
        let waits = |closed: &ClosedBlock| matches!(closed.state, ClosedState::Waiting(..));
        if self.closed.as_ref().is_some_and(|closed| closed.build == build && waits(closed)) {
            self.forget_closed();
            self.open.take_if(|open| open.after == Some(build));
        }
        self.open.take_if(|open| open.build == build);
    }
}
