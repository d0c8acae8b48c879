//! When each transaction reached each stage, and in how many blocks it is.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::primitives::{TxHash, map::B256Map};
use eyre::Result;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::plan::Signed;

/// The stages whose latencies are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Acknowledged: checked, and on disk.
    Accepted,
    /// Executed too.
    Preconfirmed,
    /// In a sealed block.
    Sequenced,
    /// In a batch on L1 or DA.
    Posted,
    /// Final.
    Finalized,
}

impl Stage {
    pub(super) const ALL: [Self; 5] =
        [Self::Accepted, Self::Preconfirmed, Self::Sequenced, Self::Posted, Self::Finalized];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Preconfirmed => "preconfirmed",
            Self::Sequenced => "sequenced",
            Self::Posted => "posted",
            Self::Finalized => "finalized",
        }
    }
}

/// Microseconds, to three digits, up to an hour.
type Latencies = Histogram<u64>;

const MOST_MICROS: u64 = 3_600_000_000;

const NOT_SENT: u64 = u64::MAX;

/// The load, and what became of it. Times are since its begin.
#[derive(Debug)]
pub(super) struct Ledger {
    begin: OnceLock<Instant>,
    index: B256Map<u32>,
    /// When each transaction was due, microseconds; [`NOT_SENT`] before it is sent for the first time.
    due: Vec<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seen: Vec<Seen>,
    latencies: [Latencies; 5],
    /// How late transactions were sent.
    lateness: Latencies,
    /// Blocks with transactions of the load.
    blocks: BTreeMap<u64, Vec<u32>>,
    last_block: u64,
    posted: u64,
    finalized: u64,
    errors: BTreeMap<String, u64>,
    tally: Tally,
    last_step: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    answer: Answer,
    preconfirmed: bool,
    /// In how many blocks it is.
    blocks: u8,
}

/// What the sequencer said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Answer {
    /// Nothing.
    #[default]
    None,
    Accepted,
    Refused,
    /// It was there before: from an earlier run, as a rule.
    Known,
}

/// How many transactions have come how far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// In a block.
    pub(super) sequenced: u64,
    /// Of those that are acknowledged.
    pub(super) whole: u64,
    pub(super) posted: u64,
    pub(super) finalized: u64,
    /// When the last one was acknowledged, and when the last one was seen in a block.
    pub(super) last_accepted: Duration,
    pub(super) last_block: Duration,
}

/// One that was not seen in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) index: u32,
    /// It was there before: a block may have had it then.
    pub(super) was_known: bool,
}

/// The check at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Check {
    /// Acknowledged, now or before, and in no block since.
    pub(super) missing: Vec<Missing>,
    /// In more than one block.
    pub(super) doubled: u64,
    /// Refused, and yet in a block.
    pub(super) intruders: u64,
    /// Without an answer.
    pub(super) unanswered: u64,
}

impl Ledger {
    /// A load that has not begun.
    pub(super) fn new(load: &[Signed]) -> Result<Self> {
        let latencies = || Latencies::new_with_bounds(1, MOST_MICROS, 3);
        Ok(Self {
            begin: OnceLock::new(),
            index: (0..).zip(load).map(|(index, tx)| (tx.hash, index)).collect(),
            due: load.iter().map(|_| AtomicU64::new(NOT_SENT)).collect(),
            state: Mutex::new(State {
                seen: vec![Seen::default(); load.len()],
                latencies: [latencies()?, latencies()?, latencies()?, latencies()?, latencies()?],
                lateness: latencies()?,
                blocks: BTreeMap::new(),
                last_block: 0,
                posted: 0,
                finalized: 0,
                errors: BTreeMap::new(),
                tally: Tally::default(),
                last_step: Instant::now(),
            }),
        })
    }

    /// When it began; the first that asks begins it.
    pub(super) fn begin(&self) -> Instant {
        *self.begin.get_or_init(|| {
            let now = Instant::now();
            self.state.lock().last_step = now;
            now
        })
    }

