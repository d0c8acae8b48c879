//! `millrace dev`: the whole chain in one process.

mod banner;
mod state;
mod status;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eyre::{Result, WrapErr, bail, eyre};
use millrace_da_adapter::{AltDaConfig, ObjectStoreConfig};
use millrace_l1::{ClientOptions, L1Client, L1Config};
use millrace_proto::ChainSpec;
use url::Url;

use self::{banner::Endpoints, state::DevState, status::StatusLine};
use crate::{
    cli::{DaChoice, DevArgs, Ports},
    config::{Chain, Config, Keys, Listen, PerService},
    deploy::{Terms, deploy},
    dev_l1::{DevL1, DevL1Config},
    genesis,
    keys::{DEV_BATCHER, DEV_CHAIN_IDS, DEV_COMMITTER, DEV_OWNER, KeySource},
    service::{
        DaAdapterPart, ExecutorPart, GrpcServer, L1Link, SequencerPart, SettlementPart, ready,
    },
    supervisor::Supervisor,
    telemetry::{MetricsScope, Probe, TelemetryServer, install_recorder},
    verify::celestia,
};

/// Blocks that the embedded L1's `safe` tag lags behind; `finalized` lags twice as many.
const DEV_L1_SLOTS_PER_EPOCH: u64 = 2;

/// Bytes of a batch that goes to a folder.
const DEV_STORE_BATCH: usize = 8 << 20;
/// Bytes of the block cache of a store, of which a development chain has two.
const DEV_CACHE: usize = 128 << 20;

/// Runs the command.
pub(crate) async fn run(args: DevArgs) -> Result<()> {
    std::fs::create_dir_all(&args.data_dir)
        .wrap_err_with(|| format!("cannot create {}", args.data_dir.display()))?;
    let recorder = install_recorder()?;
    let mut supervisor = Supervisor::new();
    let known = DevState::load(&state_file(&args))?;
    let gas_limit = known.as_ref().map_or(args.gas_limit, |known| known.gas_limit);
    let spec = Arc::new(genesis::dev_rollup(args.batch_payload.payload(), gas_limit)?);
    let has = spec.rollup().gas_limit;
    if args.gas_limit.is_some_and(|wanted| wanted != has) {
        bail!("the chain in {} was started with --gas-limit {has}", args.data_dir.display());
    }

    let (l1_url, beacon_url) = l1(&args, &mut supervisor).await?;
    let state = rollup(&args, known, &l1_url, &spec).await?;
    let config = config(&args, l1_url.clone(), beacon_url.clone(), &state)?;
    config.sequencer.validate()?;

    let link = L1Link::new(&config)?;
    let ExecutorPart { executor } = ExecutorPart::open(&config, Arc::clone(&spec))?;
    let resumed_at = executor.head().await?.number;
    let SettlementPart { settlement } = SettlementPart::open(
        &config,
        Arc::clone(&spec),
        &link,
        Arc::clone(&executor),
        &mut supervisor,
    )
    .await?;
    let DaAdapterPart { da } = DaAdapterPart::open(
        &config,
        Arc::clone(&spec),
        &link,
        Arc::clone(&executor),
        Arc::clone(&settlement),
        &mut supervisor,
    )
    .await?;
    let SequencerPart { sequencer, rpc } = SequencerPart::open(
        &config,
        Arc::clone(&executor),
        &link,
        Arc::clone(&settlement),
        Arc::clone(&da),
        &mut supervisor,
    )
    .await?;

    let grpc = GrpcServer::bind(config.listen.grpc.sequencer)
        .await?
        .sequencer(Arc::clone(&sequencer), Arc::clone(&executor), config.public_grpc()?)
        .await?;
    let grpc_addr = grpc.local_addr()?;
    supervisor.spawn("gRPC", grpc.run(supervisor.token()));

    let probes = PerService {
        sequencer: ready::sequencer(
            Arc::clone(&sequencer),
            Arc::clone(&executor),
            config.sequencer.heartbeat,
        ),
        executor: ready::executor(Arc::clone(&executor)),
        da_adapter: ready::da_adapter(Arc::clone(&da)),
        settlement: ready::settlement(Arc::clone(&settlement)),
    };
    let mut telemetry = async |scope: MetricsScope, probe: Probe| -> Result<Url> {
        let listen = scope.of(&config.listen.metrics);
        let server = TelemetryServer::bind(listen, scope, recorder.clone(), probe).await?;
        let url = format!("http://{}/metrics", server.local_addr()?).parse()?;
        supervisor.spawn(format!("{} telemetry", scope.name()), server.run(supervisor.token()));
        Ok(url)
    };
    let metrics = PerService {
        sequencer: telemetry(MetricsScope::Sequencer, probes.sequencer).await?,
        executor: telemetry(MetricsScope::Executor, probes.executor).await?,
        da_adapter: telemetry(MetricsScope::DaAdapter, probes.da_adapter).await?,
        settlement: telemetry(MetricsScope::Settlement, probes.settlement).await?,
    };

    let endpoints = Endpoints {
        l1: l1_url,
        beacon: beacon_url,
        rpc: format!("http://{rpc}").parse()?,
        ws: format!("ws://{rpc}").parse()?,
        grpc: format!("http://{grpc_addr}").parse()?,
        metrics,
        rollup: state.rollup,
        chain_id: spec.chain_id(),
        data_dir: args.data_dir.canonicalize().unwrap_or_else(|_| args.data_dir.clone()),
        da_store: config.da_adapter.object_store.as_ref().map(|store| store.url.clone()),
        alt_da: args.alt_da.clone(),
        celestia: args.celestia.clone(),
        celestia_token: args.celestia_token.clone(),
        archive: args.archive.clone(),
        resumed_at,
    };
    endpoints.print(args.json)?;
    let status = StatusLine::new(executor, sequencer, da, settlement, args.json);
    supervisor.spawn("status line", status.run(supervisor.token()));
    supervisor.run().await?;
    if !args.json {
        eprintln!("stopped; start again with the same folder to resume");
    }
    Ok(())
}

