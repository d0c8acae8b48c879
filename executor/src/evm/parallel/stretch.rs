//! A stretch: transactions of a block that are executed together.
//!
//! Commits are in order, and each checks that what the run ahead saw is what is there now; so the result is that of
//! executing one after the other, whatever the threads do.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use millrace_proto::{RecoveredTx, TxOutcome};
use parking_lot::Mutex;
use revm::context::result::ExecutionResult;

use super::{
    fetch::{Fetched, Fetches, Parties},
    front::{Front, Prepared},
    hints::Order,
    lane::Lane,
    plain::PlainRules,
    pool::Disturbance,
    run::{Published, Run},
    schedule::{Schedule, Step, Work},
    sync::AHEAD,
    view::Shared,
};
use crate::evm::ExecutionError;

/// A run of so much gas always shows all that it wrote to later ones: to run them again would cost more.
const COSTLY: u64 = 100_000;

/// Transactions, and how far they are.
pub(super) struct Stretch {
    schedule: Schedule<End>,
    items: Items,
}

/// The transactions.
struct Items {
    shared: Arc<Shared>,
    transactions: Arc<[Arc<RecoveredTx>]>,
    rules: Option<PlainRules>,
    /// Number in the block of the first transaction.
    first: u32,
    /// The run of the transaction at an index modulo the length.
    runs: Vec<Mutex<Option<Box<Run>>>>,
    fetches: Fetches,
    order: Option<Order>,
    /// Runs hardly ever depend on each other, so that cheap ones show only what transactions contend for.
    calm: AtomicBool,
    disturbance: Option<Disturbance>,
}

/// What the holder of the front works with.
struct End {
    /// `None` once it is taken.
    front: Option<Front>,
    fetched: Fetched,
    outcomes: Vec<TxOutcome>,
    error: Option<ExecutionError>,
}

impl Stretch {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut front: Front,
        transactions: Arc<[Arc<RecoveredTx>]>,
        disturbance: Option<Disturbance>,
    ) -> Self {
        let count = transactions.len();
        front.gauge.begin();
        let (rules, first, pause) = (front.rules(), front.index, front.gauge.pausing());
        let calm = AtomicBool::new(match &disturbance {
            Some(disturbance) => disturbance.draw() >> 63 == 0,
            None => front.gauge.is_calm(),
        });
        let known = transactions.iter().map(|tx| &**tx);
        let order = front.hints.order(&shared.memory, known);
        let outcomes = Vec::with_capacity(count);
        let fetched = Fetched::default();
        let end = End { front: Some(front), fetched, outcomes, error: None };
        let runs = (0..count.min(AHEAD)).map(|_| Mutex::default()).collect();
        let fetches = Fetches::new(count);
        let items =
            Items { shared, transactions, rules, first, runs, fetches, order, calm, disturbance };
        Self { schedule: Schedule::new(count, pause, end), items }
    }

    /// What the block shares.
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.items.shared
    }

    /// Works until every transaction is committed or taken by another thread.
    pub(super) fn work(&self, lane: &mut Lane) {
        self.schedule.work(&Ahead { items: &self.items, schedule: &self.schedule }, lane);
    }

    /// Waits for the last transaction and gives the outcomes, an outcome each; and the front, unless it failed.
    pub(super) fn finish(&self) -> Result<(Front, Vec<TxOutcome>), ExecutionError> {
        self.schedule.finish(|end| {
            if let Some(error) = end.error.take() {
                return Err(error);
            }
            let outcomes = std::mem::take(&mut end.outcomes);
            match end.front.take() {
                Some(front) if outcomes.len() == self.items.transactions.len() => {
                    Ok((front, outcomes))
                }
                _ => Err(ExecutionError::Panicked),
            }
        })
    }

    /// Ends the stretch after a thread has panicked on it, which may have been in the middle of a commit.
    pub(super) fn poison(&self) {
        self.schedule.fail(|end| {
            end.error.get_or_insert(ExecutionError::Panicked);
        });
    }
}

/// The transactions, for threads to work on.
struct Ahead<'a> {
    items: &'a Items,
    schedule: &'a Schedule<End>,
}

