//! Figures as rows, and against their goals.

use std::time::Duration;

use serde::Serialize;

use super::{Allocated, Figures, Kind, Memory, ParallelMemory};

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `executor`, `crypto` or `codec`.
    pub bench: &'static str,
    /// Which block.
    pub case: String,
    /// How it was done. Blocks: `bare_revm`, `in_order`, `parallel`, or `listed` (parallel, with the access list given). Signatures and
    /// hashes: `singly` or `batch`. Batches: `rlp`, `rlp_zstd`, `rlp_brotli_11`, `span_brotli_10`, `transactions` or `state_diffs`.
    pub way: &'static str,
    /// Threads.
    pub threads: usize,
    /// What was measured.
    pub metric: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The same of what it is compared with (the bare revm loop, one at a time), in the same run.
    pub baseline: f64,
    /// How many times the baseline; more is better for rates.
    pub ratio: f64,
}

/// A goal and what was reached.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What it is about.
    pub name: String,
    /// Whether the goal is the least or the most: `at least` or `at most`.
    pub bound: &'static str,
    /// The goal.
    pub goal: f64,
    /// Reached.
    pub value: f64,
    /// Whether that is enough.
    pub met: bool,
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Processor, if it is known.
    pub processor: Option<String>,
}

/// The last line.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always `true`.
    pub summary: bool,
    /// Where.
    pub machine: Machine,
    /// The goals.
    pub targets: Vec<Target>,
}

/// Mainnet blocks of at least this much gas have goals of their own.
const LARGE: u64 = 8_000_000;

/// Goals on two threads, by case.
const GOALS: [(&str, f64); 10] = [
    ("transfers", 3.0),
    ("transfers_to_one", 2.5),
    ("transfers_from_few", 2.5),
    ("erc20", 1.6),
    ("erc20_to_one", 1.0),
    ("swaps", 1.8),
    ("swaps_one_pool", 0.95),
    ("swaps_v3", 1.8),
    ("swaps_v3_one_pool", 0.95),
    ("zipf_mix", 1.5),
];

impl Figures {
    /// How many times as fast as the bare revm loop `time` is.
    fn ratio(&self, time: Duration) -> f64 {
        self.bare.as_secs_f64() / time.as_secs_f64().max(1e-9)
    }

    /// The ratio on so many threads, if that was measured.
    pub fn parallel_ratio(&self, threads: usize) -> Option<f64> {
        let of = self.parallel.iter().find(|(count, ..)| *count == threads);
        of.map(|(_, time, _)| self.ratio(*time))
    }

    /// The ratio on so many threads with the access list given, if that was measured.
    pub fn listed_ratio(&self, threads: usize) -> Option<f64> {
        let of = self.listed.iter().find(|(count, _)| *count == threads);
        of.map(|(_, time)| self.ratio(*time))
    }

    /// The ratio of our executor in order.
    pub fn in_order_ratio(&self) -> f64 {
        self.ratio(self.in_order)
    }

    /// The figures as rows.
    pub fn rows(&self) -> Vec<Row> {
        let ways = [("bare_revm", 1, self.bare), ("in_order", 1, self.in_order)];
        let parallel = self.parallel.iter().map(|(count, time, _)| ("parallel", *count, *time));
        let listed = self.listed.iter().map(|(count, time)| ("listed", *count, *time));
        let mut rows = Vec::new();
        for (way, threads, time) in ways.into_iter().chain(parallel).chain(listed) {
            let rate = |amount: f64, time: Duration| amount / time.as_secs_f64().max(1e-9);
            for (metric, unit, amount) in [
                ("throughput", "tx/s", self.transactions as f64),
                ("gas_throughput", "Mgas/s", self.gas as f64 / 1e6),
            ] {
                let (value, baseline) = (rate(amount, time), rate(amount, self.bare));
                rows.push(self.row((way, threads), (metric, unit), value, baseline));
            }
        }
        let parallel = self.parallel.iter();
        let first = parallel.map(|(threads, _, stats)| ("executions", *threads, stats));
        let again = self.again.iter();
        let again = again.map(|(threads, stats)| ("executions_again", *threads, stats));
        for (metric, threads, stats) in first.chain(again) {
            let value = 1.0 + stats.failed as f64 / self.transactions.max(1) as f64;
            rows.push(self.row(("parallel", threads), (metric, "1/tx"), value, 1.0));
        }
        for (metric, time) in
            [("total_work", self.work.total), ("critical_path", self.work.critical)]
        {
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            let (value, baseline) = (milliseconds(time), milliseconds(self.bare));
            rows.push(self.row(("parallel", 1), (metric, "ms"), value, baseline));
        }
        rows.extend(self.memory.iter().flat_map(|memory| self.memory_rows(memory)));
        rows
    }

