//! Servers on free loopback ports.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use millrace_proto::{
    Executor, Sequencer,
    grpc::{self, ClientConfig, Connection, ExecutorServer, SequencerServer},
};
use tokio::runtime::{Builder, Runtime};
use tonic::{service::Routes, transport::Channel};

/// A running server. It has a runtime of its own, so that dropping it ends its connections as well.
#[derive(Debug)]
pub struct Server {
    pub uri: String,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves on a listener.
    pub fn on(listener: TcpListener, routes: Routes) -> Self {
        let uri = uri(listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = grpc::incoming(listener);
            grpc::server_builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
        });
        Self { uri, runtime: Some(runtime) }
    }

    pub fn start(routes: Routes) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), routes)
    }

    pub fn executor(executor: Arc<dyn Executor>) -> Self {
        Self::start(Routes::new(ExecutorServer::new(executor).into_service()))
    }

    pub fn sequencer(sequencer: Arc<dyn Sequencer>, executor: Arc<dyn Executor>) -> Self {
        Self::start(Routes::new(SequencerServer::new(sequencer, executor).into_service()))
    }

    pub fn connection(&self) -> Connection {
        ClientConfig::default().connect(&self.uri).unwrap()
    }

    /// A connection for generated clients.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.uri.clone()).unwrap().connect().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn uri(address: SocketAddr) -> String {
    format!("http://{address}")
}
