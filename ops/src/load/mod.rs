//! `millrace load`: transactions at a steady rate, the latency of each of their stages, and whether each that was acknowledged is in a block once.
//!
//! ```text
//!  plan    what is sent: setup, then load; signed ahead of time, or read from a file that was
//!  setup   senders get ether, contracts are deployed
//!  sender  open loop: each transaction has its time, late or not
//!  rpc     the same over JSON-RPC, to any node, and no further than its answers
//!  watch   frames, blocks and heads, as the sequencer tells them
//!  ledger  when each transaction reached each stage
//!  report  histograms, errors by reason, the check at the end
//! ```

mod calls;
mod file;
mod ledger;
mod plan;
mod report;
mod rpc;
mod sender;
mod setup;
mod watch;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use alloy::{primitives::Bytes, signers::local::PrivateKeySigner};
use clap::{Args, ValueEnum};
use eyre::{Result, WrapErr, bail, ensure, eyre};
use futures::{StreamExt, future::try_join_all, stream};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_l1::L1Signer;
use millrace_proto::{
    ErrorChain, Sequencer, Stage as Reached, TxPool,
    grpc::{ClientConfig, SequencerClient, Transport, pb::sequencer_client},
};
use millrace_workload::Artifacts;
use tonic::Status;
use url::Url;

pub(crate) use self::report::cpu_time;
use self::{
    ledger::{Ledger, Missing, Tally},
    plan::{Accounts, Brief, Plan},
    report::{Outcome, Report, own_cpu},
    rpc::{Rpc, RpcReport},
    sender::{Lane, OpenLane},
    watch::Watch,
};
use crate::{cli::AccessArgs, keys::KeySource};

/// Transactions signed for `--rate max` where their number is not given, for each second.
const MAX_PER_SECOND: f64 = 50_000.0;
/// What transactions may pay for gas where that is not given: so many times the present base fee, at least this, wei.
const FEE_FACTOR: u128 = 10;
const LEAST_FEE: u128 = 100_000_000;
/// Calls at the same time.
const CALLS: usize = 64;
/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time that can be given.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Transactions of which is asked at the end what became of them.
const ASKED: usize = 100_000;

fn up_to_a_day(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= LONGEST { Ok(time) } else { Err("at most a day".to_owned()) }
}

/// The first transactions, as they are sent, of what `--save` wrote to a file.
pub(crate) fn saved(path: &Path, count: usize) -> Result<Vec<Bytes>> {
    let plan = Plan::read(path)?;
    Ok(plan.load.into_iter().take(count).map(|tx| tx.raw).collect())
}

/// What a gRPC call failed with, in words.
fn told(status: Status) -> eyre::Report {
    eyre!("{} ({:?})", status.message(), status.code())
}

/// What accounts do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Send each other ether.
    Transfer,
    /// Send each other an ERC-20 token.
    Erc20,
    /// Swap tokens on Uniswap v2, each on one of some pools.
    Swap,
    /// 40% transfers, 40% of them of tokens, 20% swaps.
    Mixed,
    /// Count up one counter, so that each transaction depends on the one before.
    Conflict,
}

