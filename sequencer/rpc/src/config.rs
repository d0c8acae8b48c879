//! What an operator can set.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use millrace_edge::{EdgeConfig, Http2Config, Limits, TlsFiles};
use serde::{Deserialize, Serialize};

/// A JSON-RPC server's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Where HTTP and WebSocket listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Origins whose pages a browser lets in (CORS), for example `https://app.example.org`; `*` for any, empty for none.
    pub cors_origins: Vec<String>,
    /// Suggested priority fee while recent blocks show none, wei per gas.
    pub default_priority_fee: u64,
    /// The certificate; without, the port speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// A file of tokens, one a line, one of which a caller has to show; without, nobody has to.
    pub tokens: Option<PathBuf>,
    /// Limits.
    pub limits: RpcLimits,
    /// What HTTP/2 clients may do.
    pub http2: Http2Config,
    /// What `web3_clientVersion` says.
    #[serde(skip)]
    pub client_version: String,
    /// The `server` label of this server's metrics: a process may run several.
    #[serde(skip)]
    pub name: &'static str,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8545)),
            cors_origins: Vec::new(),
            default_priority_fee: 1_000_000,
            tls: None,
            tokens: None,
            limits: RpcLimits::default(),
            http2: Http2Config::default(),
            client_version: concat!("millrace/v", env!("CARGO_PKG_VERSION")).to_owned(),
            name: "rollup",
        }
    }
}

impl RpcConfig {
    /// What the port's edge needs of it.
    pub(crate) fn edge(&self) -> EdgeConfig {
        let limits = &self.limits;
        EdgeConfig {
            limits: Limits {
                max_connections: limits.max_connections,
                max_connections_per_peer: limits.max_connections_per_peer,
                max_calls: limits.max_calls,
                max_calls_per_peer: limits.max_calls_per_peer,
                max_held_bytes: limits.max_held_bytes,
                max_unsent_bytes: limits.max_unsent_bytes,
                header_timeout: limits.header_timeout,
                idle_timeout: limits.idle_timeout,
                write_timeout: limits.write_timeout,
                call_timeout: limits.call_timeout,
            },
            http2: self.http2.clone(),
            tls: self.tls.clone(),
            tokens: self.tokens.clone(),
        }
    }
}

/// What one client, and all clients together, may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcLimits {
    /// Open connections, HTTP and WebSocket together.
    pub max_connections: u32,
    /// Open connections of one peer, an IPv4 address or an IPv6 network of 64 bits; 0 for as many as there may be in all.
    pub max_connections_per_peer: u32,
    /// HTTP requests at the same time, over all connections, until their answers are taken; and calls that run at the same time.
    pub max_calls: u32,
    /// HTTP requests at the same time of one peer; 0 for as many as there may be in all.
    pub max_calls_per_peer: u32,
    /// Bytes of HTTP requests that are not answered, over all connections; a quarter of it of one peer, where peers have a cap.
    pub max_held_bytes: u32,
    /// Bytes of replies that are not taken, over all connections; a quarter of it of one peer, where peers have a cap.
    pub max_unsent_bytes: u32,
    /// Bytes of a request.
    pub max_request_bytes: u32,
    /// Bytes of a response, and of all responses of a batch together.
    pub max_response_bytes: u32,
    /// Calls in a batch.
    pub max_batch: u32,
    /// Subscriptions a connection.
    pub max_subscriptions: u32,
    /// Messages that wait for a WebSocket client that reads slowly.
    pub max_queued_messages: u32,
    /// Blocks that a subscription may lag before its connection is closed.
    pub max_subscription_lag: u32,
    /// Installed filters.
    pub max_filters: u32,
    /// A filter that nobody polls is removed after this time.
    #[serde(with = "humantime_serde")]
    pub filter_expiry: Duration,
    /// Blocks that a log query may span.
    pub max_log_blocks: u64,
    /// Logs that a log query over several blocks may return; of a single block any number is returned.
    pub max_logs: u32,
    /// Bytes of JSON that the logs of any log query may take.
    pub max_log_bytes: u32,
    /// Log queries that run at the same time, over all connections; more are refused.
    pub max_log_searches: u32,
    /// Addresses and topics that a log filter may name.
    pub max_log_criteria: u32,
    /// Storage keys of an `eth_getProof` or `eth_getStorageValues`.
    pub max_proof_keys: u32,
    /// Transactions that a `txpool_content` or `txpool_inspect` may list.
    pub max_pool_content: u32,
    /// Blocks of an `eth_feeHistory`.
    pub max_fee_history: u32,
    /// Calls of `eth_sendRawTransactionSync` that wait at the same time, over all connections; more are refused.
    pub max_sync_waits: u32,
    /// How long an `eth_sendRawTransactionSync` waits that does not say.
    #[serde(with = "humantime_serde")]
    pub sync_timeout: Duration,
    /// The longest that one may ask for.
    #[serde(with = "humantime_serde")]
    pub max_sync_timeout: Duration,
    /// For how long a connection may be open before its first request is there, the TLS handshake included; and how long the head of a later request may take.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long an HTTP request may take, from its head to its answer, and a call or a batch on a WebSocket. An answer that is not taken in twice that time costs its connection.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// A connection without a request for this long is closed; a WebSocket is, on which nothing arrives. WebSocket clients answer pings.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A connection whose client takes nothing of what is sent for this long is closed.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long open calls may take to end when the server stops.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
            max_connections_per_peer: 256,
            max_calls: 4_096,
            max_calls_per_peer: 1_024,
            max_held_bytes: 256 << 20,
            max_unsent_bytes: 512 << 20,
            max_request_bytes: 10 << 20,
            max_response_bytes: 64 << 20,
            max_batch: 1_000,
            max_subscriptions: 100,
            max_queued_messages: 256,
            max_subscription_lag: 64,
            max_filters: 1_000,
            filter_expiry: Duration::from_secs(300),
            max_log_blocks: 10_000,
            max_logs: 10_000,
            max_log_bytes: 32 << 20,
            max_log_searches: 32,
            max_log_criteria: 1_000,
            max_proof_keys: 1_024,
            max_pool_content: 10_000,
            max_fee_history: 1_024,
            max_sync_waits: 1_024,
            sync_timeout: Duration::from_secs(2),
            max_sync_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(90),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
