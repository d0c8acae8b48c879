//! Serves services over gRPC, each with health and reflection.

use std::{net::SocketAddr, sync::Arc};

use eyre::{Result, WrapErr};
use millrace_proto::{
    DaAdapter, Executor, Sequencer, Settlement,
    grpc::{
        DaAdapterServer, ExecutorServer, FILE_DESCRIPTOR_SET, SequencerServer, SettlementServer,
        server_builder,
    },
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::server::HealthReporter;

/// A gRPC endpoint.
#[derive(Debug)]
pub(crate) struct GrpcServer {
    listener: TcpListener,
    routes: Routes,
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

    /// Serves until cancelled, then lets calls in progress finish.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        server_builder()
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(self.listener),
                cancel.cancelled_owned(),
            )
            .await
            .wrap_err("gRPC server failed")
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

    /// Serves the sequencer.
    pub(crate) async fn sequencer(
        mut self,
        sequencer: Arc<dyn Sequencer>,
        executor: Arc<dyn Executor>,
    ) -> Result<GrpcServer> {
        let service = SequencerServer::new(sequencer, executor).into_service();
        healthy(&self.health, &service).await;
        self.routes.add_service(service);
        Ok(self.finish())
    }

    /// Serves the DA adapter.
    pub(crate) async fn da_adapter(mut self, da: Arc<dyn DaAdapter>) -> Result<GrpcServer> {
        let service = DaAdapterServer::new(da).into_service();
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
        GrpcServer { listener: self.listener, routes: self.routes.routes() }
    }
}

async fn healthy<S: NamedService>(health: &HealthReporter, _service: &S) {
    health.set_serving::<S>().await;
}
