//! The services, one by one and how they are put together.
//!
//! [`parts`] builds each service from its configuration and what it stands on, as trait objects: the development chain hands it
//! the other services themselves, a daemon hands it their gRPC clients, and waits for them with [`patience`]. [`grpc`] serves
//! them, [`ready`] tells whether they make progress.

mod grpc;
mod parts;
mod patience;
pub(crate) mod ready;

use std::sync::Arc;

use eyre::{Result, WrapErr};
use metrics_exporter_prometheus::PrometheusHandle;
use millrace_l1::L1Error;
use millrace_proto::{
    ChainSpec, DaAdapter, ErrorClass, Executor, Settlement,
    grpc::{DaAdapterClient, ExecutorClient, SettlementClient},
};

pub(crate) use self::{
    grpc::GrpcServer,
    parts::{DaAdapterPart, ExecutorPart, L1Link, SequencerPart, SettlementPart, serve_rpc},
    patience::patiently,
};
use crate::{
    cli::{Global, ServiceArgs},
    config::Config,
    supervisor::Supervisor,
    telemetry::{MetricsScope, init_logs, install_recorder},
};

/// What every daemon starts with.
struct Daemon {
    config: Config,
    spec: Arc<ChainSpec>,
    recorder: PrometheusHandle,
    supervisor: Supervisor,
}

impl Daemon {
    fn start(args: ServiceArgs, global: &Global) -> Result<Self> {
        let mut config = Config::load(&args.config)?;
        if let Some(data_dir) = args.data_dir {
            config.chain.data_dir = data_dir;
        }
        if let Some(l1) = args.l1 {
            config.l1.url = l1;
        }
        if let Some(block_time) = args.block_time {
            config.sequencer.block_time = block_time;
            config.sequencer.validate()?;
        }
        if let Some(order) = args.order {
            config.sequencer.order = order.order();
        }
        init_logs(
            global.log.as_deref().unwrap_or(&config.log.filter),
            global.log_format.unwrap_or(config.log.format),
        )?;
        let spec = config.chain.spec()?;
        Ok(Self { config, spec, recorder: install_recorder()?, supervisor: Supervisor::new() })
    }

    /// The executor in its own process.
    fn executor(&self) -> Result<Arc<dyn Executor>> {
        let client = ExecutorClient::connect(self.config.peers.executor.as_str())
            .wrap_err("[peers] executor")?;
        Ok(Arc::new(client))
    }

    /// The settlement service in its own process.
    fn settlement(&self) -> Result<Arc<dyn Settlement>> {
        let client = SettlementClient::connect(self.config.peers.settlement.as_str())
            .wrap_err("[peers] settlement")?;
        Ok(Arc::new(client))
    }

    /// The DA adapter in its own process.
    fn da_adapter(&self) -> Result<Arc<dyn DaAdapter>> {
        let client = DaAdapterClient::connect(self.config.peers.da_adapter.as_str())
            .wrap_err("[peers] da_adapter")?;
        Ok(Arc::new(client))
    }

    async fn l1_answers(&self, link: &L1Link) -> Result<bool> {
        let class = |error: &L1Error| {
            if error.is_retryable() { ErrorClass::Retryable } else { ErrorClass::Fatal }
        };
        patiently("the L1", || link.check(), class).await
    }

    async fn telemetry(
        &mut self,
        scope: MetricsScope,
        probe: crate::telemetry::Probe,
    ) -> Result<()> {
        let listen = scope.of(&self.config.listen.metrics);
        let server =
            crate::telemetry::TelemetryServer::bind(listen, scope, self.recorder.clone(), probe)
                .await?
                .whole_process();
        tracing::info!(target: "millrace", service = scope.name(), metrics = %server.local_addr()?, "telemetry listens");
        self.supervisor
            .spawn(format!("{} telemetry", scope.name()), server.run(self.supervisor.token()));
        Ok(())
    }

    fn serve(&mut self, scope: MetricsScope, server: GrpcServer) -> Result<()> {
        tracing::info!(target: "millrace", service = scope.name(), grpc = %server.local_addr()?, "gRPC listens");
        self.supervisor
            .spawn(format!("{} gRPC", scope.name()), server.run(self.supervisor.token()));
        Ok(())
    }
}

