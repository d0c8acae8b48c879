//! `millrace replay`: blocks of Ethereum mainnet, in order and on threads.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, thread, time::Duration};

use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_executor::WorkerPool;
use millrace_workload::{Fixture, FixtureReplay, Replayed};
use serde_json::json;

use crate::cli::existing;

#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    /// Blocks with the state before them, in the format `evm-block-fixture/1`: a file, or a folder of them.
    #[arg(long, value_name = "FILE|DIR", value_parser = existing)]
    blocks: PathBuf,

    /// Threads to execute on beside executing in order; all cores where not given.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// How often each block is executed each way. Every run is checked; the median time is told.
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroUsize,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs) -> Result<()> {
    let threads = match args.threads {
        Some(threads) => threads,
        None => thread::available_parallelism().wrap_err("give --threads N")?,
    };
    let pool = Arc::new(WorkerPool::new(threads).wrap_err("cannot start the threads")?);
    let replay = FixtureReplay::new(pool, args.runs);
    let (mut passed, mut failed) = (0_u64, 0_u64);
    let (mut sequential, mut parallel, mut listed) = Default::default();
    for file in Fixture::files(&args.blocks)? {
        let block = Fixture::read(&file)?;
        let replayed = replay.run(&block);
        show(args, threads, &block, &replayed);
        if replayed.problems.is_empty() {
            passed += 1;
            sequential += replayed.sequential;
            parallel += replayed.parallel;
            listed += replayed.listed;
        } else {
            failed += 1;
        }
    }
    let (with_list, ratio) = (ratio(sequential, listed), ratio(sequential, parallel));
    if args.json {
        println!(
            "{}",
            json!({
                "summary": true, "passed": passed, "failed": failed, "skipped": 0,
                "threads": threads, "runs": args.runs, "sequential_ms": ms(sequential),
                "parallel_ms": ms(parallel), "ratio": ratio,
                "with_list_ms": ms(listed), "with_list_ratio": with_list,
            })
        );
    } else {
        println!(
            "{passed} blocks hold, {failed} do not; in order {:.2} ms, on {threads} threads {:.2} ms: {ratio:.2} times as fast, \
             {with_list:.2} times with their access lists",
            ms(sequential),
            ms(parallel),
        );
    }
    if failed > 0 {
        bail!("{failed} of {} blocks do not give what they must", passed + failed);
    }
    Ok(())
}

fn show(args: &ReplayArgs, threads: NonZeroUsize, block: &Fixture, replayed: &Replayed) {
    let Replayed { problems, sequential, parallel, listed, stats } = replayed;
    let (number, spec, count) = (block.number, &block.spec, block.transactions.len());
    let (with_list, ratio) = (ratio(*sequential, *listed), ratio(*sequential, *parallel));
    if args.json {
        println!(
            "{}",
            json!({
                "block": number, "ok": problems.is_empty(), "spec": spec, "transactions": count,
                "gas_used": block.gas_used, "threads": threads, "sequential_ms": ms(*sequential),
                "parallel_ms": ms(*parallel), "ratio": ratio,
                "with_list_ms": ms(*listed), "with_list_ratio": with_list,
                "receipts_root_checked": block.receipts_root.is_some(),
                "plain": stats.plain, "held": stats.held, "failed_ahead": stats.failed, "inline": stats.inline,
                "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        );
        return;
    }
    let head = format!("block {number} ({spec}, {count} transactions, {} gas)", block.gas_used);
    if problems.is_empty() {
        println!(
            "{head}: holds; in order {:.2} ms, on {threads} threads {:.2} ms, {ratio:.2} times as fast, \
             {with_list:.2} times with its access list",
            ms(*sequential),
            ms(*parallel),
        );
    } else {
        println!("{head}: does not hold");
        problems.iter().for_each(|problem| println!("  {problem}"));
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How many times as fast on threads; zero where nothing was measured.
fn ratio(sequential: Duration, parallel: Duration) -> f64 {
    if parallel.is_zero() { 0.0 } else { sequential.as_secs_f64() / parallel.as_secs_f64() }
}