/// Transactions a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// So many, at equal distances, whether or not the ones before are answered.
    Each(f64),
    /// As many as are taken.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rate) if (0.001..=1e7).contains(&rate) => Ok(Self::Each(rate)),
            _ => Err("0.001 to 10000000 transactions a second, or max".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// gRPC of the sequencer.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:50051",
        env = "MILLRACE_SEQUENCER"
    )]
    url: Url,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    payer: PayerArgs,

    /// Transactions a second, at equal distances, or `max`: as many as are taken.
    #[arg(long, value_name = "N|max", default_value = "1000")]
    rate: Rate,

    /// For how long. At a rate, with a number of transactions or with what was saved: for as long as these take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = up_to_a_day)]
    duration: Duration,

    /// How many transactions are signed; as many as the rate and the time ask for where not given. With `--rate max`, it ends with them or with the time.
    #[arg(long, value_name = "N")]
    transactions: Option<usize>,

    /// What accounts do.
    #[arg(long, value_enum, default_value_t = Kind::Transfer)]
    kind: Kind,

    /// Accounts that send, in turn. The key's account gives them what they need.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    senders: u32,

    /// What senders and recipients follow from: with the same seed they are the same accounts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The most that a transaction may pay for gas, in gwei; ten times the present base fee, and at least 0.1, where not given.
    #[arg(long, value_name = "GWEI")]
    max_fee: Option<f64>,

    /// A node_modules folder with the contracts' packages, for tokens and swaps; `tests/setup.sh` makes this one.
    #[arg(long, value_name = "DIR", default_value = ".tools/node_modules")]
    contracts: PathBuf,

    /// Connections to send on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,

    /// Sign all, write it to this file, and send nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    save: Option<PathBuf>,

    /// Send what was saved, to a chain that is as the one that it was signed for.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "senders", "seed", "max_fee", "transactions"])]
    replay: Option<PathBuf>,

    /// Send over JSON-RPC instead, to any Ethereum node, as fast as it accepts, and measure that alone. What is sent has to be signed before.
    #[arg(long, value_name = "URL", requires = "replay")]
    rpc: Option<Url>,

    /// Calls in one JSON-RPC request.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "rpc", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,

    /// Wait for this stage of all transactions before the end.
    #[arg(long, value_enum, default_value_t = Until::Sequenced)]
    until: Until,

    /// How long to wait while nothing goes on, and for answers after the last was sent.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = up_to_a_day)]
    patience: Duration,

    /// Print one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

/// Whose ether it is.
#[derive(Debug, Clone, Args)]
struct PayerArgs {
    /// The environment variable that holds the key of the account that pays, in hexadecimal.
    #[arg(long, value_name = "NAME", conflicts_with = "key_file")]
    key_env: Option<String>,

    /// A file that holds it, in hexadecimal.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// One of the ten well-known development keys instead: on development chains alone.
    #[arg(long, value_name = "INDEX", default_value_t = 0, conflicts_with_all = ["key_env", "key_file"], value_parser = clap::value_parser!(u32).range(0..10))]
    dev_key: u32,
}

/// What is waited for at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// A sealed block.
    Sequenced,
    /// A batch on L1 or DA.
    Posted,
    /// Final on L1.
    Finalized,
}

/// The sequencer, as a service and as it is on the wire.
struct Target {
    client: SequencerClient,
    wire: sequencer_client::SequencerClient<Transport>,
}

impl Target {
    fn connect(url: &Url, access: &AccessArgs) -> Result<Self> {
        let connection = ClientConfig::default().connect_with(url.as_str(), access.access()?);
        let connection = connection.wrap_err("--url")?;
        let wire = sequencer_client::SequencerClient::new(connection.transport())
            .max_decoding_message_size(usize::MAX);
        Ok(Self { client: SequencerClient::new(connection), wire })
    }
}

/// Runs the command.
pub(crate) async fn run(args: LoadArgs) -> Result<()> {
    if let (Some(url), Some(path)) = (&args.rpc, &args.replay) {
        return args.run_rpc(url, Plan::read(path)?).await;
    }
    let target = Target::connect(&args.url, &args.access)?;
    let plan = match &args.replay {
        Some(path) => {
            let plan = Plan::read(path)?;
            let chain_id = target.client.status().await.wrap_err("--url")?.chain_id;
            ensure!(
                plan.chain_id == chain_id,
                "{} was signed for chain {}, and this is chain {chain_id}",
                path.display(),
                plan.chain_id
            );
            plan
        }
        None => args.plan(&target.client).await?,
    };
    if let Some(path) = &args.save {
        plan.save(path)?;
        eprintln!("{} transactions are in {}", plan.load.len(), path.display());
        return Ok(());
    }
    for (index, step) in plan.setup.iter().enumerate() {
        eprintln!("setup, step {} of {}: {} transactions", index + 1, plan.setup.len(), step.len());
        setup::step(&target.client, step, args.patience).await?;
    }
    let report = args.measure(&target, Arc::new(plan)).await?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    if !report.ok {
        bail!("what was acknowledged is not all there once");
    }
    Ok(())
}

