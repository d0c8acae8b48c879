//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};
use eyre::{Result, WrapErr};
use millrace_da_adapter::BackendKind;
use millrace_l1::L1Config;
use millrace_proto::{BatchPayload, grpc::Access};
use millrace_sequencer::OrderBy;
use url::Url;

use crate::{
    bench::Bench,
    bridge::{DepositArgs, FinalizeArgs, ForceArgs, PostArgs, ProveArgs, WithdrawArgs},
    da::DaCommand,
    dictionary::DictionaryArgs,
    inclusion::{ProveInclusionArgs, VerifyInclusionArgs},
    load::LoadArgs,
    replay::ReplayArgs,
    statetest::StateTestArgs,
    telemetry::LogFormat,
    torture::Torture,
};

/// An EVM rollup: sequencer, executor, DA adapter, settlement.
#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// What to log to standard error: a level, or directives such as `info,millrace::sequencer=debug`.
    #[arg(long, global = true, env = "MILLRACE_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// How log lines look.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole development chain in this process: dev L1, contract, and all four services.
    Dev(DevArgs),
    /// Run the sequencer: gRPC, JSON-RPC, ordering.
    Sequencer(ServiceArgs),
    /// Run the executor: blocks, state, reads.
    Executor(ServiceArgs),
    /// Run the DA adapter: batches to L1 or another DA layer.
    DaAdapter(ServiceArgs),
    /// Run the settlement service: derive, verify, commit.
    Settlement(ServiceArgs),
    /// Run a verifier, which derives the chain from L1 by itself and signs what it has come to for whoever commits.
    Verifier(ServiceArgs),
    /// Run a full node: blocks from the sequencer's feed, executed and checked against L1, and JSON-RPC for them.
    Follow(FollowArgs),
    /// Deploy the rollup contract on an L1 and publish the genesis.
    Deploy(DeployArgs),
    /// Ask a running DA adapter where batches go, and choose where they are to go.
    #[command(subcommand)]
    Da(DaCommand),
    /// Bring ether or tokens from L1 to L2, or call a contract there.
    Deposit(DepositArgs),
    /// Send ether or tokens from L2 towards L1, or call a contract there.
    Withdraw(WithdrawArgs),
    /// Prove that a batch on L1 holds a withdrawal, from a node of L2 or from L1 alone.
    ProveWithdrawal(ProveArgs),
    /// Have a proved withdrawal paid out on L1; repeat the call if it has failed before.
    FinalizeWithdrawal(FinalizeArgs),
    /// Prove that a transaction is in a block, the block in a batch, and the batch on L1: asks a node of L2.
    ProveInclusion(ProveInclusionArgs),
    /// Check such a proof, with an L1 and nothing else.
    VerifyInclusion(VerifyInclusionArgs),
    /// Queue a signed transaction of L2 on L1, so that no sequencer can leave it out.
    ForceInclude(ForceArgs),
    /// Post a batch of what waits in L1's queue, when the sequencer has been silent for as long as the contract says.
    PostBatch(PostArgs),
    /// Rebuild the chain from L1 alone and check every block, root and commitment.
    Verify(VerifyArgs),
    /// Send transactions at a rate, measure how long each of their stages takes, and check that each is in a block once.
    Load(LoadArgs),
    /// Measure Millrace beside an alternative, in the same run.
    #[command(subcommand)]
    Bench(Bench),
    /// Execute blocks of Ethereum mainnet in order and on threads, check both, and tell their times.
    Replay(ReplayArgs),
    /// Run Ethereum's state tests in order and on threads, each alone and all of a test in one block.
    Statetest(StateTestArgs),
    /// Check made-up inputs that are hard to get right.
    #[command(subcommand)]
    Torture(Torture),
    /// Make the dictionary that batches are compressed with.
    Dictionary(DictionaryArgs),
    /// Print the annotated example configuration, which documents every setting.
    Config,
}

/// Where the L1 is.
#[derive(Debug, Clone, Args)]
pub(crate) struct L1Args {
    /// L1 JSON-RPC.
    #[arg(long, value_name = "URL", env = "MILLRACE_L1")]
    pub(crate) l1: Url,

    /// L1 beacon API, which serves the blobs; the L1 URL where not given.
    #[arg(long, value_name = "URL", env = "MILLRACE_BEACON")]
    pub(crate) beacon: Option<Url>,