    fn now(&self) -> Duration {
        self.begin.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Some are sent that were due at a time each. Those that are sent again stay due when they were first.
    pub(super) fn sent(&self, due: impl Iterator<Item = (u32, Duration)>) {
        let now = micros(self.now());
        let mut state = self.state.lock();
        for (index, at) in due {
            let due = &self.due[index as usize];
            if due.load(Ordering::Relaxed) == NOT_SENT {
                due.store(micros(at), Ordering::Relaxed);
                state.tally.sent += 1;
                let late = now.saturating_sub(micros(at));
                state.lateness.saturating_record(late.max(1));
            }
        }
    }

    /// What the sequencer said of some: nothing, or why it refused one.
    pub(super) fn answered(&self, answers: Vec<(u32, Result<(), String>)>) {
        if answers.is_empty() {
            return;
        }
        let now = self.now();
        let mut state = self.state.lock();
        for (index, answer) in answers {
            let answer = match answer {
                Ok(()) => {
                    state.tally.last_accepted = now;
                    state.tally.accepted += 1;
                    state.tally.whole += u64::from(state.seen[index as usize].blocks > 0);
                    self.reach(&mut state, Stage::Accepted, index, now);
                    Answer::Accepted
                }
                Err(reason) => {
                    let known = reason == "ALREADY_KNOWN";
                    state.tally.refused += 1;
                    *state.errors.entry(reason).or_default() += 1;
                    if known { Answer::Known } else { Answer::Refused }
                }
            };
            state.seen[index as usize].answer = answer;
        }
        state.last_step = Instant::now();
    }

    /// Something went wrong that settles no transaction: one was refused for now and is sent again, or a stream
    /// ended.
    pub(super) fn failed(&self, reason: String) {
        *self.state.lock().errors.entry(reason).or_default() += 1;
    }

    /// A frame is told.
    pub(super) fn preconfirmed(&self, hashes: impl Iterator<Item = TxHash>) {
        let now = self.now();
        let ours: Vec<u32> = self.ours(hashes);
        let mut state = self.state.lock();
        for index in ours {
            if !std::mem::replace(&mut state.seen[index as usize].preconfirmed, true) {
                self.reach(&mut state, Stage::Preconfirmed, index, now);
            }
        }
    }

    /// A block is sealed. One whose number came before replaces that one and all after it.
    pub(super) fn sealed(&self, number: u64, hashes: impl Iterator<Item = TxHash>) {
        let now = self.now();
        let ours: Vec<u32> = self.ours(hashes);
        let mut state = self.state.lock();
        if number <= state.last_block {
            let replaced = state.blocks.split_off(&number);
            for index in replaced.into_values().flatten() {
                state.leave_block(index);
            }
        }
        state.last_block = number;
        if ours.is_empty() {
            return;
        }
        for index in &ours {
            if state.enter_block(*index) {
                self.reach(&mut state, Stage::Sequenced, *index, now);
            }
        }
        state.tally.last_block = now;
        state.last_step = Instant::now();
        state.blocks.insert(number, ours);
    }

    /// How far the chain is posted and final.
    pub(super) fn settled(&self, posted: u64, finalized: u64) {
        let now = self.now();
        let mut state = self.state.lock();
        // What is not seen in a block yet is counted the next time.
        let (posted, finalized) = (posted.min(state.last_block), finalized.min(state.last_block));
        for index in state.indices(state.posted + 1, posted) {
            state.tally.posted += 1;
            self.reach(&mut state, Stage::Posted, index, now);
            state.last_step = Instant::now();
        }
        for index in state.indices(state.finalized + 1, finalized) {
            state.tally.finalized += 1;
            self.reach(&mut state, Stage::Finalized, index, now);
            state.last_step = Instant::now();
        }
        state.posted = state.posted.max(posted);
        state.finalized = state.finalized.max(finalized);
    }

    fn ours(&self, hashes: impl Iterator<Item = TxHash>) -> Vec<u32> {
        hashes.filter_map(|hash| self.index.get(&hash).copied()).collect()
    }

    fn reach(&self, state: &mut State, stage: Stage, index: u32, now: Duration) {
        let due = self.due[index as usize].load(Ordering::Relaxed);
        if due == NOT_SENT {
            // Somebody else has sent it.
            return;
        }
        let latency = micros(now).saturating_sub(due);
        state.latencies[stage as usize].saturating_record(latency.max(1));
    }

    pub(super) fn tally(&self) -> Tally {
        self.state.lock().tally
    }

    /// Whether something is sent that is not answered, or acknowledged that is in no block.
    pub(super) fn is_waiting(&self) -> bool {
        let Tally { sent, accepted, refused, whole, .. } = self.tally();
        sent > accepted + refused || accepted > whole
    }

    /// How long ago something went on.
    pub(super) fn idle(&self) -> Duration {
        self.state.lock().last_step.elapsed()
    }

    /// How long each took to a stage, microseconds.
    pub(super) fn latencies(&self, stage: Stage) -> Latencies {
        self.state.lock().latencies[stage as usize].clone()
    }

    /// How late transactions were sent, microseconds.
    pub(super) fn lateness(&self) -> Latencies {
        self.state.lock().lateness.clone()
    }

    /// What went wrong, and how often.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        self.state.lock().errors.clone()
    }

