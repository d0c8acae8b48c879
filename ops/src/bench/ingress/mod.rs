//! `millrace bench ingress`: transactions a second through the whole chain, beside bare recoveries of signers, and beside anvil over JSON-RPC.
//!
//! ```text
//!  this process ── bare libsecp256k1 on all cores, before anything else runs
//!       ├── millrace dev    the whole chain; its threads' CPU time, by what they do
//!       └── millrace load   what was signed before, in a process of its own; latencies
//! ```

mod chain;
mod cpu;

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use alloy::{
    consensus::transaction::TxHashRef,
    eips::{Decodable2718, eip2718::Eip2718Error},
};
use clap::Args;
use eyre::{Result, WrapErr, ensure};
use millrace_proto::TxEnvelope;
use millrace_workload::bench::{Summary, Target};
use serde::Serialize;
use serde_json::Value;

use self::{
    chain::{Anvil, Chain},
    cpu::{Clocks, StageCpu},
};
use super::{crypto::recover_per_s, print_json, print_summary, time};
use crate::load::saved;

/// Signed for each second of the load, so that it does not run out.
const PER_SECOND: u64 = 80_000;
/// Transactions that are decoded alone, and for how long.
const DECODED: usize = 20_000;
const SLICE: Duration = Duration::from_secs(1);
/// Signed for the comparison over JSON-RPC.
const RPC_TRANSACTIONS: u64 = 200_000;
/// For how long JSON-RPC is measured, seconds.
const RPC_SECONDS: u32 = 20;
/// Calls in a JSON-RPC request, and requests at the same time.
const RPC_BATCH: &str = "100";
const RPC_CONNECTIONS: &str = "8";

#[derive(Debug, Clone, Args)]
pub(crate) struct IngressArgs {
    /// For how long the chain is under full load, seconds.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,

    /// For how long latencies are measured, at half of what the chain takes.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    half_seconds: u32,

    /// The most gas of a block.
    #[arg(long, value_name = "GAS", default_value_t = 400_000_000)]
    gas_limit: u64,

    /// Accounts that send each other ether.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    senders: u32,

    /// The anvil that JSON-RPC is measured beside; not measured without.
    #[arg(long, value_name = "FILE", env = "MILLRACE_ANVIL")]
    anvil: Option<PathBuf>,

    /// Print one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    /// Bare recoveries by libsecp256k1, all cores.
    recover_per_s: f64,
    /// Acknowledged durable, executed, in sealed blocks with state roots.
    transfers_per_s: f64,
    ratio: f64,
    /// Microseconds of CPU time a transaction.
    cpu_us: StageCpu,
    /// The load tool's own, which is not in those.
    load_cpu_us: f64,
    half: Half,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc: Option<RpcRates>,
    summary: Summary,
}

/// At half of what the chain takes.
#[derive(Debug, Serialize)]
struct Half {
    rate: f64,
    /// From when a transaction was due, milliseconds, by stage.
    latency_ms: Value,
}

/// Accepted a second over JSON-RPC, of the same file.
#[derive(Debug, Serialize)]
struct RpcRates {
    millrace: f64,
    anvil: f64,
    ratio: f64,
}

/// Runs the benchmark.
pub(super) fn run(args: &IngressArgs) -> Result<()> {
    let recover_per_s = recover_per_s()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("load");

    let chain = Chain::start(&folder.path().join("chain"), args.gas_limit)?;
    let senders = args.senders.to_string();
    let transactions = (u64::from(args.seconds) * PER_SECOND).to_string();
    let signed = ["--rate", "max", "--senders", &senders, "--transactions", &transactions];
    load(&chain, &[&signed[..], &["--save", path(&file)?]].concat())?;
    let seconds = format!("{}s", args.seconds);
    let before = Clocks::read(&chain)?;
    let full = load(&chain, &["--rate", "max", "--replay", path(&file)?, "--duration", &seconds])?;
    let cpu = Clocks::read(&chain)?;
    let cpu = cpu.since(&before, number(&full, "sequenced")?, decode_us(&file)?);

    let transfers_per_s = number(&full, "sequenced_per_s")?;
    let rate = (transfers_per_s / 2.0).floor();
    let (each, seconds) = (rate.to_string(), format!("{}s", args.half_seconds));
    drop(chain);
    // Another chain: the first one has batches to post and to verify for a while.
    let chain = Chain::start(&folder.path().join("half-chain"), args.gas_limit)?;
    let half = load(&chain, &["--rate", &each, "--senders", &senders, "--duration", &seconds])?;
    drop(chain);

    let rpc = args.anvil.as_ref().map(|anvil| args.rpc(anvil, folder.path())).transpose()?;
    let ratio = transfers_per_s / recover_per_s;
    let mut report = Report {
        recover_per_s,
        transfers_per_s,
        ratio,
        cpu_us: cpu,
        load_cpu_us: number(&full, "own_cpu_us").unwrap_or(f64::NAN),
        half: Half { rate, latency_ms: half["latency_ms"].clone() },
        rpc,
        summary: Summary::new(Vec::new()),
    };
    report.summary = Summary::new(report.targets());
    if args.json {
        return print_json(&report);
    }
    report.print();
    Ok(())
}

