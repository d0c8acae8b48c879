//! Serves services over gRPC, each with health and reflection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use eyre::{Result, WrapErr};
use futures::StreamExt;
use millrace_edge::Edge;
use millrace_proto::{
    DaAdapter, Executor, Sequencer, Settlement,
    grpc::{
        DaAdapterServer, ExecutorServer, FILE_DESCRIPTOR_SET, SequencerServer, SettlementServer,
        incoming, server_builder,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::server::HealthReporter;

/// How long calls in progress may take once the server is told to stop. Streams that follow the chain, of which every
/// service holds some, never end by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// A gRPC endpoint.
#[derive(Debug)]
pub(crate) struct GrpcServer {
    listener: TcpListener,
    routes: Routes,
    /// Of a public port.
    edge: Option<Arc<Edge>>,
}

/// A bound endpoint that has no service yet.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    routes: RoutesBuilder,
    health: HealthReporter,
}

impl GrpcServer {
    /// Binds the port and adds health and reflection (both versions: many clients still speak `v1alpha`).
    pub(crate) async fn bind(listen: SocketAddr) -> Result<Bound> {
        let listener = TcpListener::bind(listen)
            .await
            .wrap_err_with(|| format!("cannot listen on {listen} for gRPC"))?;
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = Routes::builder();
        routes
            .add_service(health_service)
            .add_service(reflection().build_v1().wrap_err("reflection")?)
            .add_service(reflection().build_v1alpha().wrap_err("reflection")?);
        Ok(Bound { listener, routes, health })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until cancelled, then gives calls in progress [`GRACE`] to finish.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let overdue = {
            let cancel = cancel.clone();
            async move {
                cancel.cancelled().await;
                tokio::time::sleep(GRACE).await;
            }
        };
        let stop = cancel.cancelled_owned();
        let served = async {
            let Some(edge) = self.edge else {
                let server = server_builder().add_routes(self.routes);
                return server.serve_with_incoming_shutdown(incoming(self.listener), stop).await;
            };
            let connections = edge.connections(self.listener, CancellationToken::new());
            let connections = connections.map(Ok::<_, std::io::Error>);
            let server = millrace_edge::grpc::server_builder(&edge).add_routes(self.routes);
            server.serve_with_incoming_shutdown(connections, stop).await
        };
        tokio::select! {
            served = served => served.wrap_err("gRPC server failed"),
            () = overdue => Ok(()),
        }
    }
}

impl Bound {
    /// Serves the executor.
    pub(crate) async fn executor(mut self, executor: Arc<dyn Executor>) -> Result<GrpcServer> {
        let service = ExecutorServer::new(executor).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(self.finish())
    }

    /// Serves the sequencer to the public.
    pub(crate) async fn sequencer(
        mut self,
        sequencer: Arc<dyn Sequencer>,
        executor: Arc<dyn Executor>,
        edge: Arc<Edge>,
    ) -> Result<GrpcServer> {
        let service = SequencerServer::new(sequencer, executor).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(GrpcServer { edge: Some(edge), ..self.finish() })
    }

    /// Serves the DA adapter.
    pub(crate) async fn da_adapter(mut self, da: Arc<dyn DaAdapter>) -> Result<GrpcServer> {
        let service = DaAdapterServer::new(da).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(self.finish())
    }

    /// Serves the DA adapter to its operators.
    pub(crate) async fn da_adapter_admin(mut self, da: Arc<dyn DaAdapter>) -> Result<GrpcServer> {
        let service = DaAdapterServer::for_operators(da).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(self.finish())
    }

    /// Serves the settlement service.
    pub(crate) async fn settlement(
        mut self,
        settlement: Arc<dyn Settlement>,
    ) -> Result<GrpcServer> {
        let service = SettlementServer::new(settlement).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(self.finish())
    }

    fn finish(self) -> GrpcServer {
        GrpcServer { listener: self.listener, routes: self.routes.routes(), edge: None }
    }
}

async fn healthy<S: NamedService>(health: &HealthReporter, _service: &S) {
    health.set_serving::<S>().await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::StreamExt;
    use millrace_executor::{ExecutorConfig, ExecutorService};
    use millrace_proto::{ChainSpec, grpc::ExecutorClient};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn stops_under_a_stream_that_follows_the_chain() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let config =
            ExecutorConfig { data_dir: dir.path().to_owned(), ..ExecutorConfig::default() };
        let spec = ChainSpec::from_json(
            br#"{"config": {"chainId": 1}, "difficulty": "0x0", "gasLimit": "0x1c9c380", "alloc": {}}"#,
        )?;
        let executor = ExecutorService::open(config, Arc::new(spec))?;
        let server =
            GrpcServer::bind("127.0.0.1:0".parse()?).await?.executor(Arc::new(executor)).await?;
        let client = ExecutorClient::connect(&format!("http://{}", server.local_addr()?))?;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(server.run(cancel.clone()));
        let mut blocks = client.subscribe(0).await?;
        assert!(matches!(blocks.next().await, Some(Ok(genesis)) if genesis.number() == 0));
        let stopping = Instant::now();
        cancel.cancel();
        running.await??;
        assert!(stopping.elapsed() < 2 * GRACE);
        Ok(())
    }
}