impl LoadArgs {
    /// Sends over JSON-RPC.
    async fn run_rpc(&self, url: &Url, plan: Plan) -> Result<()> {
        let (connections, batch, duration) = (self.connections, self.batch, self.duration);
        let rpc = Rpc { url: url.clone(), connections, batch, duration };
        let report = rpc.run(plan).await?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        let RpcReport { sent, accepted, seconds, accepted_per_s, errors } = report;
        println!(
            "{sent} sent in {seconds:.1} s: {accepted} accepted ({accepted_per_s:.0} a second)"
        );
        for (error, count) in errors {
            println!("{count:9} {error}");
        }
        Ok(())
    }

    /// Signs what the arguments ask for.
    async fn plan(&self, client: &SequencerClient) -> Result<Plan> {
        let status = client.status().await.wrap_err("--url")?;
        let payer = self.payer.load(status.chain_id).await?;
        let seconds = self.duration.as_secs_f64();
        let transactions = self.transactions.unwrap_or_else(|| {
            let rate = match self.rate {
                Rate::Each(rate) => rate,
                Rate::Max => MAX_PER_SECOND,
            };
            (rate * seconds).ceil() as usize
        });
        ensure!(u32::try_from(transactions).is_ok(), "{transactions} transactions are too many");
        let artifacts = match self.kind {
            Kind::Transfer | Kind::Conflict => None,
            Kind::Erc20 | Kind::Swap | Kind::Mixed => Some(Artifacts::read(&self.contracts)?),
        };
        let base_fee = u128::from(status.next_base_fee);
        let max_fee = match self.max_fee {
            Some(gwei) => (gwei * 1e9) as u128,
            None => (base_fee * FEE_FACTOR).max(LEAST_FEE),
        };
        ensure!(
            max_fee >= base_fee,
            "--max-fee is below the base fee, which is {} gwei now: nothing would be taken",
            base_fee as f64 / 1e9
        );
        eprintln!("signing {transactions} transactions of {} accounts", self.senders);
        let mut accounts = Accounts::new(&payer, self.senders, self.seed)?;
        accounts.payer.nonce = client.pending_nonce(accounts.payer.address).await?;
        let addresses: Vec<_> = accounts.senders.iter().map(|sender| sender.address).collect();
        let nonces = stream::iter(addresses).map(|address| client.pending_nonce(address));
        let nonces: Vec<_> = nonces.buffered(CALLS).collect().await;
        for (sender, nonce) in accounts.senders.iter_mut().zip(nonces) {
            sender.nonce = nonce?;
        }
        let (kind, seed, chain_id) = (self.kind, self.seed, status.chain_id);
        // Minutes of work on all threads.
        tokio::task::spawn_blocking(move || {
            Plan::make(&Brief {
                chain_id,
                kind,
                accounts: &accounts,
                transactions,
                seed,
                max_fee,
                artifacts: artifacts.as_ref(),
            })
        })
        .await?
    }

    /// Sends the load, and follows it to the end.
    async fn measure(&self, target: &Target, plan: Arc<Plan>) -> Result<Report> {
        let head = target.client.heads().await?.latest.number;
        let ledger = Arc::new(Ledger::new(&plan.load)?);
        let mut watch = Watch::start(&target.wire, &ledger, head + 1).await?;
        let lanes = try_join_all(self.lanes(&plan, &ledger)?).await?;
        let block_time = target.client.status().await?.block_time;
        let progress = self.progress(plan.load.len() as u64);
        let cpu = own_cpu();
        ledger.begin();
        let sent = try_join_all(lanes.into_iter().map(OpenLane::run));
        let followed = async {
            let mut sent = std::pin::pin!(sent);
            let mut is_sent = false;
            loop {
                tokio::select! {
                    result = &mut sent, if !is_sent => {
                        result?;
                        is_sent = true;
                    }
                    () = tokio::time::sleep(LOOK) => {}
                }
                let tally = ledger.tally();
                progress.set_position(tally.sequenced);
                progress.set_message(format!("{} acknowledged", tally.accepted));
                if is_sent && self.has_all(&tally) {
                    // What is there twice is there soon.
                    tokio::time::sleep(2 * block_time).await;
                    return Ok(());
                }
                let is_stuck = (is_sent || ledger.is_waiting()) && ledger.idle() > self.patience;
                ensure!(!is_stuck, "nothing went on for {:?}", self.patience);
            }
        };
        let result: Result<()> = tokio::select! {
            result = followed => result,
            error = watch.ended() => Err(error).wrap_err("the chain could not be followed"),
        };
        progress.finish_and_clear();
        // What is known by then is worth a report.
        let failure = result.err().map(|error| ErrorChain::new(&*error).to_string());
        let own_cpu = own_cpu().zip(cpu).map(|(now, then)| now.saturating_sub(then));
        let mut check = check(&target.client, &plan, &ledger).await;
        if self.rate != Rate::Max {
            check.unsent = (plan.load.len() as u64).saturating_sub(ledger.tally().sent);
        }
        Ok(Report::new(&ledger, plan.load.len(), check, failure, own_cpu))
    }

