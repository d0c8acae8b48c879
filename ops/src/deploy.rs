//! `millrace deploy`: puts the chain's contracts on an L1 and publishes the genesis there.

use std::time::Duration;

use alloy::primitives::Address;
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::{ClientOptions, DeployParams, Deployment, FinalityRule, L1Client, deploy_rollup};
use millrace_proto::{BatchPayload, ChainSpec};
use serde_json::json;

use crate::{cli::DeployArgs, config::Config, keys::KeySource};

/// Who may do what on the contracts, and how long it takes.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Deploys.
    pub(crate) deployer: KeySource,
    /// The deployer, if it is none.
    pub(crate) owner: Option<Address>,
    pub(crate) batcher: KeySource,
    pub(crate) committer: KeySource,
    /// The owner, if it is none.
    pub(crate) guardian: Option<Address>,
    pub(crate) challenge_window: Duration,
    /// Whose signatures commitments need, and how many of them; of nobody if there is none.
    pub(crate) verifiers: Vec<Address>,
    pub(crate) threshold: Option<u64>,
    pub(crate) timelock_delay: Duration,
    pub(crate) owner_transfer_delay: Duration,
    pub(crate) sequencer_timeout: Duration,
    /// L1 blocks.
    pub(crate) inclusion_window: u64,
}

/// A chain's new contracts, and who may do what on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deployed {
    pub(crate) contracts: Deployment,
    /// The L1's.
    l1_chain_id: u64,
    owner: Address,
    batcher: Address,
    committer: Address,
    guardian: Address,
}

/// Deploys the contracts of a chain.
pub(crate) async fn deploy(client: &L1Client, spec: &ChainSpec, terms: &Terms) -> Result<Deployed> {
    let chain_id = client.chain_id().await.wrap_err("the L1 does not answer")?;
    let deployer = terms.deployer.load(chain_id).await.wrap_err("owner key")?;
    let batcher = terms.batcher.load(chain_id).await.wrap_err("batcher key")?.address();
    let committer = terms.committer.load(chain_id).await.wrap_err("committer key")?.address();
    ensure!(
        batcher != committer,
        "batcher and committer are the same account, {batcher}: each signs on its own nonces, so they must be two keys"
    );
    let address = deployer.address();
    let owner = terms.owner.unwrap_or(address);
    let guardian = terms.guardian.unwrap_or(owner);
    let genesis = millrace_executor::genesis_header(spec);
    // What somebody says has changed cannot be checked: of diffs, a stranger's would be as good as the sequencer's.
    let sequencer_timeout = match spec.rollup().batch_payload {
        BatchPayload::Transactions => terms.sequencer_timeout.as_secs(),
        BatchPayload::StateDiffs => u64::MAX,
    };
    let params = DeployParams {
        owner,
        owner_transfer_delay: terms.owner_transfer_delay.as_secs(),
        batcher,
        committer,
        guardian,
        timelock_delay: terms.timelock_delay.as_secs(),
        finality: finality(terms)?,
        sequencer_timeout,
        inclusion_window: terms.inclusion_window,
        l2_chain_id: spec.chain_id(),
        genesis_hash: genesis.seal(),
        genesis_state_root: genesis.state_root,
        genesis_json: spec.to_json().into(),
    };
    let contracts = deploy_rollup(client, deployer, params).await.wrap_err_with(|| {
        format!("cannot deploy the chain's contracts as {address}; has it ether on this L1?")
    })?;
    Ok(Deployed { contracts, l1_chain_id: chain_id, owner, batcher, committer, guardian })
}

/// What makes commitments final.
fn finality(terms: &Terms) -> Result<FinalityRule> {
    let seconds = terms.challenge_window.as_secs();
    if terms.verifiers.is_empty() {
        return Ok(FinalityRule::ChallengeWindow { seconds });
    }
    let mut members = terms.verifiers.clone();
    members.sort_unstable();
    members.dedup();
    let count = members.len() as u64;
    ensure!(members.len() == terms.verifiers.len(), "--verifiers names an account twice");
    let threshold = terms.threshold.unwrap_or(count);
    ensure!(
        (1..=count).contains(&threshold),
        "--threshold is {threshold}, of {count} verifiers: it has to be from 1 to {count}"
    );
    Ok(FinalityRule::Attestation { members, threshold, delay: seconds })
}

/// Runs the command.
pub(crate) async fn run(args: DeployArgs) -> Result<()> {
    let config = Config::load(&args.config)?;
    let spec = config.chain.spec()?;
    let key = |source: Option<KeySource>, name: &str| {
        source.ok_or_else(|| eyre!("the configuration's [keys] section has no {name}"))
    };
    let terms = Terms {
        deployer: key(config.keys.owner, "owner")?,
        owner: args.owner,
        batcher: key(config.keys.batcher, "batcher")?,
        committer: key(config.keys.committer, "committer")?,
        guardian: args.guardian,
        challenge_window: args.challenge_window,
        verifiers: args.verifiers,
        threshold: args.threshold,
        timelock_delay: args.timelock_delay,
        owner_transfer_delay: args.owner_transfer_delay,
        sequencer_timeout: args.sequencer_timeout,
        inclusion_window: args.inclusion_window,
    };
    ensure!(
        args.inclusion_window > config.l1.confirmations,
        "--inclusion-window is {}: it has to be longer than the {} confirmations that a deposit waits for, by the time for which posting may stand still",
        args.inclusion_window,
        config.l1.confirmations
    );
    let options = ClientOptions { chain_id: config.l1.chain_id, ..ClientOptions::default() };
    let client = L1Client::new(config.l1.url.clone(), options)?;
    if !config.l1.rollup.is_zero() {
        eprintln!("[l1] names the contract {} already; this makes another one", config.l1.rollup);
    }
    let Deployed { contracts, l1_chain_id, owner, batcher, committer, guardian } =
        deploy(&client, &spec, &terms).await?;
    let Deployment { rollup, token_bridge, verifier, timelock } = contracts;
    if args.json {
        let roles = json!({ "owner": owner, "batcher": batcher, "committer": committer, "guardian": guardian });
        println!(
            "{}",
            json!({
                "rollup": rollup,
                "token_bridge": token_bridge,
                "verifier": verifier,
                "timelock": timelock,
                "chain_id": spec.chain_id(),
                "l1_chain_id": l1_chain_id,
                "roles": roles,
            })
        );
    } else {
        println!("Contracts of chain {} deployed.", spec.chain_id());
        println!("  rollup        {rollup}\n  token bridge  {token_bridge}");
        println!("  verifier      {verifier}\n  timelock      {timelock}");
        println!("  owner         {owner}\n  batcher       {batcher}");
        println!("  committer     {committer}\n  guardian      {guardian}");
        println!("\nPut this into [l1]:\n\nrollup = \"{rollup}\"\nchain_id = {l1_chain_id}");
    }
    Ok(())
}
