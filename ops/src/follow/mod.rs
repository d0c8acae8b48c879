//! `millrace follow`: a full node. It takes blocks from the sequencer's feed and executes them itself, derives the chain from L1 beside that,
//! and serves JSON-RPC. L1 has the last word.
//!
//! ```text
//!   sequencer ──(gRPC)──> Feed ──┐  take turns  ┌── Derived <── settlement (watching) <── L1, DA
//!                                └─> executor <─┘
//!                                       └── JSON-RPC: latest = executed, safe = derived, finalized = final on L1
//! ```
//!
//! From batches of state diffs no blocks follow, but the states at their ends: what is derived then is a chain of its own, of these states, which the
//! feed's blocks have to come to.

mod alarm;
mod derived;
mod feed;
mod pool;

use std::{sync::Arc, time::Duration};

use eyre::{Result, WrapErr, ensure};
use metrics_exporter_prometheus::PrometheusHandle;
use millrace_executor::{ExecutorConfig, ExecutorService, Replayer, StoreConfig};
use millrace_proto::{BatchPayload, ChainHeads, Executor, Replay, TxPool, grpc::SequencerClient};
use millrace_rpc::{RpcConfig, RpcServer};
use millrace_settlement::{Duty, SettlementConfig, SettlementDeps, SettlementService};
use serde_json::json;
use tokio::sync::Mutex;

use self::{
    alarm::Alarm,
    derived::{Derived, Refuted},
    feed::Feed,
    pool::FollowPool,
};
use crate::{
    cli::FollowArgs,
    inclusion::{self, InclusionProver},
    service::{patiently, serve_rpc},
    supervisor::Supervisor,
    telemetry::{MetricsScope, Probe, TelemetryServer, install_recorder},
    verify::{da_reader, genesis},
};

/// How often the status is printed.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Held by whoever changes the chain.
type Turn = Arc<Mutex<()>>;