    /// The load's shares: a sender's transactions are all on one connection.
    fn lanes(
        &self,
        plan: &Arc<Plan>,
        ledger: &Arc<Ledger>,
    ) -> Result<Vec<impl Future<Output = Result<OpenLane>> + use<>>> {
        let count = u32::from(self.connections);
        let mut shares = vec![Vec::new(); usize::from(self.connections)];
        for (index, tx) in (0..).zip(&plan.load) {
            shares[(tx.sender % count) as usize].push(index);
        }
        let duration = match self.rate {
            // What is late is sent all the same.
            Rate::Each(rate) => {
                let due = Duration::try_from_secs_f64(plan.load.len() as f64 / rate);
                due.unwrap_or(LONGEST) + self.patience
            }
            Rate::Max => self.duration,
        };
        shares
            .into_iter()
            .map(|indices| {
                let lane = Lane {
                    plan: plan.clone(),
                    ledger: ledger.clone(),
                    indices,
                    rate: self.rate,
                    duration,
                    patience: self.patience,
                };
                Ok(lane.open(Target::connect(&self.url, &self.access)?.wire))
            })
            .collect()
    }

    /// Whether everything that was acknowledged is where it is to come.
    const fn has_all(&self, tally: &Tally) -> bool {
        let reached = match self.until {
            Until::Sequenced => tally.whole,
            Until::Posted => tally.posted,
            Until::Finalized => tally.finalized,
        };
        tally.whole >= tally.accepted && reached >= tally.accepted
    }

    fn progress(&self, transactions: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = "{bar:32} {pos} of {len} in blocks, {msg}";
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(transactions).with_style(style)
    }
}

impl PayerArgs {
    async fn load(&self, chain_id: u64) -> Result<PrivateKeySigner> {
        let source = match (&self.key_env, &self.key_file) {
            (Some(name), _) => KeySource::Env(name.clone()),
            (_, Some(file)) => KeySource::File(file.clone()),
            (None, None) => KeySource::Dev(self.dev_key),
        };
        match source.load(chain_id).await? {
            L1Signer::Key(key) => Ok(key),
            L1Signer::Remote(_) => Err(eyre!("the key must be here")),
        }
    }
}

/// What became of what was acknowledged and is in no block.
async fn check(client: &SequencerClient, plan: &Plan, ledger: &Ledger) -> Outcome {
    let check = ledger.check();
    let mut outcome = Outcome {
        doubled: check.doubled,
        intruders: check.intruders,
        unanswered: check.unanswered,
        unknown: check.missing.len() as u64,
        ..Outcome::default()
    };
    let missing = check.missing.into_iter().take(ASKED);
    let ask = async |missing: Missing| {
        let found = client.transaction(plan.load[missing.index as usize].hash).await;
        found.map(|found| (missing, found))
    };
    let mut found = stream::iter(missing).map(ask).buffered(CALLS);
    // Who does not answer once is not asked for the others.
    while let Some(Ok((missing, found))) = found.next().await {
        outcome.unknown -= 1;
        match found.map(|tx| tx.status.stage) {
            Some(Reached::Dropped) => outcome.dropped += 1,
            // In a block from before.
            Some(stage) if missing.was_known && stage >= Reached::Sequenced => {}
            Some(_) => outcome.waiting += 1,
            None => outcome.lost += 1,
        }
    }
    outcome
}
