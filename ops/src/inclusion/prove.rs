//! `millrace prove-inclusion`.

use std::{fs, path::PathBuf, time::Duration};

use alloy::{
    primitives::TxHash,
    providers::{Provider, ProviderBuilder},
    transports::TransportError,
};
use clap::Args;
use eyre::{Result, WrapErr, bail};
use millrace_da_adapter::InclusionProof;
use serde::Deserialize;
use url::Url;

use super::METHOD;

/// Between two looks while the transaction gets into a batch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Args)]
pub(crate) struct ProveInclusionArgs {
    /// The transaction of L2.
    #[arg(value_name = "HASH")]
    hash: TxHash,

    /// JSON-RPC of a node of L2: the sequencer's, or that of `millrace follow`.
    #[arg(long, value_name = "URL", env = "MILLRACE_RPC", default_value = "http://127.0.0.1:8545")]
    url: Url,

    /// Write the proof to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Wait until the transaction is in a batch on L1.
    #[arg(long)]
    wait: bool,
}

/// What the node says besides the words.
#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

/// Runs the command.
pub(crate) async fn run(args: ProveInclusionArgs) -> Result<()> {
    let provider = ProviderBuilder::default().connect_http(args.url.clone());
    let provider: &dyn Provider = &provider;
    let proof = loop {
        let asked = provider.client().request::<_, InclusionProof>(METHOD, (args.hash,)).await;
        match asked {
            Ok(proof) => break proof,
            Err(error) if args.wait && is_early(&error) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => match error.as_error_resp() {
                Some(refusal) => bail!("{}", refusal.message),
                None => return Err(error).wrap_err("the node of L2 does not answer"),
            },
        }
    };
    let shown = proof
        .verify(proof.l1_chain_id, proof.rollup)
        .wrap_err("the node of L2 gave a proof that does not hold")?;
    if shown.transaction != args.hash {
        bail!("the node of L2 gave a proof for transaction {}", shown.transaction);
    }
    let text = serde_json::to_string(&proof)?;
    match &args.out {
        Some(file) => {
            fs::write(file, text + "\n")
                .wrap_err_with(|| format!("cannot write {}", file.display()))?;
            eprintln!(
                "transaction {} is number {} of block {}, in batch {}; check it with `millrace verify-inclusion {} --l1 URL`",
                shown.transaction,
                shown.index,
                shown.block.number,
                shown.batch.header.number,
                file.display()
            );
        }
        None => println!("{text}"),
    }
    Ok(())
}

/// Whether the transaction is on its way into a batch.
fn is_early(error: &TransportError) -> bool {
    let data = error.as_error_resp().and_then(|response| response.data.as_ref());
    let refusal = data.and_then(|data| serde_json::from_str::<Refusal>(data.get()).ok());
    refusal.is_some_and(|refusal| {
        matches!(refusal.reason.as_str(), "NOT_SEQUENCED" | "NOT_POSTED" | "BUSY" | "CHANGED")
    })
}
