//! `millrace statetest`: Ethereum's state tests, in order and on threads.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::Args;
use eyre::{Result, WrapErr, bail};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_workload::{
    CaseReport, FileReport, StackReport, StateTests, Verdict, state_test_files,
};
use serde_json::json;

use crate::cli::existing;

/// Time between two progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Args)]
pub(crate) struct StateTestArgs {
    /// Files of Ethereum's GeneralStateTests, or folders of them.
    #[arg(value_name = "PATH", required = true, value_parser = existing)]
    paths: Vec<PathBuf>,

    /// Numbers of threads to execute on beside executing in order.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2,4,8")]
    threads: Vec<NonZeroUsize>,

    /// Where the threads of the disturbed pools begin to give way at random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: BTreeMap<&'static str, u64>,
    stacks: u64,
    stacks_failed: u64,
    tried: usize,
    included: usize,
    held: u64,
    failed_ahead: u64,
    inline: u64,
}

/// Runs the command.
pub(crate) fn run(args: &StateTestArgs) -> Result<()> {
    let tests = StateTests::new(&args.threads, args.seed).wrap_err("cannot start the threads")?;
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(state_test_files(path)?);
    }
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut progress = Progress::new(files.len());
    for file in &files {
        let report = tests.run(file)?;
        progress.bar.suspend(|| counts.add(args, file, &report));
        progress.step(&counts);
    }
    drop(progress);
    counts.summarize(args, start.elapsed());
    let Counts { passed, failed, stacks_failed, .. } = counts;
    if failed + stacks_failed > 0 {
        bail!(
            "{failed} of {} cases and {stacks_failed} stacked blocks do not give what they must",
            passed + failed
        );
    }
    Ok(())
}

impl Counts {
    fn add(&mut self, args: &StateTestArgs, file: &Path, report: &FileReport) {
        report.stacks.iter().for_each(|stack| self.stack(args, file, stack));
        report.cases.iter().for_each(|case| self.case(args, file, case));
    }

    fn case(&mut self, args: &StateTestArgs, file: &Path, case: &CaseReport) {
        let (verdict, reason) = match &case.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(problem) => ("failed", Some(problem.to_string())),
            Verdict::Skipped(reason) => ("skipped", Some((*reason).to_owned())),
        };
        match &case.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(reason) => *self.skipped.entry(reason).or_default() += 1,
        }
        if args.json {
            let CaseReport { name, .. } = case;
            println!(
                "{}",
                json!({ "case": name, "file": file, "verdict": verdict, "reason": reason })
            );
        } else if let Some(reason) = reason {
            println!("{verdict} {} ({}): {reason}", case.name, file.display());
        }
    }

    fn stack(&mut self, args: &StateTestArgs, file: &Path, stack: &StackReport) {
        let StackReport { name, tried, included, stats, problems } = stack;
        self.stacks += 1;
        self.stacks_failed += u64::from(!problems.is_empty());
        self.tried += tried;
        self.included += included;
        self.held += stats.held;
        self.failed_ahead += stats.failed;
        self.inline += stats.inline;
        if args.json {
            println!(
                "{}",
                json!({
                    "stack": name, "file": file, "ok": problems.is_empty(),
                    "transactions": tried, "included": included,
                    "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            );
        } else {
            for problem in problems {
                println!("failed {name} ({}): {problem}", file.display());
            }
        }
    }

    fn summarize(&self, args: &StateTestArgs, time: Duration) {
        let skipped: u64 = self.skipped.values().sum();
        if args.json {
            println!(
                "{}",
                json!({
                    "summary": true, "passed": self.passed, "failed": self.failed, "skipped": skipped,
                    "skipped_for": self.skipped, "threads": args.threads, "seed": args.seed,
                    "stacks": {
                        "blocks": self.stacks, "failed": self.stacks_failed, "transactions": self.tried,
                        "included": self.included, "held": self.held, "failed_ahead": self.failed_ahead,
                        "inline": self.inline,
                    },
                    "seconds": time.as_secs_f64(),
                })
            );
            return;
        }
        for (reason, count) in &self.skipped {
            println!("skipped {count}: {reason}");
        }
        println!(
            "{} cases passed, {} failed, {skipped} skipped; stacked: {} blocks of {} transactions ({} included), {} failed; {:.0} s",
            self.passed,
            self.failed,
            self.stacks,
            self.tried,
            self.included,
            self.stacks_failed,
            time.as_secs_f64(),
        );
    }
}

/// A bar on a terminal, a line every few seconds elsewhere, which a thread of its own prints: a file may take a minute.
struct Progress {
    bar: ProgressBar,
    /// Ends the thread when dropped.
    lines: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    fn new(files: usize) -> Self {
        let files = files as u64;
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(
                "{bar:30} file {pos}/{len} · {msg} · {elapsed} · ETA {eta}",
            )
            .expect("the template is constant");
            let bar = ProgressBar::new(files).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            return Self { bar, lines: None };
        }
        let bar = ProgressBar::hidden();
        bar.set_length(files);
        let (end, ended) = mpsc::channel::<()>();
        let shown = bar.clone();
        let thread = thread::spawn(move || {
            while ended.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
                eprintln!("file {} of {files}: {}", shown.position(), shown.message());
            }
        });
        Self { bar, lines: Some((end, thread)) }
    }

    fn step(&mut self, counts: &Counts) {
        self.bar.inc(1);
        let cases = format!("{} cases passed, {} failed", counts.passed, counts.failed);
        self.bar.set_message(cases);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some((end, thread)) = self.lines.take() {
            drop(end);
            // It only prints: nothing depends on how it ended.
            let _ = thread.join();
        }
    }
}
