//! The `millrace` command: the development chain, each service alone, and the tools.
//!
//! ```text
//!  cli        the command line            config     millrace.toml
//!  dev        the whole chain             service    one service each, and how they are put together
//!  dev_l1     the embedded L1             verify     the chain from L1 alone
//!  bridge     deposits and withdrawals     inclusion  proofs that L1 holds a transaction
//!  bench      figures beside an alternative's
//!  replay     blocks of Ethereum mainnet      statetest  Ethereum's state tests
//!  torture    hard made-up inputs, checked    dictionary what batches are compressed with
//!  load       transactions at a rate, timed   keys       whose they are
//!  telemetry  logs, metrics, health       supervisor every task has an owner
//!  allocation the allocator
//! ```

mod allocation;
mod bench;
mod bridge;
mod cli;
mod config;
mod da;
mod deploy;
mod dev;
mod dev_l1;
mod dictionary;
mod follow;
mod genesis;
mod inclusion;
mod keys;
mod load;
mod replay;
mod service;
mod statetest;
mod supervisor;
mod telemetry;
mod torture;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use millrace_proto::ErrorChain;

use crate::{
    allocation::Allocator,
    cli::{Cli, Command},
    telemetry::init_logs,
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

fn main() -> ExitCode {
    allocation::keep_memory();
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", ErrorChain::new(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> eyre::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let global = cli.global;
    let log = |default: &str| {
        init_logs(global.log.as_deref().unwrap_or(default), global.log_format.unwrap_or_default())
    };
    match cli.command {
        Command::Dev(args) => {
            log("warn,millrace=warn")?;
            runtime.block_on(dev::run(args))
        }
        Command::Sequencer(args) => runtime.block_on(service::sequencer(args, &global)),
        Command::Executor(args) => runtime.block_on(service::executor(args, &global)),
        Command::DaAdapter(args) => runtime.block_on(service::da_adapter(args, &global)),
        Command::Settlement(args) => runtime.block_on(service::settlement(args, &global)),
        Command::Verifier(args) => runtime.block_on(service::verifier(args, &global)),
        Command::Follow(args) => {
            log("warn,millrace=info")?;
            runtime.block_on(follow::run(args))
        }
        Command::Deploy(args) => {
            log("warn,millrace=info")?;
            runtime.block_on(deploy::run(args))
        }
        Command::Da(command) => {
            log("warn")?;
            runtime.block_on(da::run(command))
        }
        Command::Deposit(args) => {
            log("warn")?;
            runtime.block_on(bridge::deposit(args))
        }
        Command::Withdraw(args) => {
            log("warn")?;
            runtime.block_on(bridge::withdraw(args))
        }
        Command::ForceInclude(args) => {
            log("warn")?;
            runtime.block_on(bridge::force(args))
        }
        Command::PostBatch(args) => {
            log("warn")?;
            runtime.block_on(bridge::post(args))
        }
        Command::ProveWithdrawal(args) => {
            log("warn")?;
            runtime.block_on(bridge::prove(args))
        }
        Command::FinalizeWithdrawal(args) => {
            log("warn")?;
            runtime.block_on(bridge::finalize(args))
        }
        Command::ProveInclusion(args) => {
            log("warn")?;
            runtime.block_on(inclusion::prove(args))
        }
        Command::VerifyInclusion(args) => {
            log("warn")?;
            runtime.block_on(inclusion::verify(args))
        }
        Command::Verify(args) => {
            log("warn")?;
            runtime.block_on(verify::run(args))
        }
        Command::Bench(args) => {
            log("warn")?;
            bench::run(args, &ALLOCATOR)
        }
        Command::Replay(args) => {
            log("warn")?;
            replay::run(&args)
        }
        Command::Statetest(args) => {
            log("warn")?;
            statetest::run(&args)
        }
        Command::Torture(args) => {
            log("warn")?;
            runtime.block_on(torture::run(args))
        }
        Command::Load(args) => {
            log("warn")?;
            runtime.block_on(load::run(args))
        }
        Command::Dictionary(args) => dictionary::run(&args),
        Command::Config => {
            print!("{}", config::EXAMPLE);
            Ok(())
        }
    }
}
