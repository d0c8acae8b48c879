//! How far a long run is: a bar on a terminal, else a line now and then.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Least time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// How far a run is.
pub(super) struct Progress {
    /// What is counted.
    unit: &'static str,
    total: u64,
    start: Instant,
    at: u64,
    /// When it came there.
    since: Instant,
    /// When the last line was printed.
    line: Instant,
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(unit: &'static str, total: u64) -> Self {
        let now = Instant::now();
        Self { unit, total, start: now, at: 0, since: now, line: now, bar: bar(unit, total) }
    }

    pub(super) fn show(&mut self, at: u64, failed: u64) {
        if at != self.at {
            (self.at, self.since) = (at, Instant::now());
        }
        if !self.bar.is_hidden() {
            self.bar.set_position(at);
            self.bar.set_message(format!("{failed} failed"));
        } else if self.line.elapsed() >= LINE_EVERY {
            self.line = Instant::now();
            let Self { unit, total, .. } = self;
            let rate = at as f64 / self.start.elapsed().as_secs_f64();
            eprintln!("{at} of {total} {unit}, {failed} failed, {rate:.0} {unit}/s");
        }
    }

    /// For how long it has not come further.
    pub(super) fn stands_for(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn bar(unit: &str, total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template =
        format!("{{bar:30}} {{pos}}/{{len}} {unit} · {{msg}} · {{per_sec}} · ETA {{eta}}");
    let style = ProgressStyle::with_template(&template).expect("the template is constant");
    ProgressBar::new(total).with_style(style)
}
