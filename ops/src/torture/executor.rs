//! `millrace torture executor`: blocks of conflicting transactions, in order and on threads.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use eyre::{Result, WrapErr, bail, eyre};
use millrace_proto::ErrorChain;
use millrace_workload::{Block, HardBlock, HardChecker, HardFailure};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::progress::Progress;

/// A block that takes longer hangs. Ordinary ones take milliseconds.
const LONGEST: Duration = Duration::from_secs(120);

/// For how long a failing block is made smaller, and how many are.
const SHRINK: Duration = Duration::from_secs(20);
const SHRUNK: u64 = 3;

#[derive(Debug, Clone, Args)]
pub(crate) struct ExecutorArgs {
    /// How many blocks to check.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    blocks: u64,

    /// What all blocks follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Number of the first block: where another run of the same seed ended.
    #[arg(long, value_name = "K", default_value_t = 0)]
    from: u64,

    /// Numbers of threads to execute on beside executing in order.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2,4,8")]
    threads: Vec<NonZeroUsize>,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: ExecutorArgs) -> Result<()> {
    let checker =
        HardChecker::new(&args.threads, args.seed).wrap_err("cannot start the threads")?;
    let run = Arc::new(Run {
        args,
        at: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let (sender, mut done) = oneshot::channel();
    let worker = run.clone();
    // Not a task of the runtime, which would wait for it even if it hangs.
    thread::Builder::new().name("torture".into()).spawn(move || {
        worker.work(&checker);
        sender.send(()).is_ok()
    })?;
    let start = Instant::now();
    let mut progress = Progress::new("blocks", run.args.blocks);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let (interrupted, hangs) = loop {
        tokio::select! {
            result = &mut done => {
                result.map_err(|_| eyre!("the checking thread panicked at block {}; continue with --from {0}", run.next()))?;
                break (run.stop.load(Ordering::Relaxed), false);
            }
            signal = tokio::signal::ctrl_c() => {
                signal?;
                // The block that is under way is finished; a second time it is not.
                if run.stop.swap(true, Ordering::Relaxed) {
                    break (true, false);
                }
            }
            _ = tick.tick() => {
                let at = run.at.load(Ordering::Relaxed);
                progress.show(at, run.failed.load(Ordering::Relaxed));
                if progress.stands_for() > LONGEST {
                    break (false, true);
                }
            }
        }
    };
    progress.finish();
    run.summarize(start.elapsed(), interrupted, hangs);
    let failed = run.failed.load(Ordering::Relaxed);
    if hangs {
        bail!("block {} of seed {} hangs", run.next(), run.args.seed);
    }
    if failed > 0 {
        bail!(
            "{failed} of {} blocks are not executed on threads as in order",
            run.at.load(Ordering::Relaxed)
        );
    }
    if interrupted {
        bail!("interrupted; continue with --from {}", run.next());
    }
    Ok(())
}

struct Run {
    args: ExecutorArgs,
    /// How many blocks are checked.
    at: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Run {
    fn next(&self) -> u64 {
        self.args.from.saturating_add(self.at.load(Ordering::Relaxed))
    }

    fn work(&self, checker: &HardChecker) {
        while self.at.load(Ordering::Relaxed) < self.args.blocks
            && !self.stop.load(Ordering::Relaxed)
        {
            let number = self.next();
            let seed = HardBlock::seed(self.args.seed, number);
            let block = HardBlock::generate(seed);
            if let Err(failure) = checker.check(&block, seed) {
                let nth = self.failed.fetch_add(1, Ordering::Relaxed);
                self.tell(checker, number, &block, &failure, nth < SHRUNK);
            }
            self.at.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell(
        &self,
        checker: &HardChecker,
        number: u64,
        block: &Block,
        failure: &HardFailure,
        shrinks: bool,
    ) {
        let seed = HardBlock::seed(self.args.seed, number);
        let fork: &str = HardBlock::fork(block).into();
        let problem = ErrorChain::new(failure).to_string();
        let (kept, again) =
            if shrinks { checker.shrink(block, failure, SHRINK) } else { (Vec::new(), None) };
        let again = again.map(|problem| problem.to_string());
        if self.args.json {
            println!(
                "{}",
                json!({
                    "block": number, "ok": false, "seed": seed, "fork": fork,
                    "transactions": block.transactions.len(), "threads": failure.threads,
                    "whole": failure.whole, "problem": problem, "kept": kept, "kept_problem": again,
                })
            );
            return;
        }
        println!(
            "block {number} (seed {seed}, {fork}, {} transactions): {problem}",
            block.transactions.len()
        );
        if let Some(again) = again {
            println!("  also with transactions {kept:?} alone: {again}");
        }
    }

    fn summarize(&self, time: Duration, interrupted: bool, hangs: bool) {
        let failed = self.failed.load(Ordering::Relaxed);
        let checked = self.at.load(Ordering::Relaxed);
        let rate = checked as f64 / time.as_secs_f64();
        let threads: Vec<usize> = self.args.threads.iter().map(|threads| threads.get()).collect();
        if self.args.json {
            let mut summary = json!({
                "summary": true, "passed": checked - failed, "failed": failed, "skipped": 0,
                "next": self.next(), "seed": self.args.seed, "threads": threads,
                "interrupted": interrupted, "blocks_per_second": rate,
            });
            if hangs && let Value::Object(summary) = &mut summary {
                summary.insert("hangs".into(), self.next().into());
            }
            println!("{summary}");
        } else {
            println!(
                "{} blocks are executed on threads {threads:?} as in order, {failed} are not; {rate:.0} blocks/s; go on with --seed {} --from {}",
                checked - failed,
                self.args.seed,
                self.next(),
            );
        }
    }
}