    /// Another node of the same L1, asked when the first fails; may be given more than once.
    #[arg(long, value_name = "URL")]
    pub(crate) l1_fallback: Vec<Url>,

    /// The L1's chain id: a node of another chain is refused.
    #[arg(long, value_name = "ID", env = "MILLRACE_L1_CHAIN_ID")]
    pub(crate) l1_chain_id: Option<u64>,

    /// Believe what the L1 node says, and do not check it against L1's blocks: for an L1 whose headers, receipts or states are not Ethereum's, or
    /// whose node has no `eth_getBlockReceipts`.
    #[arg(long)]
    pub(crate) no_l1_checks: bool,
}

/// What is trusted of the sequencer's gRPC, and shown to it.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessArgs {
    /// A PEM file with the certificates that may have signed the sequencer's, for `https://`; those that the system trusts where not given.
    #[arg(long, value_name = "FILE", env = "MILLRACE_SEQUENCER_CA")]
    pub(crate) sequencer_ca: Option<PathBuf>,

    /// A file with the token that the sequencer asks for, where it does.
    #[arg(long, value_name = "FILE", env = "MILLRACE_SEQUENCER_TOKEN_FILE")]
    pub(crate) sequencer_token_file: Option<PathBuf>,
}

impl AccessArgs {
    /// Reads the files.
    pub(crate) fn access(&self) -> Result<Access> {
        let mut access = Access::default();
        if let Some(path) = &self.sequencer_ca {
            access = access.trusting(path.clone()).wrap_err("--sequencer-ca")?;
        }
        if let Some(path) = &self.sequencer_token_file {
            let read = std::fs::read_to_string(path)
                .wrap_err_with(|| format!("--sequencer-token-file {}", path.display()))?;
            access = access.showing(&read).wrap_err("--sequencer-token-file")?;
        }
        Ok(access)
    }
}

/// How ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Ports {
    /// The well-known ones: JSON-RPC 8545, gRPC 50051, metrics 9101 to 9104, dev L1 9545 and 9546.
    #[default]
    Fixed,
    /// Free ones, which the ready line tells.
    Auto,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DevArgs {
    /// Data folder; a second start on it resumes the chain.
    #[arg(long, value_name = "DIR", default_value = ".millrace")]
    pub(crate) data_dir: PathBuf,

    /// Use this L1 instead of the embedded one. Its chain id must be a development one.
    #[arg(long, value_name = "URL")]
    pub(crate) l1: Option<Url>,

    /// The beacon API of `--l1`; the same URL where not given.
    #[arg(long, value_name = "URL", requires = "l1")]
    pub(crate) beacon: Option<Url>,

    /// Time between blocks while there are transactions (10ms to 12s).
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration)]
    pub(crate) block_time: Duration,

    /// In which order transactions are taken into blocks.
    #[arg(long, value_enum, default_value_t = OrderChoice::Arrival)]
    pub(crate) order: OrderChoice,

    /// Percent of what a transaction's data costs on L1 that its priority fee has to cover; 0: nothing is asked for data.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) data_fee_percent: u32,

    /// Time between the embedded L1's blocks (at least 1s).
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = at_least_a_second)]
    pub(crate) l1_block_time: Duration,

    /// Post a batch at the latest after this time.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) batch_age: Duration,

    /// Challenge window of a newly deployed contract; a chain that was started before keeps its own.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = at_least_a_second)]
    pub(crate) challenge_window: Duration,

    /// Time without a sign of life of the batcher after which anyone may post batches, of a newly deployed contract.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = at_least_a_second)]
    pub(crate) sequencer_timeout: Duration,

    /// L1 blocks after which a deposit or forced transaction is overdue (a day, with a block a second), of a newly deployed contract.
    #[arg(long, value_name = "BLOCKS", default_value_t = 86_400)]
    pub(crate) inclusion_window: u64,

    /// L1 blocks that must follow a deposit before L2 mints it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) l1_confirmations: u64,

    /// What batches hold, which cannot be changed for a chain that was started before.
    #[arg(long, value_enum, default_value_t = PayloadChoice::Transactions)]
    pub(crate) batch_payload: PayloadChoice,

    /// Gas of a block at most, which cannot be changed for a chain that was started before.
    #[arg(long, value_name = "GAS", value_parser = clap::value_parser!(u64).range(5_000_000..=4_000_000_000))]
    pub(crate) gas_limit: Option<u64>,

    /// Where batches go: through the first of these that takes them.
    #[arg(
        long,
        value_enum,
        value_name = "DA,DA",
        value_delimiter = ',',
        default_value = "l1_blob"
    )]
    pub(crate) da: Vec<DaChoice>,

    /// The alt-DA server that batches go to with `--da alt_da`.
    #[arg(long, value_name = "URL", required_if_eq("da", "alt_da"))]
    pub(crate) alt_da: Option<Url>,

    /// The Celestia node that batches go to with `--da celestia`.
    #[arg(long, value_name = "URL", required_if_eq("da", "celestia"))]
    pub(crate) celestia: Option<Url>,

    /// A file with the auth token of the Celestia node, where it asks for one.
    #[arg(long, value_name = "FILE", requires = "celestia")]
    pub(crate) celestia_token: Option<PathBuf>,

    /// Keep the blobs of all batches here too, for when beacon nodes have dropped them (for example `file:///srv/archive`).
    #[arg(long, value_name = "URL")]
    pub(crate) archive: Option<Url>,

    /// How ports are chosen.
    #[arg(long, value_enum, default_value_t = Ports::Fixed)]
    pub(crate) ports: Ports,

    /// Print one JSON object a line to standard output, the first when everything answers.
    #[arg(long)]
    pub(crate) json: bool,
}