impl IngressArgs {
    /// The same signed file, to a fresh chain and to a fresh anvil.
    fn rpc(&self, anvil: &Path, folder: &Path) -> Result<RpcRates> {
        let (chain, file) = (folder.join("rpc-chain"), folder.join("rpc-load"));
        let chain = Chain::start(&chain, self.gas_limit)?;
        let senders = self.senders.to_string();
        let transactions = RPC_TRANSACTIONS.to_string();
        // Anvil's first base fee is one gwei.
        let signed = ["--senders", &senders, "--transactions", &transactions, "--max-fee", "20"];
        load(&chain, &[&signed[..], &["--save", path(&file)?]].concat())?;
        let seconds = format!("{RPC_SECONDS}s");
        let accepted = |url: &str| -> Result<f64> {
            let how = ["--connections", RPC_CONNECTIONS, "--batch", RPC_BATCH];
            let what = ["--rpc", url, "--replay", path(&file)?, "--duration", &seconds];
            number(&load(&chain, &[&how[..], &what].concat())?, "accepted_per_s")
        };
        let millrace = accepted(&chain.ready.rpc)?;
        let node = Anvil::start(anvil, chain.ready.chain_id, self.gas_limit)?;
        let anvil = accepted(&node.url)?;
        Ok(RpcRates { millrace, anvil, ratio: millrace / anvil })
    }
}

impl Report {
    fn targets(&self) -> Vec<Target> {
        let quantile = |stage: &str, name: &str| {
            self.half.latency_ms[stage][name].as_f64().unwrap_or(f64::NAN)
        };
        let mut targets = vec![
            Target::new("transfers, of bare recoveries".into(), 1.0, self.ratio),
            Target::at_most("preconfirmed, p50, ms".into(), 10.0, quantile("preconfirmed", "p50")),
            Target::at_most("preconfirmed, p99, ms".into(), 50.0, quantile("preconfirmed", "p99")),
            Target::at_most("sealed, p99, ms".into(), 300.0, quantile("sequenced", "p99")),
        ];
        if let Some(rpc) = &self.rpc {
            targets.push(Target::new("JSON-RPC, of anvil".into(), 10.0, rpc.ratio));
        }
        targets
    }

    fn print(&self) {
        let Self { recover_per_s, transfers_per_s, ratio, .. } = self;
        println!("bare recoveries {recover_per_s:9.0} a second");
        println!("transfers       {transfers_per_s:9.0} a second, {ratio:.3} of those");
        println!("\nCPU, microseconds a transfer");
        for (stage, time) in self.cpu_us.stages() {
            println!("  {stage:12} {time:6.2}");
        }
        println!("  {:12} {:6.2}", "the load tool", self.load_cpu_us);
        println!("\nat {:.0} a second, ms: {}", self.half.rate, self.half.latency_ms);
        if let Some(RpcRates { millrace, anvil, ratio }) = &self.rpc {
            println!("\nJSON-RPC: {millrace:.0} accepted a second, anvil {anvil:.0} ({ratio:.1})");
        }
        print_summary(&self.summary);
    }
}

/// Runs `millrace load`, and reads what it prints.
fn load(chain: &Chain, args: &[&str]) -> Result<Value> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(["load", "--json", "--url", &chain.ready.grpc]).args(args);
    let output = command.stderr(Stdio::inherit()).output().wrap_err("cannot run the load")?;
    ensure!(output.status.success(), "the load failed: {}", output.status);
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).wrap_err("what the load printed")
}

/// Microseconds to decode one of the transactions in a file and to hash it, on one thread.
fn decode_us(file: &Path) -> Result<f64> {
    let raw = saved(file, DECODED)?;
    let seconds = time(SLICE, || {
        for raw in &raw {
            black_box(
                TxEnvelope::decode_2718(&mut raw.as_ref()).map(|tx| tx.tx_hash().to_owned()),
            )?;
        }
        Ok::<_, Eip2718Error>(())
    })?;
    Ok(seconds * 1e6 / raw.len() as f64)
}

fn number(report: &Value, field: &str) -> Result<f64> {
    report[field].as_f64().ok_or_else(|| eyre::eyre!("the load did not print {field}"))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| eyre::eyre!("{} is not text", path.display()))
}
