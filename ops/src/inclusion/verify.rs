//! `millrace verify-inclusion`.

use std::{
    fs::File,
    io::{Read, stdin},
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use clap::{Args, ValueEnum};
use eyre::{Result, WrapErr, ensure};
use millrace_da_adapter::{Confirmation, Holding, Inclusion, InclusionProof, Standing};
use millrace_l1::L1Config;
use serde_json::{Value, json};
use url::Url;

/// The largest file that is read: the largest batch and all headers that it may have, in hexadecimal.
const MAX_FILE: u64 = 256 << 20;

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyInclusionArgs {
    /// What `millrace prove-inclusion` wrote; `-` for standard input.
    #[arg(value_name = "FILE")]
    proof: PathBuf,

    /// L1 JSON-RPC, of a node that you trust to know L1's blocks. Nothing else is asked.
    #[arg(long, value_name = "URL", env = "MILLRACE_L1")]
    l1: Url,

    /// Another node of the same L1, asked when the first fails; may be given more than once.
    #[arg(long, value_name = "URL")]
    l1_fallback: Vec<Url>,

    /// The L1's chain id: a node of another chain is refused.
    #[arg(long, value_name = "ID", env = "MILLRACE_L1_CHAIN_ID")]
    l1_chain_id: Option<u64>,

    /// The contract of the rollup that you mean. Without it, the output says which one the proof is for, and whether that is the right one is for
    /// you to say.
    #[arg(long, value_name = "ADDRESS", env = "MILLRACE_ROLLUP")]
    rollup: Option<Address>,

    /// How far the batch has to be.
    #[arg(long, value_enum, value_name = "STAGE", default_value_t = Wanted::Posted)]
    stage: Wanted,

    /// Print one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

/// How far a batch has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Wanted {
    /// On L1.
    Posted,
    /// Its state root is committed, and the commitment stands.
    Committed,
    /// Nobody can revert the commitment any more.
    Finalized,
}

impl Wanted {
    const fn reached(confirmation: &Confirmation) -> Self {
        match confirmation.commitment {
            Standing::NotCommitted => Self::Posted,
            Standing::Stands { is_final: false, .. } => Self::Committed,
            Standing::Stands { is_final: true, .. } => Self::Finalized,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Posted => "POSTED",
            Self::Committed => "COMMITTED",
            Self::Finalized => "FINALIZED",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: VerifyInclusionArgs) -> Result<()> {
    let proof = load(&args.proof)?;
    let rollup = args.rollup.unwrap_or(proof.rollup);
    let config = L1Config {
        chain_id: args.l1_chain_id,
        fallbacks: args.l1_fallback.clone(),
        ..L1Config::new(args.l1.clone(), rollup)
    };
    let contract = config.rollup().wrap_err("--l1")?;
    let chain = contract.client().chain_id().await.wrap_err("the L1 does not answer")?;
    let shown = tokio::task::spawn_blocking(move || proof.verify(chain, rollup)).await?;
    let shown = shown.wrap_err("the proof does not hold")?;
    let confirmed = shown.confirm(&contract).await.wrap_err("L1 does not confirm the proof")?;
    let stage = Wanted::reached(&confirmed);
    ensure!(
        stage >= args.stage,
        "the proof shows that the batch is {}, and {} was asked for{}",
        stage.as_str(),
        args.stage.as_str(),
        if stage == Wanted::Posted { "; a proof that is made later may show it" } else { "" }
    );
    if args.json {
        println!("{}", as_json(&shown, &confirmed, stage, args.rollup.is_some()));
    } else {
        tell(&shown, &confirmed, args.rollup.is_none());
    }
    Ok(())
}

fn load(path: &Path) -> Result<InclusionProof> {
    let mut text = String::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(stdin())
    } else {
        let file = File::open(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
        Box::new(file)
    };
    let read = source.take(MAX_FILE + 1).read_to_string(&mut text);
    let bytes = read.wrap_err_with(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes as u64 <= MAX_FILE, "{} is larger than any proof", path.display());
    serde_json::from_str(&text)
        .wrap_err_with(|| format!("{} is no proof of an inclusion", path.display()))
}

/// `is_rollup_given`: else the rollup's address is the proof's own word, which whoever reads this has to compare.
fn as_json(
    shown: &Inclusion,
    confirmed: &Confirmation,
    stage: Wanted,
    is_rollup_given: bool,
) -> Value {
    let batch = &shown.batch;
    let commitment = shown.commitment.as_ref().map(|commitment| {
        let is_proved = matches!(confirmed.commitment, Standing::Stands { is_proved: true, .. });
        json!({
            "last_block": commitment.last_block, "last_block_hash": commitment.last_block_hash,
            "state_root": commitment.state_root, "final_at": commitment.final_at,
            "l1_tx": commitment.l1.tx_hash, "l1_block": commitment.l1.block.number,
            "l1_block_hash": commitment.l1.block.hash, "proved_by_state": is_proved,
        })
    });
    json!({
        "ok": true, "stage": stage.as_str(),
        "transaction": shown.transaction, "block": shown.block.number, "block_hash": shown.block.hash,
        "index": shown.index, "state_root": shown.state_root, "held_by": shown.holding.as_str(),
        "batch": batch.header.number, "da": batch.header.da_kind.as_str(), "digest": batch.header.digest,
        "blob_hashes": batch.blob_hashes, "l1_tx": batch.l1.tx_hash, "l1_block": batch.l1.block.number,
        "l1_block_hash": batch.l1.block.hash, "l1_final": confirmed.posted_final, "commitment": commitment,
        "chain_id": shown.chain_id, "rollup": shown.rollup, "rollup_given": is_rollup_given, "l1_chain_id": shown.l1_chain_id,
        "l1_head": { "number": confirmed.l1_head.number, "hash": confirmed.l1_head.hash },
    })
}

fn tell(shown: &Inclusion, confirmed: &Confirmation, is_rollup_open: bool) {
    let Inclusion { batch, block, .. } = shown;
    println!(
        "transaction {} is number {} of block {} {} of chain {}",
        shown.transaction, shown.index, block.number, block.hash, shown.chain_id
    );
    let (number, kind) = (batch.header.number, batch.header.da_kind.as_str());
    match shown.holding {
        Holding::Bytes => println!("batch {number} ({kind}) holds it"),
        Holding::Queue => println!(
            "it comes from L1's queue; batch {number} ({kind}) ends with a block that descends from its block"
        ),
        Holding::StateDiffs => println!(
            "batch {number} ({kind}) holds no transactions, but what its blocks changed, and ends with a block that descends from its block"
        ),
    }
    println!(
        "L1 recorded the batch in block {} {}{}, transaction {}",
        batch.l1.block.number,
        batch.l1.block.hash,
        if confirmed.posted_final { " (final)" } else { " (not final yet)" },
        batch.l1.tx_hash
    );
    match (&shown.commitment, confirmed.commitment) {
        (Some(commitment), Standing::Stands { is_final, is_proved }) => println!(
            "its commitment stands: block {} {} with state root {}, {}{}",
            commitment.last_block,
            commitment.last_block_hash,
            commitment.state_root,
            if is_final { "final" } else { "not final yet" },
            if is_proved { "" } else { " (by the L1 node's word, which proves no states)" }
        ),
        _ => println!(
            "the proof shows no commitment: a batch that is invalid would be skipped by everyone (`millrace verify` tells)"
        ),
    }
    if is_rollup_open {
        println!(
            "all this is of the rollup contract {} on L1 chain {}: make sure that it is the one you mean, or name it with --rollup",
            shown.rollup, shown.l1_chain_id
        );
    }
}