impl Ahead<'_> {
    /// Reads what the transaction at an index is known to need, if there is one. For a plain transfer that is all, and is given.
    fn read(&self, at: usize) -> Option<Parties> {
        let Items { shared, transactions, rules, .. } = self.items;
        let tx = transactions.get(at)?;
        let Some(plain) = rules.as_ref().and_then(|rules| rules.of(tx)) else {
            if shared.reader.keeps_reads() && self.schedule.committed() <= at {
                shared.prefetch(tx);
            }
            return None;
        };
        // What fails here fails in its turn as well, and is told there.
        let [from, to] = plain.parties().map(|address| shared.reader.account(address).ok());
        Some([from?, to?])
    }
}

impl Work for Ahead<'_> {
    type Lane = Lane;
    type Front = End;

    fn is_calm(&self) -> bool {
        self.items.calm.load(Ordering::Relaxed)
    }

    /// Plain transfers cost less than handing them over.
    fn is_worth(&self, at: usize) -> bool {
        let items = self.items;
        items.rules.and_then(|rules| rules.of(&items.transactions[at])).is_none()
    }

    fn needs(&self, at: usize) -> Option<usize> {
        self.items.order.as_ref()?.needs(at)
    }

    fn needed_by(&self, at: usize) -> Option<usize> {
        self.items.order.as_ref()?.needed_by(at)
    }

    fn fetch(&self, at: usize) {
        let front = self.schedule.committed();
        self.items.fetches.fetch(at, front, |at| self.read(at));
    }

    fn fetch_waiting(&self, waiting: Range<usize>, until: usize) {
        if self.items.shared.reader.keeps_reads() {
            for at in Fetches::firsts(waiting) {
                if self.schedule.committed() >= until {
                    return;
                }
                self.fetch(at);
            }
        }
    }

    fn run_ahead(&self, lane: &mut Lane, at: usize) -> u64 {
        let items = self.items;
        let tx = &items.transactions[at];
        if tx.tx().is_deposit() {
            return 0;
        }
        let index = items.first + at as u32;
        // What fails here is run again at the front, and told there.
        let Ok(mut run) = lane.run_ahead(index, tx) else { return 0 };
        let cost = run.result.as_ref().map_or(0, ExecutionResult::tx_gas_used);
        self.meet();
        let memory = &items.shared.memory;
        let always = cost >= COSTLY || !self.is_calm();
        let mut shown = false;
        run.visit_published(index, items.shared.removes_empty, |published| {
            shown |= match published {
                Published::Account(address, state) => {
                    memory.accounts.publish(address, index, state, always)
                }
                Published::Slot(key, value) => memory.slots.publish(key, index, value, always),
            };
        });
        run.published = shown;
        self.meet();
        *items.runs[at % AHEAD].lock() = Some(run);
        cost
    }

    fn commit(&self, lane: &mut Lane, end: &mut End, at: usize, ran: bool) -> Step {
        let items = self.items;
        let fetched = end.fetched.next(&items.fetches, at);
        let run = if ran { items.runs[at % AHEAD].lock().take() } else { None };
        let prepared = match run {
            Some(run) => Prepared::Run(run),
            None => fetched.map_or(Prepared::Nothing, Prepared::Read),
        };
        let Some(front) = &mut end.front else { return Step::Stop };
        match front.step(lane, &items.transactions[at], prepared) {
            Ok((outcome, ahead)) => {
                let gas =
                    if let TxOutcome::Included { gas_used, .. } = &outcome { *gas_used } else { 0 };
                end.outcomes.push(outcome);
                let pause = front.gauge.tell(ahead, gas, Instant::now);
                let calm = front.gauge.is_calm();
                if self.is_calm() != calm && items.disturbance.is_none() {
                    items.calm.store(calm, Ordering::Relaxed);
                }
                pause.map_or(Step::Done, Step::Pause)
            }
            Err(error) => {
                end.error.get_or_insert(error);
                Step::Stop
            }
        }
    }

    fn meet(&self) {
        if let Some(disturbance) = &self.items.disturbance {
            disturbance.meet();
        }
    }
}
