//! The server: listens, serves connections, stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use jsonrpsee::{
    Methods, RpcModule,
    core::BoxError,
    server::{
        BatchRequestConfig, HttpBody, HttpRequest, HttpResponse, PingConfig, Server, ServerConfig,
        ServerHandle, middleware::rpc::RpcServiceBuilder, stop_channel,
    },
};
use millrace_edge::{Connection, Edge, Port};
use millrace_proto::{Executor, TxPool};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::cors::{Any, CorsLayer};
use tracing::{debug, info, warn};

use crate::{
    api::{Api, EthApiServer, NodeApiServer},
    config::{RpcConfig, RpcLimits},
    context::Context,
    error::RpcError,
    estimate::EstimateApiServer,
    feed::BlockFeed,
    fees::FeeOracle,
    filters::FilterRegistry,
    guard::{GuardLayer, MarkConnection},
    ids::HexIds,
    lifecycle::LifecycleApiServer,
    metrics::{CallMetrics, RpcMetrics},
    middleware::CallLayer,
    node::MoreApiServer,
    raw::RawApiServer,
    simulate::SimulateApiServer,
    subscriptions,
    traces::TraceApiServer,
    txpool::TxPoolApiServer,
};

/// Listings of the pool that are made at the same time.
const POOL_LISTINGS: usize = 2;
/// How often WebSocket clients are pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A WebSocket client that answers no ping for this long is gone.
const PONG_LIMIT: Duration = Duration::from_secs(70);
/// Bytes of the head of an HTTP/1 request at most.
const HEAD_LIMIT: usize = 64 << 10;
/// How long connections that were told to close at once may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Ethereum JSON-RPC over HTTP and WebSocket.
#[derive(Debug)]
pub struct RpcServer;

impl RpcServer {
    /// Listens and serves until [`RpcHandle::stop`].
    ///
    /// `extra` are methods of the caller's, served beside the standard ones. What `eth_sendRawTransaction` is given goes
    /// to the pool byte for byte.
    ///
    /// # Errors
    /// When the address is taken, a CORS origin is invalid, an extra method has the name of another, the certificate or the tokens are of no use, or the
    /// executor does not answer.
    pub async fn start(
        config: RpcConfig,
        executor: Arc<dyn Executor>,
        pool: Arc<dyn TxPool>,
        extra: Option<Methods>,
    ) -> Result<RpcHandle, RpcError> {
        let cors = cors(&config.cors_origins)?;
        let edge = Edge::open(config.edge(), Port::JsonRpc, config.name)?;
        let spec = executor.spec().await?;
        let head = executor.head().await?.number;
        let listen_error = |source| RpcError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;

        let limits = config.limits.clone();
        let name = config.name;
        let metrics = Arc::new(RpcMetrics::new(name));
        let filters = Arc::new(FilterRegistry::new(
            limits.max_filters as usize,
            limits.filter_expiry,
            head + 1,
        ));
        let feed = BlockFeed::new(limits.max_subscription_lag as usize);
        let stop = CancellationToken::new();
        let context = Context {
            executor: executor.clone(),
            pool: pool.clone(),
            spec,
            fees: FeeOracle::new(limits.max_fee_history as usize),
            filters: filters.clone(),
            pending: Arc::default(),
            feed: feed.clone(),
            log_searches: Semaphore::new(limits.max_log_searches as usize),
            sync_waits: Semaphore::new(limits.max_sync_waits as usize),
            pool_listings: Semaphore::new(POOL_LISTINGS),
            stop: stop.clone(),
            metrics: metrics.clone(),
            config,
        };
        let methods = methods(Arc::new(context), extra)?;
        let calls = CallLayer::new(
            CallMetrics::new(name, methods.method_names()),
            limits.max_calls,
            limits.max_response_bytes,
            pool,
        );

        let close = CancellationToken::new();
        let serving = Serving {
            connections: edge.connections(listener, close.clone()).boxed(),
            edge,
            close,
            stop: stop.clone(),
            limits,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serving.run(calls, cors, methods));
        tasks.spawn(feed.run(executor, filters, head + 1, stop.clone()));
        info!(target: "millrace::rpc", %address, "JSON-RPC listens");
        Ok(RpcHandle { address, stop, tasks })
    }
}

