//! The models. A lost wake-up shows as a deadlock, a broken order as a failed assertion.

use std::{ops::Range, sync::atomic::AtomicUsize};

use loom::{sync::Arc, thread};

use super::{
    schedule::{Role, Schedule, Step, Work},
    signal::Signal,
    sync::{AHEAD, AtomicBool, Ordering},
};

fn explore(bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

#[test]
fn whoever_waits_for_a_count_is_woken() {
    explore(3, || {
        let signal = Arc::new(Signal::new());
        let waiters: Vec<_> = [1, 2]
            .map(|count| {
                let signal = signal.clone();
                thread::spawn(move || signal.wait(count))
            })
            .into();
        signal.set(1);
        signal.set(2);
        for waiter in waiters {
            waiter.join().expect("it does not panic");
        }
    });
}

/// Items whose order is checked.
#[derive(Clone, Copy)]
struct Items {
    /// So many at the start are not to be run ahead.
    paused: usize,
    /// So many after the first are not to be run ahead.
    pause: usize,
    /// The stretch ends at one.
    stop: Option<usize>,
    worth: fn(usize) -> bool,
    calm: bool,
    /// When this one is committed, it is calm no more, or is from then on.
    turns: Option<usize>,
    needs: Needs,
}

#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    /// Each needs the one before it.
    Chain,
    /// All need the first.
    Fan,
}

/// Items of which nothing special is asked.
const ITEMS: Items = Items {
    paused: 0,
    pause: 0,
    stop: None,
    worth: |_| true,
    calm: false,
    turns: None,
    needs: Needs::Nothing,
};

/// The items, for threads to work on.
struct Run {
    items: Items,
    calm: AtomicBool,
}

impl Run {
    fn new(items: Items) -> Self {
        Self { items, calm: AtomicBool::new(items.calm) }
    }
}

/// How often, in any run, items were read for that come after a pause.
static FETCHED_FAR: AtomicUsize = AtomicUsize::new(0);

impl Work for Run {
    type Lane = ();
    type Front = Vec<usize>;

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn is_worth(&self, at: usize) -> bool {
        (self.items.worth)(at)
    }

    fn needs(&self, at: usize) -> Option<usize> {
        match self.items.needs {
            Needs::Nothing => None,
            Needs::Chain => at.checked_sub(1),
            Needs::Fan => (at > 0).then_some(0),
        }
    }

    fn needed_by(&self, at: usize) -> Option<usize> {
        match self.items.needs {
            Needs::Nothing => None,
            Needs::Chain => Some(at + 1),
            Needs::Fan => (at == 0).then_some(1),
        }
    }

    fn fetch(&self, _at: usize) {}

    fn fetch_waiting(&self, items: Range<usize>, _until: usize) {
        if items.len() > AHEAD {
            FETCHED_FAR.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn run_ahead(&self, (): &mut (), _at: usize) -> u64 {
        1
    }

    fn commit(&self, (): &mut (), front: &mut Vec<usize>, at: usize, _ran: bool) -> Step {
        let Items { pause, stop, calm, turns, .. } = self.items;
        assert_eq!(front.len(), at, "items are committed in order, once");
        if stop == Some(at) {
            return Step::Stop;
        }
        front.push(at);
        if turns == Some(at) {
            self.calm.store(!calm, Ordering::Relaxed);
        }
        if pause > 0 && at == 0 { Step::Pause(pause) } else { Step::Done }
    }
}

fn two_threads(count: usize, items: Items) {
    for calm in [false, true] {
        explore_two_threads(count, Items { calm, ..items });
    }
}

#[test]
fn items_that_need_each_other_are_all_committed() {
    two_threads(2, Items { needs: Needs::Chain, ..ITEMS });
}

#[test]
fn items_that_need_the_same_are_all_committed() {
    two_threads(3, Items { needs: Needs::Fan, ..ITEMS });
}

#[test]
fn it_may_become_calm_or_stop_to_be() {
    for turns in [0, 1] {
        two_threads(3, Items { turns: Some(turns), ..ITEMS });
    }
}

#[test]
fn items_taken_together_are_committed_by_whoever_comes() {
    let items = Items { calm: true, ..ITEMS };
    explore_two_threads(3, items);
}

fn explore_two_threads(count: usize, items: Items) {
    // More items have more interleavings than there is time for.
    let bound = if count > 2 { 2 } else { 3 };
    explore(bound, move || {
        let schedule = Arc::new(Schedule::new(count, items.paused, Vec::new()));
        let run = Arc::new(Run::new(items));
        let (other, same) = (schedule.clone(), run.clone());
        let helper = thread::spawn(move || other.work(&*same, &mut (), Role::Helps));
        schedule.work(&*run, &mut (), Role::Asks);
        // Whatever the helper still has is waited for.
        let committed = schedule.finish(|front| front.len());
        assert_eq!(committed, items.stop.unwrap_or(count));
        assert!(items.stop.is_some() || schedule.committed() == count);
        helper.join().expect("it does not panic");
    });
}

#[test]
fn all_is_committed_in_order_whoever_does_it() {
    two_threads(2, ITEMS);
}

#[test]
fn a_pause_ends() {
    two_threads(2, Items { pause: 1, ..ITEMS });
}

#[test]
fn a_pause_of_several_ends() {
    two_threads(3, Items { pause: 2, ..ITEMS });
}

#[test]
fn in_a_pause_is_read_for_what_comes_after_it() {
    two_threads(4, Items { paused: 2, ..ITEMS });
    assert!(FETCHED_FAR.load(Ordering::Relaxed) > 0);
}

#[test]
fn items_that_are_passed_over_wait_for_their_turn() {
    two_threads(2, Items { worth: |at| at != 1, ..ITEMS });
}

#[test]
fn a_stop_ends_every_wait() {
    two_threads(2, Items { stop: Some(1), ..ITEMS });
}

const FAILED: usize = usize::MAX;

/// As after a panic: a thread that is not at the front ends the stretch, while the one that is goes on.
#[test]
fn a_failure_elsewhere_ends_every_wait_and_is_told() {
    explore(3, || {
        let schedule = Arc::new(Schedule::new(2, 0, Vec::new()));
        let other = schedule.clone();
        let helper = thread::spawn(move || other.fail(|front| front.push(FAILED)));
        schedule.work(&Run::new(ITEMS), &mut (), Role::Asks);
        schedule.finish(|front| {
            assert!(front.last() == Some(&FAILED) || *front == [0, 1], "{front:?}");
        });
        helper.join().expect("it does not panic");
    });
}