fn state_file(args: &DevArgs) -> PathBuf {
    args.data_dir.join("dev.json")
}

/// The L1's JSON-RPC and beacon URLs: an external one's, or the embedded one's, which is started here.
async fn l1(args: &DevArgs, supervisor: &mut Supervisor) -> Result<(Url, Url)> {
    if let Some(url) = &args.l1 {
        return Ok((url.clone(), args.beacon.clone().unwrap_or_else(|| url.clone())));
    }
    let port = |fixed: u16| if args.ports == Ports::Auto { 0 } else { fixed };
    let config = DevL1Config {
        data_dir: args.data_dir.join("l1"),
        rpc_listen: ([127, 0, 0, 1], port(9545)).into(),
        beacon_listen: ([127, 0, 0, 1], port(9546)).into(),
        block_time: args.l1_block_time,
        slots_per_epoch: DEV_L1_SLOTS_PER_EPOCH,
    };
    let l1 = DevL1::start(config, Arc::new(genesis::dev_l1()?), supervisor.token()).await?;
    let urls = (l1.rpc_url()?, l1.beacon_url()?);
    supervisor.spawn("dev L1", l1.run());
    Ok(urls)
}

/// The rollup contract: the one that this data folder's chain has, or a newly deployed one.
async fn rollup(
    args: &DevArgs,
    known: Option<DevState>,
    l1: &Url,
    spec: &ChainSpec,
) -> Result<DevState> {
    let client = L1Client::new(l1.clone(), ClientOptions::default())?;
    let chain_id = client
        .chain_id()
        .await
        .wrap_err_with(|| format!("the L1 at {l1} does not answer; is it running?"))?;
    if !DEV_CHAIN_IDS.contains(&chain_id) {
        bail!(
            "the L1 at {l1} has chain id {chain_id}, which is not a development chain {DEV_CHAIN_IDS:?}: \
             `millrace dev` signs with keys that everybody knows; use `millrace deploy` and the services instead"
        );
    }
    if let Some(known) = known {
        known.check(&client, chain_id, &args.data_dir).await?;
        return Ok(known);
    }
    let terms = Terms {
        deployer: KeySource::Dev(DEV_OWNER),
        owner: None,
        batcher: KeySource::Dev(DEV_BATCHER),
        committer: KeySource::Dev(DEV_COMMITTER),
        guardian: None,
        challenge_window: args.challenge_window,
        verifiers: Vec::new(),
        threshold: None,
        timelock_delay: Duration::ZERO,
        owner_transfer_delay: Duration::ZERO,
        sequencer_timeout: args.sequencer_timeout,
        inclusion_window: args.inclusion_window,
    };
    let rollup = deploy(&client, spec, &terms).await?.contracts.rollup;
    let state = DevState { l1_chain_id: chain_id, rollup, gas_limit: args.gas_limit };
    state.store(&state_file(args))?;
    Ok(state)
}

