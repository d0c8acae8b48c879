//! A stretch: transactions of a block that are executed together.
//!
//! Every thread does the same: it commits what is ready at the front, if no other thread is at it, and runs ahead
//! otherwise. Commits are in order, and each checks that what the run saw is what is there now; so the result is that of executing one
//! after the other, whatever the threads do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence},
};

use millrace_proto::{RecoveredTx, TxOutcome};
use parking_lot::Mutex;

use super::{
    front::{Front, Prepared},
    gauge::Gauge,
    lane::Lane,
    plain::PlainRules,
    pool::Disturbance,
    run::Published,
    signal::Signal,
    view::Shared,
};
use crate::evm::ExecutionError;

/// How far ahead of the front transactions are run; bounds what is kept of them. A power of two.
const AHEAD: usize = 256;

/// Nobody works on the transaction yet.
const WAITS: u8 = 0;
/// Somebody does.
const RUNS: u8 = 1;
/// It was run ahead.
const RAN: u8 = 2;
/// It is a plain transfer, whose accounts were read. It waits for its turn.
const WARM: u8 = 3;

pub(super) struct Stretch {
    shared: Arc<Shared>,
    transactions: Arc<[Arc<RecoveredTx>]>,
    rules: Option<PlainRules>,
    /// Number in the block of the first transaction.
    first: u32,
    states: Vec<AtomicU8>,
    /// What was prepared for the transaction at an index modulo the length.
    prepared: Vec<Mutex<Prepared>>,
    /// Transactions before this are taken; only a hint.
    next: AtomicUsize,
    /// Nothing is run ahead before the front is here.
    resume: AtomicUsize,
    committed: Signal,
    /// Something failed: all stop.
    stopped: AtomicBool,
    end: Mutex<End>,
    disturbance: Option<Disturbance>,
}

/// What the holder of the front works with.
struct End {
    front: Option<Front>,
    gauge: Gauge,
    outcomes: Vec<TxOutcome>,
    error: Option<ExecutionError>,
}

impl Stretch {
    pub(super) fn new(
        shared: Arc<Shared>,
        front: Front,
        transactions: Arc<[Arc<RecoveredTx>]>,
        disturbance: Option<Disturbance>,
    ) -> Self {
        let count = transactions.len();
        let (rules, first) = (front.rules(), front.index);
        let outcomes = Vec::with_capacity(count);
        let end = End { front: Some(front), gauge: Gauge::default(), outcomes, error: None };
        Self {
            shared,
            rules,
            first,
            states: (0..count).map(|_| AtomicU8::new(WAITS)).collect(),
            prepared: (0..count.min(AHEAD)).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            resume: AtomicUsize::new(0),
            committed: Signal::new(),
            stopped: AtomicBool::new(false),
            end: Mutex::new(end),
            disturbance,
            transactions,
        }
    }

    /// What the block shares.
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Works until every transaction is committed or taken by another thread.
    pub(super) fn work(&self, lane: &mut Lane) {
        loop {
            self.advance(lane);
            if self.is_over() {
                return;
            }
            match self.claim() {
                Claim::Taken(index) => self.run_ahead(lane, index),
                Claim::Later(count) => self.committed.wait(count),
                Claim::None => return,
            }
        }
    }

    /// Waits for the last transaction and gives the outcomes, an outcome each.
    pub(super) fn finish(&self) -> (Option<Front>, Result<Vec<TxOutcome>, ExecutionError>) {
        self.committed.wait(self.transactions.len());
        let mut end = self.end.lock();
        let outcomes = std::mem::take(&mut end.outcomes);
        let result = match end.error.take() {
            Some(error) => Err(error),
            None => Ok(outcomes),
        };
        (end.front.take(), result)
    }

    /// Ends the stretch after a thread has panicked on it.
    pub(super) fn poison(&self) {
        let error = ExecutionError::Panicked;
        // A thread that panicked holds no lock any more.
        self.end.lock().error.get_or_insert(error);
        self.stop();
    }

    /// A place where another thread may come between.
    fn meet(&self) {
        if let Some(disturbance) = &self.disturbance {
            disturbance.meet();
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.committed.set(usize::MAX);
    }

    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.committed.get() >= self.transactions.len()
    }