/// `millrace executor`
pub(crate) async fn executor(args: ServiceArgs, global: &Global) -> Result<()> {
    let mut daemon = Daemon::start(args, global)?;
    let part = ExecutorPart::open(&daemon.config, Arc::clone(&daemon.spec))?;
    daemon.telemetry(MetricsScope::Executor, ready::executor(Arc::clone(&part.executor))).await?;
    let server =
        GrpcServer::bind(daemon.config.listen.grpc.executor).await?.executor(part.executor).await?;
    daemon.serve(MetricsScope::Executor, server)?;
    daemon.supervisor.run().await
}

/// `millrace sequencer`
pub(crate) async fn sequencer(args: ServiceArgs, global: &Global) -> Result<()> {
    let mut daemon = Daemon::start(args, global)?;
    let edge = daemon.config.public_grpc()?;
    let (executor, settlement) = (daemon.executor()?, daemon.settlement()?);
    if !patiently("the executor", || executor.head(), |error| error.class()).await? {
        return Ok(());
    }
    let link = L1Link::new(&daemon.config)?;
    let part = SequencerPart::open(
        &daemon.config,
        Arc::clone(&executor),
        &link,
        settlement,
        daemon.da_adapter()?,
        &mut daemon.supervisor,
    )
    .await?;
    let heartbeat = daemon.config.sequencer.heartbeat;
    daemon
        .telemetry(
            MetricsScope::Sequencer,
            ready::sequencer(Arc::clone(&part.sequencer), Arc::clone(&executor), heartbeat),
        )
        .await?;
    let server = GrpcServer::bind(daemon.config.listen.grpc.sequencer)
        .await?
        .sequencer(part.sequencer, executor, edge)
        .await?;
    daemon.serve(MetricsScope::Sequencer, server)?;
    daemon.supervisor.run().await
}

/// `millrace da-adapter`
pub(crate) async fn da_adapter(args: ServiceArgs, global: &Global) -> Result<()> {
    let mut daemon = Daemon::start(args, global)?;
    let (executor, settlement) = (daemon.executor()?, daemon.settlement()?);
    let link = L1Link::new(&daemon.config)?;
    if !daemon.l1_answers(&link).await? {
        return Ok(());
    }
    let part = DaAdapterPart::open(
        &daemon.config,
        Arc::clone(&daemon.spec),
        &link,
        executor,
        settlement,
        &mut daemon.supervisor,
    )
    .await?;
    daemon.telemetry(MetricsScope::DaAdapter, ready::da_adapter(Arc::clone(&part.da))).await?;
    let admin = GrpcServer::bind(daemon.config.listen.admin.da_adapter)
        .await?
        .da_adapter_admin(Arc::clone(&part.da))
        .await?;
    tracing::info!(target: "millrace", admin = %admin.local_addr()?, "admin socket listens");
    daemon.supervisor.spawn("admin socket", admin.run(daemon.supervisor.token()));
    let server =
        GrpcServer::bind(daemon.config.listen.grpc.da_adapter).await?.da_adapter(part.da).await?;
    daemon.serve(MetricsScope::DaAdapter, server)?;
    daemon.supervisor.run().await
}

/// `millrace settlement`
pub(crate) async fn settlement(args: ServiceArgs, global: &Global) -> Result<()> {
    let mut daemon = Daemon::start(args, global)?;
    let executor = daemon.executor()?;
    let link = L1Link::new(&daemon.config)?;
    if !daemon.l1_answers(&link).await? {
        return Ok(());
    }
    let part = SettlementPart::open(
        &daemon.config,
        Arc::clone(&daemon.spec),
        &link,
        executor,
        &mut daemon.supervisor,
    )
    .await?;
    run_settlement(daemon, part).await
}

/// `millrace verifier`: the settlement service without the rest of the chain, with a key to sign with.
pub(crate) async fn verifier(args: ServiceArgs, global: &Global) -> Result<()> {
    let mut daemon = Daemon::start(args, global)?;
    let link = L1Link::new(&daemon.config)?;
    if !daemon.l1_answers(&link).await? {
        return Ok(());
    }
    let spec = Arc::clone(&daemon.spec);
    let part =
        SettlementPart::open_verifier(&daemon.config, spec, &link, &mut daemon.supervisor).await?;
    run_settlement(daemon, part).await
}

async fn run_settlement(mut daemon: Daemon, part: SettlementPart) -> Result<()> {
    daemon
        .telemetry(MetricsScope::Settlement, ready::settlement(Arc::clone(&part.settlement)))
        .await?;
    let server = GrpcServer::bind(daemon.config.listen.grpc.settlement)
        .await?
        .settlement(part.settlement)
        .await?;
    daemon.serve(MetricsScope::Settlement, server)?;
    daemon.supervisor.run().await
}
