//! `millrace deploy`: puts the rollup contract on an L1 and publishes the genesis there.

use alloy::primitives::Address;
use eyre::{Result, WrapErr, ensure, eyre};
use millrace_l1::{ClientOptions, DeployParams, L1Client, deploy_rollup};
use millrace_proto::ChainSpec;
use serde_json::json;

use crate::{cli::DeployArgs, config::Config, keys::KeySource};

/// Who may do what on the contract.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) owner: KeySource,
    pub(crate) batcher: KeySource,
    pub(crate) committer: KeySource,
}

/// A new contract, and who may do what on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deployed {
    pub(crate) rollup: Address,
    owner: Address,
    batcher: Address,
    committer: Address,
}

/// Deploys the contract for a chain.
pub(crate) async fn deploy(
    client: &L1Client,
    spec: &ChainSpec,
    roles: &Roles,
    challenge_window: std::time::Duration,
) -> Result<Deployed> {
    let chain_id = client.chain_id().await.wrap_err("the L1 does not answer")?;
    let owner = roles.owner.load(chain_id).await.wrap_err("owner key")?;
    let batcher = roles.batcher.load(chain_id).await.wrap_err("batcher key")?.address();
    let committer = roles.committer.load(chain_id).await.wrap_err("committer key")?.address();
    ensure!(
        batcher != committer,
        "batcher and committer are the same account, {batcher}: each signs on its own nonces, so they must be two keys"
    );
    let genesis = millrace_executor::genesis_header(spec);
    let params = DeployParams {
        owner: owner.address(),
        batcher,
        committer,
        l2_chain_id: spec.chain_id(),
        challenge_window: challenge_window.as_secs(),
        genesis_hash: genesis.seal(),
        genesis_state_root: genesis.state_root,
        genesis_json: spec.to_json().into(),
    };
    let address = owner.address();
    let rollup = deploy_rollup(client, owner, params).await.wrap_err_with(|| {
        format!("cannot deploy the rollup contract as {address}; has it ether on this L1?")
    })?;
    Ok(Deployed { rollup, owner: address, batcher, committer })
}

/// Runs the command.
pub(crate) async fn run(args: DeployArgs) -> Result<()> {
    let config = Config::load(&args.config)?;
    let spec = config.chain.spec()?;
    let key = |source: Option<KeySource>, name: &str| {
        source.ok_or_else(|| eyre!("the configuration's [keys] section has no {name}"))
    };
    let roles = Roles {
        owner: key(config.keys.owner, "owner")?,
        batcher: key(config.keys.batcher, "batcher")?,
        committer: key(config.keys.committer, "committer")?,
    };
    let client = L1Client::new(config.l1.url.clone(), ClientOptions::default())?;
    if !config.l1.rollup.is_zero() {
        eprintln!("[l1] names the contract {} already; this makes another one", config.l1.rollup);
    }
    let Deployed { rollup, owner, batcher, committer } =
        deploy(&client, &spec, &roles, args.challenge_window).await?;
    if args.json {
        let roles = json!({ "owner": owner, "batcher": batcher, "committer": committer });
        println!("{}", json!({ "rollup": rollup, "chain_id": spec.chain_id(), "roles": roles }));
    } else {
        println!("Rollup contract of chain {} deployed.", spec.chain_id());
        println!("  owner      {owner}\n  batcher    {batcher}\n  committer  {committer}");
        println!("\nPut this into [l1]:\n\nrollup = \"{rollup}\"");
    }
    Ok(())
}