/// In which order transactions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum OrderChoice {
    /// First come, first served.
    Arrival,
    /// By what they pay above the base fee.
    PriorityFee,
}

impl OrderChoice {
    pub(crate) const fn order(self) -> OrderBy {
        match self {
            Self::Arrival => OrderBy::Arrival,
            Self::PriorityFee => OrderBy::PriorityFee,
        }
    }
}

/// Payloads that the dev chain can be started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadChoice {
    /// The signed transactions: anyone can execute them again.
    Transactions,
    /// What blocks changed: the fewest bytes, but nobody can execute anything again.
    StateDiffs,
}

impl PayloadChoice {
    pub(crate) const fn payload(self) -> BatchPayload {
        match self {
            Self::Transactions => BatchPayload::Transactions,
            Self::StateDiffs => BatchPayload::StateDiffs,
        }
    }
}

/// DA backends that the dev chain can be started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum DaChoice {
    /// EIP-4844 blobs on the L1.
    L1Blob,
    /// Calldata on the L1.
    L1Calldata,
    /// A server of the OP Stack's alt-DA interface, at `--alt-da`.
    AltDa,
    /// Celestia, through the node at `--celestia`; where built with the feature `celestia`.
    Celestia,
    /// A folder beside the chain's data.
    ObjectStore,
}