    fn memory_rows(&self, memory: &Memory) -> Vec<Row> {
        let mut rows = Vec::new();
        let calls = |allocated: Allocated| allocated.calls_each(self.transactions);
        let (bare_calls, bare_mib) = (calls(memory.bare), memory.bare.mib());
        let in_turn = [("bare_revm", 1, memory.bare), ("in_order", 1, memory.in_order)];
        let parallel = memory.parallel.iter();
        let parallel = parallel.map(|(threads, parallel)| ("parallel", *threads, parallel.warm));
        for (way, threads, allocated) in in_turn.into_iter().chain(parallel) {
            let way = (way, threads);
            rows.push(self.row(way, ("allocations", "1/tx"), calls(allocated), bare_calls));
            rows.push(self.row(way, ("memory", "MiB"), allocated.mib(), bare_mib));
        }
        for (threads, ParallelMemory { first, .. }) in &memory.parallel {
            let way = ("parallel", *threads);
            rows.push(self.row(way, ("memory_first", "MiB"), first.mib(), bare_mib));
        }
        rows
    }

    fn row(
        &self,
        (way, threads): (&'static str, usize),
        (metric, unit): (&'static str, &'static str),
        value: f64,
        baseline: f64,
    ) -> Row {
        let (case, ratio) = (self.name.clone(), value / baseline.max(1e-9));
        Row { bench: "executor", case, way, threads, metric, value, unit, baseline, ratio }
    }
}

/// Holds figures against the goals that they have a case for.
pub fn summarize(figures: &[Figures]) -> Summary {
    let mut targets = Vec::new();
    let mut target = |name: String, goal: f64, value: Option<f64>| {
        if let Some(value) = value {
            targets.push(Target::new(name, goal, value));
        }
    };
    for (name, goal) in GOALS {
        let of = figures.iter().find(|figures| figures.name == name);
        let value = of.and_then(|figures| figures.parallel_ratio(2));
        target(format!("{name}, 2 threads"), goal, value);
    }
    let ratios = |large: bool, threads: usize| -> Vec<f64> {
        let blocks = figures.iter().filter(|figures| figures.kind == Kind::Mainnet);
        let blocks = blocks.filter(|figures| (figures.gas >= LARGE) == large);
        blocks.filter_map(|figures| figures.parallel_ratio(threads)).collect()
    };
    let large = ratios(true, 2);
    target("mainnet of 8 Mgas and more, 2 threads: mean".to_owned(), 1.35, mean(&large));
    target("mainnet of 8 Mgas and more, 2 threads: worst".to_owned(), 0.95, least(&large));
    let listed = figures.iter().filter(|figures| figures.kind == Kind::Mainnet);
    let listed = listed.filter(|figures| figures.gas >= LARGE);
    let listed: Vec<f64> = listed.filter_map(|figures| figures.listed_ratio(2)).collect();
    target("the same with access lists: mean".to_owned(), 1.65, mean(&listed));
    target("the same with access lists: worst".to_owned(), 1.0, least(&listed));
    let small = least(&ratios(false, 2));
    target("mainnet below 8 Mgas, 2 threads: worst".to_owned(), 0.95, small);
    let single: Vec<f64> = figures.iter().filter_map(|figures| figures.parallel_ratio(1)).collect();
    target("any case, 1 thread: worst".to_owned(), 0.95, least(&single));
    let in_order: Vec<f64> = figures.iter().map(Figures::in_order_ratio).collect();
    target("any case, in order: worst".to_owned(), 0.97, least(&in_order));
    Summary::new(targets)
}

/// The geometric mean.
fn mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

fn least(ratios: &[f64]) -> Option<f64> {
    ratios.iter().copied().min_by(f64::total_cmp)
}

impl Target {
    /// Holds what was reached against a goal that is the least.
    pub fn new(name: String, goal: f64, value: f64) -> Self {
        Self { name, bound: "at least", goal, value, met: value >= goal }
    }

