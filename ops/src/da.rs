//! `millrace da`: what an operator asks of a running DA adapter.

use std::time::Duration;

use clap::{Args, Subcommand};
use eyre::{Result, WrapErr};
use millrace_proto::{DaAdapter, DaStatus, grpc::DaAdapterClient};
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DaCommand {
    /// Tell where batches go and how far posting is.
    Status(DaArgs),
    /// Have batches go through one backend, whatever its health and its price, until `auto`.
    Use {
        /// One of `[da_adapter] backends`, for example `l1_calldata`; or `auto`, so that order, health and prices decide again.
        backend: String,

        #[command(flatten)]
        args: DaArgs,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DaArgs {
    /// The DA adapter's gRPC.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50053")]
    url: String,

    /// Print one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

/// Asks, and shows the answer.
pub(crate) async fn run(command: DaCommand) -> Result<()> {
    let (args, backend) = match command {
        DaCommand::Status(args) => (args, None),
        DaCommand::Use { backend, args } => (args, Some(backend)),
    };
    let adapter = DaAdapterClient::connect(&args.url).wrap_err("--url")?;
    if let Some(backend) = backend {
        adapter.use_backend(Some(backend.as_str()).filter(|backend| *backend != "auto")).await?;
    }
    let status = adapter.da_status().await?;
    if args.json {
        println!("{}", as_json(&status));
        return Ok(());
    }
    let chosen = match &status.chosen {
        Some(backend) => format!("{backend}, chosen by an operator"),
        None => format!("{}, by order, health and price", status.backend),
    };
    println!("batches go through {chosen}");
    println!(
        "{} batches closed, to block {}; {} posted, to block {}; {} bytes wait",
        status.batches_closed,
        status.batched_block,
        status.batches_posted,
        status.posted_block,
        status.backlog_bytes
    );
    if let Some(window) = status.window {
        println!(
            "the contract takes what waits for {} more, of {}",
            humantime::format_duration(Duration::from_secs(window.seconds)),
            humantime::format_duration(Duration::from_secs(window.whole))
        );
    }
    if let Some(reason) = &status.halted {
        println!("halted: {reason}");
    }
    Ok(())
}

fn as_json(status: &DaStatus) -> serde_json::Value {
    json!({
        "backend": status.backend, "chosen": status.chosen,
        "batches_closed": status.batches_closed, "batched_block": status.batched_block,
        "batches_posted": status.batches_posted, "posted_block": status.posted_block,
        "backlog_bytes": status.backlog_bytes, "posted_bytes": status.posted_bytes,
        "posted_transactions": status.posted_transactions, "l1_fees_wei": status.l1_fees.to_string(),
        "halted": status.halted,
        "window_left_seconds": status.window.map(|window| window.seconds),
        "window_seconds": status.window.map(|window| window.whole),
    })
}