/// A running server. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct RpcHandle {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl RpcHandle {
    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets open calls end within the drain timeout, and closes all connections.
    ///
    /// # Errors
    /// When a task of the server has panicked.
    pub async fn stop(mut self) -> Result<(), RpcError> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Waits until the server ends by itself, which it does only when a task of it panics. Cancellation-safe.
    ///
    /// # Errors
    /// The panic.
    pub async fn failed(&mut self) -> Result<(), RpcError> {
        if let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// Serves connections until it is told to stop.
struct Serving {
    connections: BoxStream<'static, Connection>,
    edge: Arc<Edge>,
    close: CancellationToken,
    stop: CancellationToken,
    limits: RpcLimits,
}

impl Serving {
    async fn run(mut self, calls: CallLayer, cors: Option<CorsLayer>, methods: Methods) {
        let (stop_handle, stop_calls) = stop_channel();
        let guard = GuardLayer::new(self.edge.clone());
        let builder = Server::builder()
            .set_config(server_config(&self.limits))
            .set_rpc_middleware(RpcServiceBuilder::new().layer(calls))
            .set_http_middleware(tower::ServiceBuilder::new().option_layer(cors).layer(guard))
            .to_service_builder();
        let http = http(&self.edge);
        while let Some(Some(connection)) =
            self.stop.run_until_cancelled(self.connections.next()).await
        {
            let service = builder.clone().build(methods.clone(), stop_handle.clone());
            let info = connection.info().clone();
            let service = MarkConnection::new(service, info, self.edge.clone());
            let stopped = stop_handle.clone().shutdown();
            tokio::spawn(serve(http.clone(), connection, service, stopped));
        }
        self.drain(stop_calls).await;
    }

    /// Lets calls end, then closes what is left.
    async fn drain(self, stop_calls: ServerHandle) {
        drop(self.connections);
        // An error says that no connection listens for it.
        let _ = stop_calls.stop();
        if timeout(self.limits.drain_timeout, self.edge.emptied()).await.is_ok() {
            return;
        }
        self.close.cancel();
        if timeout(CLOSE_LIMIT, self.edge.emptied()).await.is_err() {
            warn!(target: "millrace::rpc", "connections are still open");
        }
    }
}

/// HTTP/1 and HTTP/2 with the port's limits. The time that a head may take is the connection's affair.
fn http(edge: &Edge) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_LIMIT);
    edge.http2().apply(&mut builder);
    builder
}

/// Serves one connection; after a stop, until its open calls have ended.
async fn serve<S>(
    http: Builder<TokioExecutor>,
    connection: Connection,
    service: S,
    stopped: impl Future<Output = ()>,
) where
    S: Service<
            HttpRequest<hyper::body::Incoming>,
            Response = HttpResponse<HttpBody>,
            Error = BoxError,
        > + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let service = TowerToHyperService::new(service);
    let serving = http.serve_connection_with_upgrades(TokioIo::new(connection), service);
    tokio::pin!(serving, stopped);
    let served = tokio::select! {
        served = &mut serving => served,
        () = &mut stopped => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(target: "millrace::rpc", error = &*error, "connection ended");
    }
}

fn server_config(limits: &RpcLimits) -> ServerConfig {
    let ping = PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(PONG_LIMIT);
    ServerConfig::builder()
        .max_request_body_size(limits.max_request_bytes)
        .max_response_body_size(limits.max_response_bytes)
        // Connections are counted here already; this counts HTTP/2 streams too, which are calls.
        .max_connections(limits.max_connections.saturating_add(limits.max_calls))
        .max_subscriptions_per_connection(limits.max_subscriptions)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.max_batch))
        .set_message_buffer_capacity(limits.max_queued_messages.max(1))
        .set_id_provider(HexIds)
        .enable_ws_ping(ping)
        .build()
}

fn methods(context: Arc<Context>, extra: Option<Methods>) -> Result<Methods, RpcError> {
    let api = Api(context.clone());
    let mut module = RpcModule::new(context);
    module.merge(EthApiServer::into_rpc(api.clone()))?;
    module.merge(NodeApiServer::into_rpc(api.clone()))?;
    module.merge(RawApiServer::into_rpc(api.clone()))?;
    module.merge(EstimateApiServer::into_rpc(api.clone()))?;
    module.merge(MoreApiServer::into_rpc(api.clone()))?;
    module.merge(SimulateApiServer::into_rpc(api.clone()))?;
    module.merge(TraceApiServer::into_rpc(api.clone()))?;
    module.merge(LifecycleApiServer::into_rpc(api.clone()))?;
    module.merge(TxPoolApiServer::into_rpc(api))?;
    subscriptions::register(&mut module)?;
    if let Some(extra) = extra {
        module.merge(extra)?;
    }
    Ok(module.into())
}

/// `None` without origins: browsers then let no page of another origin in.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>, RpcError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let layer = CorsLayer::new().allow_methods(Any).allow_headers(Any);
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Some(layer.allow_origin(Any)));
    }
    let parse = |origin: &String| origin.parse().map_err(|_| RpcError::Origin(origin.clone()));
    let origins = origins.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(layer.allow_origin(origins)))
}