    /// Holds what was reached against a goal that is the most.
    pub fn at_most(name: String, goal: f64, value: f64) -> Self {
        Self { name, bound: "at most", goal, value, met: value <= goal }
    }
}

impl Summary {
    /// Measured on this machine.
    pub fn new(targets: Vec<Target>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = model.map(|model| model.trim_start_matches([' ', '\t', ':']).to_owned());
        Self { summary: true, machine: Machine { cores, processor }, targets }
    }
}

#[cfg(test)]
mod tests {
    use millrace_executor::{ParallelStats, WorkProfile};

    use super::*;

    fn figures(name: &str, kind: Kind, gas: u64, bare: u64, parallel: u64) -> Figures {
        let milliseconds = Duration::from_millis;
        Figures {
            name: name.to_owned(),
            kind,
            transactions: 10,
            gas,
            bare: milliseconds(bare),
            in_order: milliseconds(bare),
            parallel: vec![(2, milliseconds(parallel), ParallelStats::default())],
            listed: vec![(2, milliseconds(parallel))],
            work: WorkProfile::default(),
            again: Vec::new(),
            memory: None,
        }
    }

    #[test]
    fn goals_are_held_against_their_cases() {
        let summary = summarize(&[
            figures("transfers", Kind::Made, 1, 100, 50),
            figures("block1", Kind::Mainnet, LARGE, 100, 50),
            figures("block2", Kind::Mainnet, LARGE, 100, 200),
            figures("block3", Kind::Mainnet, LARGE - 1, 100, 100),
        ]);
        let of = |name: &str| {
            let target = summary.targets.iter().find(|target| target.name.starts_with(name));
            target.map(|target| (target.met, (target.value * 100.0).round()))
        };
        assert_eq!(of("transfers, 2"), Some((false, 200.0)));
        assert_eq!(of("mainnet of 8 Mgas and more, 2 threads: mean"), Some((false, 100.0)));
        assert_eq!(of("mainnet of 8 Mgas and more, 2 threads: worst"), Some((false, 50.0)));
        assert_eq!(of("the same with access lists: worst"), Some((false, 50.0)));
        assert_eq!(of("mainnet below"), Some((true, 100.0)));
        assert_eq!(of("swaps"), None);
    }

    #[test]
    fn what_is_allocated_makes_rows() {
        let allocated = |calls, mib: u64| Allocated { calls, peak: mib << 20 };
        let mut figures = figures("transfers", Kind::Made, 1, 100, 50);
        let timed = figures.rows();
        figures.memory = Some(Memory {
            bare: allocated(40, 2),
            in_order: allocated(20, 4),
            parallel: vec![(2, ParallelMemory { warm: allocated(10, 1), first: allocated(30, 8) })],
        });
        let rows = figures.rows();
        let found: Vec<_> = (rows[timed.len()..].iter())
            .map(|row| (row.way, row.threads, row.metric, row.value, row.ratio))
            .collect();
        assert_eq!(
            found,
            [
                ("bare_revm", 1, "allocations", 4.0, 1.0),
                ("bare_revm", 1, "memory", 2.0, 1.0),
                ("in_order", 1, "allocations", 2.0, 0.5),
                ("in_order", 1, "memory", 4.0, 2.0),
                ("parallel", 2, "allocations", 1.0, 0.25),
                ("parallel", 2, "memory", 1.0, 0.5),
                ("parallel", 2, "memory_first", 8.0, 4.0),
            ]
        );
    }
}
