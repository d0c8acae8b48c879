//! `millrace torture crypto`: made-up signatures, recovered in lanes and with libsecp256k1.

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
use eyre::{Result, bail};
use millrace_crypto::torture::{Tally, Torture};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::progress::Progress;

#[derive(Debug, Clone, Args)]
pub(crate) struct CryptoArgs {
    /// How many signatures to check at least; about half of them have a signer.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    signatures: u64,

    /// What all signatures follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Number of the first batch: where another run of the same seed ended.
    #[arg(long, value_name = "K", default_value_t = 0)]
    from: u64,

    /// On so many threads; on all cores where not given.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// The same arithmetic without the processor's instructions for it: slow, but checked anywhere.
    #[arg(long)]
    portable: bool,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

struct Run {
    args: CryptoArgs,
    torture: Torture,
    batches: u64,
    /// How many batches are taken.
    taken: AtomicU64,
    checked: Mutex<Checked>,
    stop: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Checked {
    batches: u64,
    failed: u64,
    tally: Tally,
}

/// Runs the command.
pub(super) async fn run(args: CryptoArgs) -> Result<()> {
    let threads = match args.threads {
        Some(threads) => threads.get(),
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    let start = Instant::now();
    let run = Arc::new(Run {
        torture: Torture::new(args.seed, args.portable),
        batches: args.signatures.div_ceil(Torture::BATCH),
        args,
        taken: AtomicU64::new(0),
        checked: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    eprintln!("{}", run.torture.path());
    let mut work = JoinSet::new();
    for _ in 0..threads {
        let run = run.clone();
        work.spawn_blocking(move || run.work());
    }
    let mut progress = Progress::new("signatures", run.batches.saturating_mul(Torture::BATCH));
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            done = work.join_next() => match done {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    // The others end with the batch that they are at.
                    run.stop.store(true, Ordering::Relaxed);
                    let (next, threads) = (run.next(), threads as u64);
                    let first = next.saturating_sub(threads).max(run.args.from);
                    bail!("a checking thread panicked at one of the batches {first} to {next}: {error}");
                }
                None => break,
            },
            signal = tokio::signal::ctrl_c() => {
                signal?;
                run.stop.store(true, Ordering::Relaxed);
            }
            _ = tick.tick() => {
                let Checked { batches, failed, .. } = *run.checked.lock();
                progress.show(batches * Torture::BATCH, failed);
            }
        }
    }
    progress.finish();
    let checked = *run.checked.lock();
    run.summarize(checked, start.elapsed());
    if checked.failed > 0 {
        bail!(
            "{} of {} batches have a signature whose answers differ",
            checked.failed,
            checked.batches
        );
    }
    if checked.batches < run.batches {
        bail!("interrupted; continue with --from {}", run.next());
    }
    Ok(())
}

impl Run {
    /// The first batch that no thread has taken. All before it are checked once the threads have ended.
    fn next(&self) -> u64 {
        self.args.from.saturating_add(self.taken.load(Ordering::Relaxed).min(self.batches))
    }

    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let at = self.taken.fetch_add(1, Ordering::Relaxed);
            if at >= self.batches {
                return;
            }
            let batch = self.args.from.saturating_add(at);
            let result = self.torture.check(batch);
            let mut checked = self.checked.lock();
            checked.batches += 1;
            match result {
                Ok(tally) => checked.tally.add(tally),
                Err(difference) => {
                    checked.failed += 1;
                    if self.args.json {
                        let problem = difference.to_string();
                        println!("{}", json!({ "batch": batch, "ok": false, "problem": problem }));
                    } else {
                        println!("batch {batch}: {difference}");
                    }
                }
            }
        }
    }

    fn summarize(&self, checked: Checked, time: Duration) {
        let Tally { signatures, signers, with_k256, .. } = checked.tally;
        let rate = signatures as f64 / time.as_secs_f64();
        let (path, next) = (self.torture.path(), self.next());
        if self.args.json {
            println!(
                "{}",
                json!({
                    "summary": true, "passed": checked.batches - checked.failed, "failed": checked.failed,
                    "skipped": 0, "signatures": signatures, "signers": signers, "with_k256": with_k256,
                    "path": path, "next": next, "seed": self.args.seed,
                    "interrupted": checked.batches < self.batches, "signatures_per_second": rate,
                })
            );
        } else {
            println!(
                "{signatures} signatures, {signers} of them with a signer, are recovered as with libsecp256k1 ({with_k256} also as with k256); {rate:.0}/s; {path}; go on with --seed {} --from {next}",
                self.args.seed
            );
        }
    }
}