impl DaChoice {
    pub(crate) const fn backend(self) -> BackendKind {
        match self {
            Self::L1Blob => BackendKind::L1Blob,
            Self::L1Calldata => BackendKind::L1Calldata,
            Self::AltDa => BackendKind::AltDa,
            Self::Celestia => BackendKind::Celestia,
            Self::ObjectStore => BackendKind::ObjectStore,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceArgs {
    /// Configuration file; `millrace config` prints one with every setting explained.
    #[arg(long, value_name = "FILE", env = "MILLRACE_CONFIG")]
    pub(crate) config: PathBuf,

    /// Data folder, instead of the file's.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// L1 JSON-RPC, instead of the file's.
    #[arg(long, value_name = "URL")]
    pub(crate) l1: Option<Url>,

    /// Time between blocks, instead of the file's.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) block_time: Option<Duration>,

    /// In which order transactions are taken into blocks, instead of the file's.
    #[arg(long, value_enum)]
    pub(crate) order: Option<OrderChoice>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeployArgs {
    /// Configuration file: its L1, keys and genesis are used.
    #[arg(long, value_name = "FILE", env = "MILLRACE_CONFIG")]
    pub(crate) config: PathBuf,

    /// Time from a commitment to its finality, in which the guardian can revert it.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = at_least_a_second)]
    pub(crate) challenge_window: Duration,

    /// Owns the contracts: grants and revokes roles, and proposes upgrades. Without it, the account of `[keys] owner`, which deploys
    /// in any case and keeps no rights if it is another one.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Option<Address>,

    /// Make commitments final by signatures of these accounts, each the key of a `millrace verifier`, instead of by the committer's word.
    /// The challenge window remains, in which the guardian can object.
    #[arg(long, value_name = "ADDRESS,ADDRESS", value_delimiter = ',')]
    pub(crate) verifiers: Vec<Address>,

    /// How many of them have to sign; all where not given.
    #[arg(long, value_name = "M", requires = "verifiers")]
    pub(crate) threshold: Option<u64>,

    /// May pause the chain, and revert commitments that are not final. Without it, the owner.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) guardian: Option<Address>,

    /// Time between the proposal of an upgrade, or of another verifier, and its taking effect.
    #[arg(long, value_name = "TIME", default_value = "2d", value_parser = humantime::parse_duration)]
    pub(crate) timelock_delay: Duration,

    /// Time that handing over the ownership takes at least.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    pub(crate) owner_transfer_delay: Duration,

    /// Time without a sign of life of the batcher after which anyone may post batches.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = at_least_a_second)]
    pub(crate) sequencer_timeout: Duration,

    /// L1 blocks after which a deposit or forced transaction is overdue: the contract takes no batch that leaves it out. Longer than the
    /// longest time for which posting may stand still, or L2 may reorg when it goes on.
    #[arg(long, value_name = "BLOCKS", default_value_t = 7_200)]
    pub(crate) inclusion_window: u64,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A chain on L1, and where its bytes are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChainArgs {
    #[command(flatten)]
    pub(crate) l1: L1Args,

    /// The rollup contract.
    #[arg(long, value_name = "ADDRESS", env = "MILLRACE_ROLLUP")]
    pub(crate) rollup: Address,

    /// Where batches on an object store are, for chains that post there (for example `file:///srv/da`).
    #[arg(long, value_name = "URL")]
    pub(crate) da_store: Option<Url>,

    /// Where batches on an alt-DA server are, for chains that post there.
    #[arg(long, value_name = "URL")]
    pub(crate) alt_da: Option<Url>,

    /// A Celestia node, for chains that post there; in builds with the feature `celestia`.
    #[arg(long, value_name = "URL")]
    pub(crate) celestia: Option<Url>,

    /// A file with the auth token of the Celestia node, where it asks for one.
    #[arg(long, value_name = "FILE", requires = "celestia")]
    pub(crate) celestia_token: Option<PathBuf>,

    /// An archive of blobs, for those that the beacon node has dropped (for example `file:///srv/archive`). Each is checked against its versioned hash.
    #[arg(long, value_name = "URL")]
    pub(crate) archive: Option<Url>,

    /// Genesis file, for chains whose genesis is not published on L1.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
}

impl ChainArgs {
    /// How the chain's L1 is reached.
    pub(crate) fn l1_config(&self) -> L1Config {
        let L1Args { l1, beacon, l1_fallback, l1_chain_id, no_l1_checks } = &self.l1;
        L1Config {
            chain_id: *l1_chain_id,
            beacon: beacon.clone(),
            fallbacks: l1_fallback.clone(),
            check_blocks: !no_l1_checks,
            ..L1Config::new(l1.clone(), self.rollup)
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,

    /// The sequencer's gRPC, for blocks before they are on L1, and to pass transactions on to; L1 alone where not given.
    #[arg(long, value_name = "URL")]
    pub(crate) sequencer: Option<Url>,

    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Data folder; a second start on it goes on.
    #[arg(long, value_name = "DIR", default_value = ".millrace-follow")]
    pub(crate) data_dir: PathBuf,

    /// Where JSON-RPC listens (HTTP and WebSocket); port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8547")]
    pub(crate) rpc_listen: SocketAddr,

    /// Where metrics and `/ready` listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9105")]
    pub(crate) metrics_listen: SocketAddr,

    /// End with exit code 1 when the sequencer's chain and the one derived from L1 differ, instead of raising an alarm alone.
    #[arg(long)]
    pub(crate) exit_on_difference: bool,

    /// For how long they may differ before that is an alarm: each may see an L1 reorg before the other.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) difference_patience: Duration,

    /// Print one JSON object a line to standard output: a ready line, then the heads now and then.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,

    /// Rebuild the chain in this folder, which must be empty; a temporary one where not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Stop at the last finalized commitment instead of the last posted batch.
    #[arg(long)]
    pub(crate) finalized: bool,

    /// Print one JSON object a line to standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A path that there is: another is a wrong call.
pub(crate) fn existing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.try_exists() {
        Ok(true) => Ok(path),
        Ok(false) => Err("there is no such file or folder".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) {
        return Err("must be at least 1s".into());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