    /// Commits what is ready, if no other thread is at it.
    fn advance(&self, lane: &mut Lane) {
        loop {
            let Some(mut end) = self.end.try_lock() else { return };
            let Some(at) = self.commit_ready(lane, &mut end) else { return };
            self.meet();
            drop(end);
            // The thread that runs the transaction at the front tries to commit when it is done. Either it finds the front
            // free, or this sees that it is done.
            fence(Ordering::SeqCst);
            if self.states[at].load(Ordering::Relaxed) != RAN {
                return;
            }
        }
    }

    /// Commits until the front is at a transaction that another thread runs, which is returned.
    fn commit_ready(&self, lane: &mut Lane, end: &mut End) -> Option<usize> {
        let End { front, gauge, outcomes, error } = end;
        let front = front.as_mut()?;
        loop {
            let at = outcomes.len();
            if at == self.transactions.len() || self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let state = &self.states[at];
            let prepared = match state.compare_exchange(
                WAITS,
                RUNS,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) | Err(WARM) => Prepared::Nothing,
                Err(RAN) => std::mem::take(&mut *self.prepared[at % AHEAD].lock()),
                Err(_) => return Some(at),
            };
            self.meet();
            match front.step(lane, &self.transactions[at], prepared) {
                Ok((outcome, ahead)) => {
                    outcomes.push(outcome);
                    if let Some(pause) = gauge.tell(ahead) {
                        self.resume.store(at + 1 + pause, Ordering::Relaxed);
                    }
                    self.committed.set(at + 1);
                }
                Err(failure) => {
                    error.get_or_insert(failure);
                    self.stop();
                    return None;
                }
            }
        }
    }

    /// Takes the next transaction to run ahead. Plain transfers are not: they cost less than handing them over.
    fn claim(&self) -> Claim {
        self.meet();
        let committed = self.committed.get();
        let resume = self.resume.load(Ordering::Relaxed);
        if committed < resume {
            return Claim::Later(resume.min(self.transactions.len()));
        }
        let mut at = self.next.load(Ordering::Relaxed).max(committed);
        loop {
            if at >= self.transactions.len() {
                return Claim::None;
            }
            if at >= committed + AHEAD {
                return Claim::Later((committed + AHEAD / 4).min(self.transactions.len()));
            }
            let state = &self.states[at];
            let take = |becomes| {
                let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
                state.compare_exchange(WAITS, becomes, success, failure).is_ok()
            };
            at += 1;
            if state.load(Ordering::Relaxed) != WAITS {
                continue;
            }
            let tx = &self.transactions[at - 1];
            if let Some(plain) = self.rules.and_then(|rules| rules.of(tx)) {
                plain.warm(&self.shared);
                take(WARM);
            } else if take(RUNS) {
                self.next.store(at, Ordering::Relaxed);
                return Claim::Taken(at - 1);
            }
        }
    }

    fn run_ahead(&self, lane: &mut Lane, at: usize) {
        let prepared = self.prepare(lane, self.first + at as u32, &self.transactions[at]);
        self.meet();
        *self.prepared[at % AHEAD].lock() = prepared;
        self.states[at].store(RAN, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    fn prepare(&self, lane: &mut Lane, index: u32, tx: &RecoveredTx) -> Prepared {
        if tx.tx().is_deposit() {
            return Prepared::Nothing;
        }
        // What fails here fails at the front as well, and is told there.
        let Ok(mut run) = lane.run_ahead(index, tx) else { return Prepared::Nothing };
        // At the front it is committed at once.
        if self.first + self.committed.get() as u32 == index {
            return Prepared::Run(run);
        }
        run.published = true;
        self.meet();
        let memory = &self.shared.memory;
        run.visit_published(index, self.shared.removes_empty, |published| match published {
            Published::Account(address, state) => memory.accounts.publish(address, index, state),
            Published::Slot(key, value) => memory.slots.publish(key, index, value),
        });
        Prepared::Run(run)
    }
}

enum Claim {
    Taken(usize),
    /// Nothing until the front is here.
    Later(usize),
    /// All are taken.
    None,
}
