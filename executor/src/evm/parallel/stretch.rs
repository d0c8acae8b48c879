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
    schedule::{Role, Schedule, Step, Work},
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
    pub(super) fn work(&self, lane: &mut Lane, role: Role) {
        self.schedule.work(&Ahead { items: &self.items, schedule: &self.schedule }, lane, role);
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
    /// Reads what the transaction at an index is known to need. Gives its accounts, if it is a plain transfer or `any`.
    fn read(&self, at: usize, any: bool) -> Option<Parties> {
        let Items { shared, transactions, rules, .. } = self.items;
        let tx = transactions.get(at)?;
        if rules.as_ref().is_some_and(|rules| rules.of(tx).is_some()) {
            return shared.parties(tx);
        }
        if !any || self.schedule.committed() > at {
            return None;
        }
        let parties = shared.parties(tx)?;
        if shared.reader.keeps_reads() {
            shared.prefetch(tx, &parties);
        }
        Some(parties)
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
        let Items { shared, fetches, .. } = self.items;
        let read = |at| self.read(at, shared.reader.keeps_reads());
        fetches.fetch(at, self.schedule.committed(), read);
    }

    fn fetch_waiting(&self, waiting: Range<usize>, until: usize) {
        for first in Fetches::firsts(waiting) {
            let front = self.schedule.committed();
            if front >= until {
                return;
            }
            self.items.fetches.fetch(first, front, |at| self.read(at, true));
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

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        thread,
        time::Duration,
    };

    use super::*;

    /// Items of which the first ends in a pause, while the asking thread runs the third ahead.
    #[derive(Default)]
    struct Items {
        so_far: Mutex<SoFar>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct SoFar {
        helper_at_front: bool,
        asking_ahead: bool,
        helper_rests: bool,
        /// Who has committed.
        by: Vec<Role>,
    }

    impl Items {
        fn tell(&self, change: impl FnOnce(&mut SoFar)) {
            change(&mut self.so_far.lock().expect("no thread panics"));
            self.changed.notify_all();
        }

        fn wait(&self, until: impl Fn(&SoFar) -> bool) {
            let so_far = self.so_far.lock().expect("no thread panics");
            let patience = Duration::from_secs(30);
            let waited = self.changed.wait_timeout_while(so_far, patience, |now| !until(now));
            assert!(!waited.expect("no thread panics").1.timed_out(), "nobody comes");
        }
    }

    impl Work for Items {
        type Lane = Role;
        type Front = ();

        fn is_calm(&self) -> bool {
            false
        }

        fn is_worth(&self, _: usize) -> bool {
            true
        }

        fn needs(&self, _: usize) -> Option<usize> {
            None
        }

        fn needed_by(&self, _: usize) -> Option<usize> {
            None
        }

        fn fetch(&self, _: usize) {}

        fn fetch_waiting(&self, _: Range<usize>, _: usize) {
            self.tell(|now| now.helper_rests = true);
        }

        fn run_ahead(&self, role: &mut Role, at: usize) -> u64 {
            if (*role, at) == (Role::Asks, 2) {
                self.tell(|now| now.asking_ahead = true);
                self.wait(|now| now.helper_rests || now.by.len() > 1);
            }
            1
        }

        fn commit(&self, role: &mut Role, (): &mut (), at: usize, _: bool) -> Step {
            if at == 0 {
                self.tell(|now| now.helper_at_front = true);
                self.wait(|now| now.asking_ahead);
            }
            self.tell(|now| now.by.push(*role));
            if at == 0 { Step::Pause(5) } else { Step::Done }
        }
    }

    #[test]
    fn in_a_pause_the_asking_thread_has_the_front() {
        let (schedule, items) = (Schedule::new(6, 0, ()), Items::default());
        thread::scope(|scope| {
            scope.spawn(|| schedule.work(&items, &mut { Role::Helps }, Role::Helps));
            items.wait(|now| now.helper_at_front);
            schedule.work(&items, &mut { Role::Asks }, Role::Asks);
        });
        schedule.finish(|()| {});
        let by = &items.so_far.lock().expect("no thread panics").by;
        assert_eq!(by[..], [&[Role::Helps][..], &[Role::Asks; 5]].concat());
    }
}
