//! `millrace da`: what an operator asks of a running DA adapter.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_da_adapter::{ObjectStoreBackend, ObjectStoreConfig};
use millrace_proto::{DaAdapter, DaKind, DaStatus, grpc::DaAdapterClient};
use serde_json::json;

use crate::{cli::ChainArgs, verify::da_reader};

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
    /// Check what the keeper of a batch on an object store has signed of it: that it is there, and until when it will be. Needs L1 and the store alone.
    Attestation {
        /// The batch.
        batch: u64,

        #[command(flatten)]
        chain: Box<ChainArgs>,

        /// Print one JSON object to standard output.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DaArgs {
    /// The DA adapter's admin socket.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50063")]
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
        DaCommand::Attestation { batch, chain, json } => {
            return attestation(batch, &chain, json).await;
        }
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
    if let Some(refused) = status.refused {
        println!(
            "the contract takes no block after {} any more: the sequencer has to take them back",
            refused.after
        );
    }
    if let Some(reason) = &status.halted {
        println!("halted: {reason}");
    }
    Ok(())
}

/// Holds an attestation against L1's record, the bytes, and its signer's role.
async fn attestation(batch: u64, chain: &ChainArgs, json: bool) -> Result<()> {
    let l1 = chain.l1_config();
    let rollup = l1.rollup()?;
    rollup.check_version().await.wrap_err("cannot read the contract")?;
    let count = rollup.batch_count().await.wrap_err("cannot read the contract")?;
    ensure!((1..=count).contains(&batch), "L1 holds {count} batches, and no batch {batch}");
    let posted = rollup.posted(batch, batch).await?.pop();
    let posted = posted.ok_or_else(|| eyre!("the L1 node does not show batch {batch}"))?;
    let (kind, digest) = (posted.header.da_kind, posted.header.digest);
    ensure!(
        kind == DaKind::ObjectStore,
        "batch {batch} is on {}, where nothing is attested",
        kind.as_str()
    );
    let url = chain.da_store.clone().ok_or_else(|| eyre!("--da-store says where it is"))?;
    let store = ObjectStoreBackend::open(&ObjectStoreConfig::at(url)).wrap_err("--da-store")?;
    let attestation = store.attestation(&posted.da_pointer).await?;
    let attestation = attestation.ok_or_else(|| eyre!("nothing is attested of batch {batch}"))?;
    let l1_chain_id = rollup.client().chain_id().await?;
    ensure!(
        (attestation.l1_chain_id, attestation.rollup, attestation.digest)
            == (l1_chain_id, rollup.address(), digest)
            && attestation.key.as_bytes() == posted.da_pointer.as_ref(),
        "the attestation is not of batch {batch}, but of {attestation:?}"
    );
    let signer =
        attestation.signer().ok_or_else(|| eyre!("the attestation's signature is none"))?;
    ensure!(
        rollup.has_role("BATCHER_ROLE", signer).await?,
        "the attestation is signed by {signer}, who does not have the contract's BATCHER_ROLE"
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = attestation.kept_until.checked_sub(now.as_secs());
    let left =
        left.ok_or_else(|| eyre!("{signer} has attested batch {batch} for a time that is over"))?;
    let bytes = da_reader(chain, &l1)?.read(&posted).await;
    let bytes = bytes.wrap_err_with(|| format!("{signer} attests batch {batch}, but"))?;
    ensure!(bytes.len() as u64 == attestation.size, "batch {batch} has {} bytes", bytes.len());
    if json {
        println!("{}", json!({ "batch": batch, "signer": signer, "attestation": attestation }));
        return Ok(());
    }
    println!(
        "batch {batch} is there, {} bytes under {}; {signer} has signed that it will be for {} days more",
        attestation.size,
        attestation.key,
        left / 86_400
    );
    Ok(())
}

fn as_json(status: &DaStatus) -> serde_json::Value {
    json!({
        "backend": status.backend, "chosen": status.chosen,
        "batches_closed": status.batches_closed, "batched_block": status.batched_block,
        "batches_posted": status.batches_posted, "posted_block": status.posted_block,
        "backlog_bytes": status.backlog_bytes, "posted_bytes": status.posted_bytes,
        "posted_transactions": status.posted_transactions, "l1_fees_wei": status.l1_fees.to_string(),
        "data_price_wei": status.data_price.0,
        "halted": status.halted,
        "window_left_seconds": status.window.map(|window| window.seconds),
        "window_seconds": status.window.map(|window| window.whole),
        "refused_after": status.refused.map(|refused| refused.after),
        "refused_due": status.refused.map(|refused| refused.due),
    })
}