/// Runs the command.
pub(crate) async fn run(args: FollowArgs) -> Result<()> {
    let recorder = install_recorder()?;
    let l1 = args.chain.l1_config();
    let rollup = l1.rollup()?;
    let class = |error: &millrace_l1::L1Error| error.class();
    if !patiently("the L1", || rollup.client().chain_id(), class).await? {
        return Ok(());
    }
    let spec = Arc::new(genesis(&args.chain, &rollup).await?);
    let of_blocks = spec.rollup().batch_payload == BatchPayload::Transactions;
    ensure!(
        of_blocks || args.sequencer.is_some(),
        "this chain's batches hold state diffs, from which its blocks do not follow: give the sequencer's gRPC with --sequencer"
    );

    let mut supervisor = Supervisor::new();
    let store = StoreConfig { name: "rollup", ..StoreConfig::default() };
    let data_dir = args.data_dir.join("chain");
    let config = ExecutorConfig { data_dir, store, ..ExecutorConfig::default() };
    let (executor, shared) = ExecutorService::open_with_replayer(config, Arc::clone(&spec))
        .wrap_err("cannot open the chain")?;
    let executor: Arc<dyn Executor> = Arc::new(executor);
    let (turn, refuted) = (Turn::default(), Refuted::default());
    let replay: Box<dyn Replay> = if of_blocks {
        Box::new(Derived::new(shared, Arc::clone(&turn), refuted.clone()))
    } else {
        let store = StoreConfig { name: "replay", ..StoreConfig::default() };
        let states = Replayer::open(&args.data_dir.join("states"), &store, Arc::clone(&spec));
        Box::new(states.wrap_err("cannot open the states")?)
    };
    let patience = args.difference_patience;
    let mut config = SettlementConfig::default();
    if !of_blocks {
        // For so long the feed's blocks may come to other states.
        config.retry_max = patience.clamp(Duration::from_secs(1), Duration::from_secs(60));
    }
    let reader = da_reader(&args.chain, &l1)?;
    let (settlement, task) = SettlementService::open(
        config,
        SettlementDeps {
            reader: Arc::clone(&reader),
            rollup: rollup.clone(),
            executor: (!of_blocks).then(|| Arc::clone(&executor)),
            replay,
            data_dir: args.data_dir.join("records"),
            spec: Arc::clone(&spec),
            duty: Duty::Watch,
        },
    )
    .await
    .wrap_err("cannot derive the chain from L1")?;
    let token = supervisor.token();
    supervisor.spawn("derivation", async move { Ok(task.run(token).await?) });

    let alarm = Arc::new(Alarm::new(args.exit_on_difference));
    let (watched, stop) = (alarm.clone(), supervisor.token());
    supervisor.spawn("alarm", watched.run(settlement.clone(), stop));
    let sequencer = match &args.sequencer {
        Some(url) => {
            let access = args.access.access()?;
            Some(SequencerClient::connect_with(url.as_str(), access).wrap_err("--sequencer")?)
        }
        None => None,
    };
    if let Some(sequencer) = &sequencer {
        let feed = Feed {
            sequencer: sequencer.clone(),
            executor: Arc::clone(&executor),
            settlement: settlement.clone(),
            spec: Arc::clone(&spec),
            turn,
            refuted,
            alarm: Arc::clone(&alarm),
            patience,
            of_blocks,
        };
        supervisor.spawn("feed", feed.run(supervisor.token()));
    }

    let pool = Arc::new(FollowPool::new(sequencer, Arc::clone(&executor), settlement.clone()));
    let rpc = RpcConfig { listen: args.rpc_listen, ..RpcConfig::default() };
    let prover = InclusionProver::new(
        Arc::clone(&executor),
        pool.clone(),
        Arc::new(settlement.clone()),
        rollup,
        Some(reader),
    );
    let proofs = Some(inclusion::methods(prover)?);
    let rpc = RpcServer::start(rpc, Arc::clone(&executor), pool.clone(), proofs)
        .await
        .wrap_err("cannot serve JSON-RPC")?;
    let address = rpc.local_addr();
    supervisor.spawn("JSON-RPC", serve_rpc(rpc, supervisor.token()));
    let metrics = telemetry(&args, recorder, &alarm, &mut supervisor).await?;
    if args.json {
        println!(
            "{}",
            json!({
                "ready": true, "rpc": format!("http://{address}/"), "ws": format!("ws://{address}/"), "metrics": metrics,
                "rollup": args.chain.rollup, "chain_id": spec.chain_id(), "data_dir": args.data_dir,
            })
        );
    } else {
        eprintln!("JSON-RPC http://{address}, metrics {metrics}");
    }
    let (json, stop) = (args.json, supervisor.token());
    supervisor.spawn("status", show(json, pool, alarm, stop));
    supervisor.run().await
}

async fn telemetry(
    args: &FollowArgs,
    recorder: PrometheusHandle,
    alarm: &Arc<Alarm>,
    supervisor: &mut Supervisor,
) -> Result<String> {
    let watched = Arc::clone(alarm);
    let probe = Probe::new(move || {
        let why = watched.raised();
        async move { why.map_or(Ok(()), Err) }
    });
    let server =
        TelemetryServer::bind(args.metrics_listen, MetricsScope::Executor, recorder, probe)
            .await?
            .whole_process();
    let url = format!("http://{}/metrics", server.local_addr()?);
    supervisor.spawn("telemetry", server.run(supervisor.token()));
    Ok(url)
}

/// Prints the heads now and then.
async fn show(
    json: bool,
    pool: Arc<FollowPool>,
    alarm: Arc<Alarm>,
    stop: tokio_util::sync::CancellationToken,
) -> Result<()> {
    let mut clock = tokio::time::interval(STATUS_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = clock.tick() => {}
        }
        let Ok(ChainHeads { latest, safe, finalized }) = pool.heads().await else { continue };
        let differs = alarm.raised();
        if json {
            println!(
                "{}",
                json!({ "status": { "unsafe": latest.number, "safe": safe.number, "finalized": finalized.number, "differs": differs } })
            );
        } else {
            let differs = differs.map(|why| format!(" │ ALARM: {why}")).unwrap_or_default();
            eprintln!(
                "unsafe {} · safe {} · finalized {}{differs}",
                latest.number, safe.number, finalized.number
            );
        }
    }
}
