//! The models. A lost wake-up shows as a deadlock, a broken order as a failed assertion.

use loom::{sync::Arc, thread};

use super::{
    schedule::{Schedule, Step, Work},
    signal::Signal,
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

/// Items whose order is checked. `pause` after the first; `stop` at one.
#[derive(Clone, Copy)]
struct Items {
    pause: bool,
    stop: Option<usize>,
    worth: fn(usize) -> bool,
    calm: bool,
    /// Each needs the one before it.
    chain: bool,
}

/// Items of which nothing special is asked.
const ITEMS: Items = Items { pause: false, stop: None, worth: |_| true, calm: false, chain: false };

impl Work for Items {
    type Lane = ();
    type Front = Vec<usize>;

    fn is_calm(&self) -> bool {
        self.calm
    }

    fn is_worth(&self, at: usize) -> bool {
        (self.worth)(at)
    }

    fn needs(&self, at: usize) -> Option<usize> {
        (self.chain && at > 0).then(|| at - 1)
    }

    fn needed_by(&self, at: usize) -> Option<usize> {
        self.chain.then_some(at + 1)
    }

    fn fetch(&self, _at: usize) {}

    fn run_ahead(&self, (): &mut (), _at: usize) -> u64 {
        0
    }

    fn commit(&self, (): &mut (), front: &mut Vec<usize>, at: usize, _ran: bool) -> Step {
        assert_eq!(front.len(), at, "items are committed in order, once");
        if self.stop == Some(at) {
            return Step::Stop;
        }
        front.push(at);
        if self.pause && at == 0 { Step::Pause(1) } else { Step::Done }
    }
}

fn two_threads(count: usize, items: Items) {
    for calm in [false, true] {
        explore_two_threads(count, Items { calm, ..items });
    }
}

#[test]
fn items_that_need_each_other_are_all_committed() {
    two_threads(2, Items { chain: true, ..ITEMS });
}

#[test]
fn items_taken_together_are_committed_by_whoever_comes() {
    let items = Items { calm: true, ..ITEMS };
    explore_two_threads(3, items);
}

fn explore_two_threads(count: usize, items: Items) {
    explore(3, move || {
        let schedule = Arc::new(Schedule::new(count, 0, Vec::new()));
        let other = schedule.clone();
        let helper = thread::spawn(move || other.work(&items, &mut ()));
        schedule.work(&items, &mut ());
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
    two_threads(2, Items { pause: true, ..ITEMS });
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
        let items = ITEMS;
        let schedule = Arc::new(Schedule::new(2, 0, Vec::new()));
        let other = schedule.clone();
        let helper = thread::spawn(move || other.fail(|front| front.push(FAILED)));
        schedule.work(&items, &mut ());
        schedule.finish(|front| {
            assert!(front.last() == Some(&FAILED) || *front == [0, 1], "{front:?}");
        });
        helper.join().expect("it does not panic");
    });
}
