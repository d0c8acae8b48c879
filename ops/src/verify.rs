//! `millrace verify`: the chain from L1 alone.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::eips::BlockNumHash;
use eyre::{Result, WrapErr, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_da_adapter::{
    AltDaConfig, CelestiaConfig, DaAdapterConfig, DaSources, MultiReader, ObjectStoreConfig,
    TokenSource,
};
use millrace_executor::{Replayer, StoreConfig};
use millrace_l1::{L1Config, RollupContract};
use millrace_proto::{BatchPayload, ChainSpec, DaReader, ErrorChain};
use millrace_settlement::{
    L1Check, VerifyError, VerifyInput, VerifyProgress, VerifyReport, VerifyTarget, verify_chain,
};
use serde_json::json;
use url::Url;

use crate::{
    cli::{ChainArgs, VerifyArgs},
    config::load_genesis,
};

/// Least time between two progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// A chain that was rebuilt from L1.
pub(crate) struct Rebuilt {
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) result: Result<VerifyReport, VerifyError>,
}

/// Rebuilds a chain from L1 alone in a folder, which has to be empty; `commitments`: and fails if a wrong one stands on L1.
pub(crate) async fn rebuild(
    chain: &ChainArgs,
    folder: &Path,
    until: VerifyTarget,
    commitments: bool,
    json: bool,
) -> Result<Rebuilt> {
    let l1 = chain.l1_config();
    let rollup = l1.rollup()?;
    let spec = Arc::new(genesis(chain, &rollup).await?);
    let reader = da_reader(chain, &l1)?;
    let replay = open_replay(folder, &spec)?;
    let mut progress = Progress::new(json);
    let input = VerifyInput {
        rollup,
        reader,
        spec: Arc::clone(&spec),
        replay: Box::new(replay),
        until,
        commitments,
    };
    let result = verify_chain(input, |step| progress.show(&step)).await;
    progress.finish();
    Ok(Rebuilt { spec, result })
}

/// A Celestia node as the command line names it.
pub(crate) fn celestia(url: Option<&Url>, token: Option<&Path>) -> Option<CelestiaConfig> {
    let token = token.map(|file| TokenSource::File(file.to_owned()));
    Some(CelestiaConfig { token, ..CelestiaConfig::at(url?.clone()) })
}

/// Reads a chain's batches, wherever they are.
pub(crate) fn da_reader(chain: &ChainArgs, l1: &L1Config) -> Result<Arc<dyn DaReader>> {
    let da = DaAdapterConfig {
        object_store: chain.da_store.clone().map(ObjectStoreConfig::at),
        alt_da: chain.alt_da.clone().map(AltDaConfig::at),
        celestia: celestia(chain.celestia.as_ref(), chain.celestia_token.as_deref()),
        archive: chain.archive.clone().map(ObjectStoreConfig::at),
        ..DaAdapterConfig::default()
    };
    let sources = da.sources().wrap_err("--da-store, --alt-da, --celestia or --archive")?;
    let beacon = Some(l1.beacon()?);
    Ok(Arc::new(MultiReader::new(DaSources { beacon, ..sources })))
}

/// The chain that is rebuilt in a folder.
pub(crate) fn open_replay(folder: &Path, spec: &Arc<ChainSpec>) -> Result<Replayer> {
    Replayer::open(&folder.join("state"), &StoreConfig::default(), Arc::clone(spec))
        .wrap_err("cannot open the folder to rebuild the chain in")
}

/// A folder for a while.
pub(crate) fn scratch() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("millrace-verify-").tempdir()?)
}

/// Runs the command.
pub(crate) async fn run(args: VerifyArgs) -> Result<()> {
    let temporary;
    let data_dir = match &args.data_dir {
        Some(dir) => {
            empty(dir)?;
            dir.clone()
        }
        None => {
            temporary = scratch()?;
            temporary.path().to_owned()
        }
    };
    let until = if args.finalized { VerifyTarget::Finalized } else { VerifyTarget::Latest };
    let Rebuilt { spec, result } = rebuild(&args.chain, &data_dir, until, true, args.json).await?;
    let payload = spec.rollup().batch_payload;
    match result {
        Ok(report) => {
            if args.json {
                println!(
                    "{}",
                    json!({
                        "summary": true, "ok": true, "chain_id": spec.chain_id(), "payload": payload,
                        "blocks": report.blocks, "transactions": report.transactions, "deposits": report.deposits,
                        "batches": report.batches, "commitments": report.commitments,
                        "skipped": report.skipped.iter().map(|batch| json!({ "batch": batch.number, "reason": batch.reason })).collect::<Vec<_>>(),
                        "head": { "number": report.head.number, "hash": report.head.hash },
                        "finalized": report.finalized.map(|point| json!({ "batch": point.batch, "block": point.last_block })),
                        "l1_head": { "number": report.l1_head.number, "hash": report.l1_head.hash },
                        "l1_checked": report.l1_checked.as_str(), "l1_agreed": report.l1_agreed,
                    })
                );
            } else {
                println!(
                    "verified: {} blocks ({} transactions) in {} batches, {} commitments, {} deposits queued; head {} {}",
                    report.blocks,
                    report.transactions,
                    report.batches,
                    report.commitments,
                    report.deposits,
                    report.head.number,
                    report.head.hash,
                );
                println!("{}", l1_line(&report));
                if payload == BatchPayload::StateDiffs {
                    println!(
                        "the chain's batches hold state diffs: its states follow from them, but no transaction was executed"
                    );
                }
                for batch in &report.skipped {
                    println!("skipped batch {}: {}", batch.number, batch.reason);
                }
            }
            Ok(())
        }
        Err(error) => {
            if args.json {
                println!(
                    "{}",
                    json!({ "summary": true, "ok": false, "error": ErrorChain::new(&error).to_string() })
                );
            }
            Err(error).wrap_err("verification failed")
        }
    }
}