    /// Whether each that was acknowledged is in a block, once.
    pub(super) fn check(&self) -> Check {
        let state = self.state.lock();
        let mut check = Check::default();
        for (index, seen) in (0..).zip(&state.seen) {
            match (seen.answer, seen.blocks) {
                (answer @ (Answer::Accepted | Answer::Known), 0) => {
                    let was_known = answer == Answer::Known;
                    check.missing.push(Missing { index, was_known });
                }
                (_, 2..) => check.doubled += 1,
                (Answer::Refused, 1) => check.intruders += 1,
                _ => {}
            }
        }
        check.unanswered =
            state.tally.sent.saturating_sub(state.tally.accepted + state.tally.refused);
        check
    }
}

impl State {
    fn indices(&self, from: u64, to: u64) -> Vec<u32> {
        if from > to {
            return Vec::new();
        }
        self.blocks.range(from..=to).flat_map(|(_, indices)| indices.iter().copied()).collect()
    }

    /// `true` if it was in none before.
    fn enter_block(&mut self, index: u32) -> bool {
        let seen = &mut self.seen[index as usize];
        seen.blocks = seen.blocks.saturating_add(1);
        let is_first = seen.blocks == 1;
        self.tally.sequenced += u64::from(is_first);
        self.tally.whole += u64::from(is_first && seen.answer == Answer::Accepted);
        is_first
    }

    fn leave_block(&mut self, index: u32) {
        let seen = &mut self.seen[index as usize];
        seen.blocks = seen.blocks.saturating_sub(1);
        let is_gone = seen.blocks == 0;
        self.tally.sequenced -= u64::from(is_gone);
        self.tally.whole -= u64::from(is_gone && seen.answer == Answer::Accepted);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(NOT_SENT - 1)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn latencies_count_from_when_a_transaction_was_due_and_each_has_one_block() {
        let load: Vec<_> = (0..5)
            .map(|index| Signed { raw: Bytes::new(), hash: B256::with_last_byte(index), sender: 0 })
            .collect();
        let ledger = Ledger::new(&load).unwrap();
        let hash = |index: u32| load[index as usize].hash;
        ledger.begin();
        tokio::time::advance(Duration::from_millis(30)).await;
        // Late: they were due before.
        let due = |index| (index, Duration::from_millis(u64::from(index) * 5));
        ledger.sent((0..5).map(due));
        assert_eq!((ledger.lateness().min(), ledger.lateness().len()), (10_000, 5));
        let refused = |index, reason: &str| (index, Err(reason.to_owned()));
        ledger.answered(vec![(0, Ok(())), (1, Ok(()))]);
        ledger.failed("POOL_FULL".to_owned());
        tokio::time::advance(Duration::from_millis(100)).await;
        // Sent again: due when it was first.
        ledger.sent([(2, Duration::from_millis(130))].into_iter());
        ledger.answered(vec![(2, Ok(())), refused(3, "UNDERPRICED")]);
        let accepted = ledger.latencies(Stage::Accepted);
        // To three digits.
        assert_eq!((accepted.len(), accepted.min().div_ceil(100)), (3, 250));
        assert!((119_900..120_100).contains(&accepted.max()), "{}", accepted.max());

        ledger.preconfirmed([hash(0), B256::repeat_byte(9), hash(0)].into_iter());
        assert_eq!(ledger.latencies(Stage::Preconfirmed).len(), 1);
        ledger.sealed(7, [hash(0), B256::repeat_byte(9)].into_iter());
        ledger.sealed(8, [hash(1), hash(3)].into_iter());
        ledger.sealed(9, [hash(1)].into_iter());
        ledger.settled(8, 7);
        let check = ledger.check();
        assert_eq!(
            (check.missing, check.doubled, check.intruders),
            (vec![Missing { index: 2, was_known: false }], 1, 1)
        );
        assert_eq!(check.unanswered, 1);
        let tally = ledger.tally();
        assert_eq!((tally.sent, tally.sequenced, tally.whole, tally.posted), (5, 3, 2, 3));
        assert_eq!((ledger.errors()["POOL_FULL"], ledger.errors()["UNDERPRICED"]), (1, 1));

        // An L2 reorg: other blocks in the place of those from the eighth on.
        ledger.sealed(8, [hash(2)].into_iter());
        ledger.sealed(9, [hash(1)].into_iter());
        let check = ledger.check();
        assert_eq!((check.missing, check.doubled, check.intruders), (vec![], 0, 0));
        assert_eq!(ledger.tally().whole, 3);
    }
}
