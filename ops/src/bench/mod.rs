//! `millrace bench`: Millrace beside an alternative, measured in the same run.

mod codec;
mod crypto;
mod executor;
mod ingress;
mod span_batch;

use std::time::{Duration, Instant};

use clap::Subcommand;
use eyre::Result;
use millrace_workload::bench::{AllocationMeter, Summary, Target};
use serde::Serialize;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Bench {
    /// Execute blocks in memory: the bare revm loop, in order, and on several threads.
    Executor(executor::ExecutorArgs),
    /// Encode batches: their bytes, and the time it takes, beside other encodings.
    Codec(codec::CodecArgs),
    /// Send transfers through a whole chain: as many as it takes, and their latencies at half of that.
    Ingress(ingress::IngressArgs),
    /// Recover signers and hash: one at a time as everyone does, and several at a time.
    Crypto(crypto::CryptoArgs),
}

/// Runs a benchmark. Missed goals are in its last line; only what could not be measured is an error.
pub(crate) fn run(bench: Bench, meter: &dyn AllocationMeter) -> Result<()> {
    match bench {
        Bench::Executor(args) => executor::run(&args, meter),
        Bench::Codec(args) => codec::run(&args),
        Bench::Ingress(args) => ingress::run(&args),
        Bench::Crypto(args) => crypto::run(&args),
    }
}

/// Whether a case's name holds one of these parts; without any, all are wanted.
fn is_wanted(name: &str, parts: &[String]) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}

/// Seconds that a run takes, of as many as fill the slice.
fn time<E>(slice: Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    let mut runs = 0;
    while runs == 0 || start.elapsed() < slice {
        run()?;
        runs += 1;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(runs))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

fn print_summary(summary: &Summary) {
    println!();
    for target in &summary.targets {
        let met = if target.met { "met" } else { "missed" };
        let Target { name, bound, goal, value, .. } = target;
        println!("{name:55} {bound} {goal:4.2}: {value:5.3}  {met}");
    }
}