/// What the report stands on.
fn l1_line(report: &VerifyReport) -> String {
    let how = match report.l1_checked {
        L1Check::Proof => "the contract's state is proved by it",
        L1Check::Receipts => "every block before it was read and checked",
        L1Check::None => "and the node's word for the rest: nothing was checked",
    };
    let others = match report.l1_agreed {
        0 => "no other node has said whether it is L1's".to_owned(),
        1 => "another node has it too".to_owned(),
        more => format!("{more} other nodes have it too"),
    };
    let BlockNumHash { number, hash } = report.l1_head;
    format!("L1 up to block {number} {hash}: {how}; {others}")
}

/// The genesis: from a file, or as published on L1. Either way the contract's genesis hash decides.
pub(crate) async fn genesis(args: &ChainArgs, rollup: &RollupContract) -> Result<ChainSpec> {
    let spec = match &args.genesis {
        Some(path) => load_genesis(path)?,
        None => {
            let expected = rollup.genesis_hash().await.wrap_err("cannot read the contract")?;
            let is_ours = |json: &[u8]| {
                ChainSpec::from_json(json)
                    .is_ok_and(|spec| millrace_executor::genesis_header(&spec).seal() == expected)
            };
            let json = rollup.genesis(is_ours).await.wrap_err(
                "no usable genesis is published on L1; give the chain's with --genesis FILE",
            )?;
            ChainSpec::from_json(&json).wrap_err("the genesis published on L1")?
        }
    };
    let (computed, expected) =
        (millrace_executor::genesis_header(&spec).seal(), rollup.genesis_hash().await?);
    ensure!(
        computed == expected,
        "the genesis is not this rollup's: its hash is {computed}, the contract says {expected}"
    );
    Ok(spec)
}

fn empty(dir: &PathBuf) -> Result<()> {
    fs::create_dir_all(dir).wrap_err_with(|| format!("cannot create {}", dir.display()))?;
    let mut entries =
        fs::read_dir(dir).wrap_err_with(|| format!("cannot read {}", dir.display()))?;
    ensure!(entries.next().is_none(), "{} is not empty; give an empty folder", dir.display());
    Ok(())
}

/// A bar on a terminal, a line every few seconds elsewhere.
struct Progress {
    /// Also where it is not shown, it knows how long the rest may take.
    bar: ProgressBar,
    json: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new(json: bool) -> Self {
        let style = ProgressStyle::with_template(
            "{bar:30} L1 block {pos}/{len} · {msg} · {elapsed} · ETA {eta}",
        )
        .expect("the template is constant");
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(0).with_style(style),
            false => ProgressBar::hidden(),
        };
        Self { bar, json, last: None }
    }

    fn show(&mut self, step: &VerifyProgress) {
        self.bar.set_length(step.l1_target.saturating_sub(step.l1_start));
        self.bar.set_position(step.l1_block.saturating_sub(step.l1_start));
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("batch {}, block {}", step.batches, step.block));
            return;
        }
        if self.last.is_some_and(|last| last.elapsed() < LINE_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        if self.json {
            println!("{}", self.as_json(step))
        } else {
            eprintln!("{}", self.line(step))
        }
    }

    fn as_json(&self, step: &VerifyProgress) -> serde_json::Value {
        json!({
            "l1_block": step.l1_block, "l1_target": step.l1_target, "batches": step.batches,
            "block": step.block, "transactions": step.transactions,
            "eta_seconds": self.left().map(|left| left.as_secs()),
        })
    }

    fn line(&self, step: &VerifyProgress) -> String {
        let left = self.left().map_or_else(String::new, |left| {
            format!("; {} left", humantime::format_duration(Duration::from_secs(left.as_secs())))
        });
        format!(
            "L1 block {} of {}: batch {}, block {}{left}",
            step.l1_block, step.l1_target, step.batches, step.block
        )
    }

    /// How long the rest may take, once that can be told.
    fn left(&self) -> Option<Duration> {
        (self.bar.per_sec() > 0.0).then(|| self.bar.eta())
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_long_the_rest_may_take() {
        let mut progress = Progress { bar: ProgressBar::hidden(), json: true, last: None };
        let step = |l1_block| VerifyProgress {
            l1_block,
            l1_start: 100,
            l1_target: 1_100,
            block: 7,
            batches: 3,
            transactions: 20,
        };
        progress.show(&step(100));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        progress.show(&step(101));
        // A thousandth took so long.
        let left = progress.as_json(&step(101))["eta_seconds"].as_u64();
        assert!(left.is_some_and(|left| left >= 10), "{left:?}");
        assert!(progress.line(&step(101)).ends_with(" left"));
    }
}
