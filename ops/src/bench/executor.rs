//! `millrace bench executor`: blocks, executed in order and on threads, beside the bare revm loop.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_workload::{
    Artifacts, Block, Fixture, Scenario,
    bench::{Allocated, AllocationMeter, Case, Figures, Kind, Memory, measure, summarize},
    scenarios,
};

use super::{is_wanted, print_json, print_summary};

#[derive(Debug, Clone, Args)]
pub(crate) struct ExecutorArgs {
    /// A node_modules folder with the contracts' packages; `tests/setup.sh` makes this one.
    #[arg(long, value_name = "DIR", default_value = ".tools/node_modules")]
    contracts: PathBuf,

    /// Ethereum mainnet blocks to measure as well: a file of the format `evm-block-fixture/1`, or a folder of them.
    #[arg(long, value_name = "FILE|DIR")]
    blocks: Option<PathBuf>,

    /// Numbers of threads.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<NonZeroUsize>,

    /// How often each case is executed each way at least; the median counts.
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    /// Only cases whose names hold one of these.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    cases: Vec<String>,

    /// Small blocks: a look, not a measurement.
    #[arg(long)]
    small: bool,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark.
pub(super) fn run(args: &ExecutorArgs, meter: &dyn AllocationMeter) -> Result<()> {
    let cases = cases(args)?;
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    let mut all = Vec::new();
    for case in &cases {
        eprintln!("{} ...", case.name);
        let figures = measure(case, &args.threads, usize::from(args.runs), Some(meter))?;
        if args.json {
            figures.rows().iter().try_for_each(print_json)?;
        } else {
            print_figures(&figures);
        }
        all.push(figures);
    }
    let summary = summarize(&all);
    if args.json {
        return print_json(&summary);
    }
    print_summary(&summary);
    Ok(())
}

fn cases(args: &ExecutorArgs) -> Result<Vec<Case>> {
    let size = if args.small { Scenario::SMALL } else { Scenario::FULL };
    eprintln!("setting up contracts and {} accounts ...", size.accounts);
    let artifacts = Artifacts::read(&args.contracts)?;
    let made = scenarios(size, &artifacts)?.into_iter();
    let mut cases: Vec<Case> =
        made.map(|(name, block)| Case { name: name.to_owned(), kind: Kind::Made, block }).collect();
    if let Some(path) = &args.blocks {
        let blocks = Fixture::read_all(path).wrap_err("cannot read the blocks")?;
        cases.extend(blocks.into_iter().map(|fixture| Case {
            name: format!("block_{}", fixture.number),
            kind: Kind::Mainnet,
            block: Block {
                env: fixture.env,
                state: fixture.state,
                transactions: fixture.transactions,
            },
        }));
    }
    cases.retain(|case| is_wanted(&case.name, &args.cases));
    Ok(cases)
}

fn print_figures(figures: &Figures) {
    let count = figures.transactions.max(1) as f64;
    let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / count;
    print!(
        "{:20} {:6} tx  {:7.0} gas/tx  bare {:8.3} us/tx  in order {:8.3} ({:.2})",
        figures.name,
        figures.transactions,
        figures.gas as f64 / count,
        each(figures.bare),
        each(figures.in_order),
        figures.in_order_ratio(),
    );
    for (threads, time, stats) in &figures.parallel {
        let ratio = figures.parallel_ratio(*threads).unwrap_or_default();
        print!("  {threads} threads {:8.3} ({ratio:.2}", each(*time));
        if stats.failed > 0 {
            print!(", {:.3} executions/tx", 1.0 + stats.failed as f64 / count);
        }
        print!(")");
    }
    for (threads, time) in &figures.listed {
        let ratio = figures.listed_ratio(*threads).unwrap_or_default();
        print!("  listed {threads} {:8.3} ({ratio:.2})", each(*time));
    }
    let ceiling = figures.bare.as_secs_f64() / figures.work.critical.as_secs_f64().max(1e-9);
    println!("  at most {ceiling:.0}");
    figures.memory.iter().for_each(|memory| print_memory(memory, figures.transactions));
}

fn print_memory(memory: &Memory, transactions: usize) {
    let text = |allocated: Allocated| {
        format!("{:.1}, {:.1} MiB", allocated.calls_each(transactions), allocated.mib())
    };
    let (bare, in_order) = (text(memory.bare), text(memory.in_order));
    print!("{:20} allocations/tx, memory: bare {bare}  in order {in_order}", "");
    for (threads, parallel) in &memory.parallel {
        print!("  {threads} threads {}", text(parallel.warm));
        print!(" (first {:.1})", parallel.first.mib());
    }
    println!();
}
