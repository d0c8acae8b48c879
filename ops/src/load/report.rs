//! What came of it, for people and as JSON.

use std::{collections::BTreeMap, fs, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::ledger::{Ledger, Stage, Tally};

/// The whole result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether each transaction that was acknowledged is in a block exactly once, and no other, and all were sent and answered.
    pub(super) ok: bool,
    /// Why the run ended early, if it did.
    pub(super) failure: Option<String>,
    /// Signed.
    pub(super) transactions: u64,
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) sequenced: u64,
    /// From the begin to the last acknowledgement, seconds.
    pub(super) seconds: f64,
    /// Transactions a second, until the last was acknowledged.
    pub(super) accepted_per_s: f64,
    /// Transactions a second, until the last was seen in a sealed block.
    pub(super) sequenced_per_s: f64,
    /// How late transactions were sent, milliseconds: part of all latencies.
    pub(super) sent_late_ms: Latency,
    /// From when a transaction was due, milliseconds.
    pub(super) latency_ms: BTreeMap<&'static str, Latency>,
    /// How often, by reason.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) check: Outcome,
    /// CPU time of this tool from the begin of the load on, microseconds a transaction; `None` where the system does not tell.
    pub(super) own_cpu_us: Option<f64>,
}

/// A distribution, milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
    max: f64,
}

/// What the check at the end found.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Outcome {
    /// Acknowledged, and unknown to the sequencer at the end.
    pub(super) lost: u64,
    /// Acknowledged, and dropped since.
    pub(super) dropped: u64,
    /// Acknowledged, and still waiting, as a rule for an earlier nonce.
    pub(super) waiting: u64,
    /// In more than one block.
    pub(super) doubled: u64,
    /// Refused, and yet in a block.
    pub(super) intruders: u64,
    /// Sent, and never answered, or refused for now to the end.
    pub(super) unanswered: u64,
    /// Due, and not sent in time.
    pub(super) unsent: u64,
    /// Acknowledged, and nobody said at the end what became of them.
    pub(super) unknown: u64,
}

impl Outcome {
    const fn is_ok(&self) -> bool {
        let Self { lost, dropped, waiting, doubled, intruders, unanswered, unsent, unknown } =
            *self;
        lost + dropped + waiting + doubled + intruders + unanswered + unsent + unknown == 0
    }
}

impl Latency {
    /// Of microseconds.
    fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: latencies.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: latencies.max() as f64 / 1e3,
        }
    }

    fn print(&self, name: &str) {
        let Self { count, p50, p90, p99, p99_9, max } = self;
        println!("{name:14} {p50:9.2} {p90:9.2} {p99:9.2} {p99_9:9.2} {max:9.2}  of {count}");
    }
}

impl Report {
    pub(super) fn new(
        ledger: &Ledger,
        transactions: usize,
        check: Outcome,
        failure: Option<String>,
        own_cpu: Option<Duration>,
    ) -> Self {
        let tally = ledger.tally();
        let Tally { sent, accepted, refused, sequenced, last_accepted, last_block, .. } = tally;
        let rate = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-6);
        let latency_ms = Stage::ALL.into_iter().filter_map(|stage| {
            let latency = Latency::of(&ledger.latencies(stage));
            (latency.count > 0).then_some((stage.name(), latency))
        });
        Self {
            ok: check.is_ok() && failure.is_none(),
            failure,
            transactions: transactions as u64,
            sent,
            accepted,
            refused,
            sequenced,
            seconds: last_accepted.as_secs_f64(),
            accepted_per_s: rate(accepted, last_accepted),
            sequenced_per_s: rate(sequenced, last_block),
            sent_late_ms: Latency::of(&ledger.lateness()),
            latency_ms: latency_ms.collect(),
            errors: ledger.errors(),
            check,
            own_cpu_us: own_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / sent.max(1) as f64),
        }
    }

    /// As text.
    pub(super) fn print(&self) {
        println!(
            "{} of {} sent: {} acknowledged ({:.0} a second), {} refused, {} in blocks ({:.0} a second)",
            self.sent,
            self.transactions,
            self.accepted,
            self.accepted_per_s,
            self.refused,
            self.sequenced,
            self.sequenced_per_s,
        );
        println!(
            "\n{:14} {:>9} {:>9} {:>9} {:>9} {:>9}  ms",
            "", "p50", "p90", "p99", "p99.9", "max"
        );
        self.sent_late_ms.print("sent late");
        for stage in Stage::ALL {
            if let Some(latency) = self.latency_ms.get(stage.name()) {
                latency.print(stage.name());
            }
        }
        for (reason, count) in &self.errors {
            println!("{count:9} {reason}");
        }
        if let Some(cpu) = self.own_cpu_us {
            println!("\nthis tool itself took {cpu:.1} us of CPU a transaction");
        }
        if self.ok {
            println!("every transaction that was acknowledged is in a block, once");
            return;
        }
        if let Some(failure) = &self.failure {
            println!("ended early: {failure}");
        }
        let Outcome { lost, dropped, waiting, doubled, intruders, unanswered, unsent, unknown } =
            self.check;
        for (count, what) in [
            (lost, "acknowledged, and lost"),
            (dropped, "acknowledged, and dropped since"),
            (waiting, "acknowledged, and still waiting"),
            (unknown, "acknowledged, and nobody says what became of them"),
            (doubled, "in more than one block"),
            (intruders, "refused, and yet in a block"),
            (unanswered, "without an answer, or refused for now to the end"),
            (unsent, "due, and not sent in time"),
        ] {
            if count > 0 {
                println!("{count:9} {what}");
            }
        }
    }
}

/// CPU time of this process so far, where Linux tells.
pub(super) fn own_cpu() -> Option<Duration> {
    cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time of a process or a thread, of its `stat` in `/proc`.
pub(crate) fn cpu_time(stat: &str) -> Option<Duration> {
    /// Of `/proc`, fixed at 100 on every architecture (proc(5), `sysconf(_SC_CLK_TCK)`).
    const TICKS_PER_SECOND: u64 = 100;
    // The name in parentheses may hold spaces; after it, utime and stime are the 12th and 13th fields.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}