fn config(args: &DevArgs, l1: Url, beacon: Url, state: &DevState) -> Result<Config> {
    let mut l1 = L1Config::new(l1, state.rollup);
    l1.chain_id = Some(state.l1_chain_id);
    l1.beacon = Some(beacon);
    l1.confirmations = args.l1_confirmations;
    l1.poll_interval = std::time::Duration::from_millis(250);
    let mut config = Config {
        chain: Chain { genesis: "dev".into(), data_dir: args.data_dir.clone() },
        log: Default::default(),
        l1,
        keys: Keys {
            owner: None,
            batcher: Some(KeySource::Dev(DEV_BATCHER)),
            committer: Some(KeySource::Dev(DEV_COMMITTER)),
            verifier: None,
        },
        listen: if args.ports == Ports::Auto { Listen::auto() } else { Listen::default() },
        peers: Default::default(),
        sequencer: Default::default(),
        grpc: Default::default(),
        rpc: Default::default(),
        executor: Default::default(),
        execution: Default::default(),
        calls: Default::default(),
        da_adapter: Default::default(),
        settlement: Default::default(),
        transactions: Default::default(),
    };
    if args.ports == Ports::Auto {
        config.rpc.listen.set_port(0);
    }
    config.rpc.cors_origins = vec!["*".into()];
    config.sequencer.block_time = args.block_time;
    config.sequencer.order = args.order.order();
    config.sequencer.data_fee.scalar_percent = args.data_fee_percent;
    config.sequencer.heartbeat = config.sequencer.heartbeat.max(args.block_time);
    config.sequencer.frame_interval = config.sequencer.frame_interval.min(args.block_time);
    config.sequencer.deposit_poll_interval = std::time::Duration::from_millis(250);
    config.executor.cache_bytes = DEV_CACHE;
    // L1 blocks are a second apart: what is not in one after ten of them was lost, or is too cheap.
    config.transactions.resubmit_after = std::time::Duration::from_secs(10);
    config.transactions.poll_interval = std::time::Duration::from_millis(250);
    config.da_adapter.poll_interval = std::time::Duration::from_millis(250);
    config.da_adapter.max_batch_age = args.batch_age;
    config.da_adapter.alt_da = args.alt_da.clone().map(AltDaConfig::at);
    config.da_adapter.celestia = celestia(args.celestia.as_ref(), args.celestia_token.as_deref());
    config.da_adapter.archive = args.archive.clone().map(ObjectStoreConfig::at);
    if args.da.contains(&DaChoice::ObjectStore) {
        config.da_adapter.object_store = Some(local_store(&args.data_dir.join("da"))?);
        if args.da.len() == 1 {
            // What a chain under full load makes between two L1 blocks; more than blobs could hold.
            config.da_adapter.target_size = Some(DEV_STORE_BATCH);
        }
    }
    config.da_adapter.backends = args.da.iter().map(|choice| choice.backend()).collect();
    Ok(config)
}

/// A folder as an object store.
fn local_store(dir: &Path) -> Result<ObjectStoreConfig> {
    std::fs::create_dir_all(dir).wrap_err_with(|| format!("cannot create {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let url = Url::from_directory_path(&dir)
        .map_err(|()| eyre!("{} is not an absolute path", dir.display()))?;
    Ok(ObjectStoreConfig::at(url))
}
