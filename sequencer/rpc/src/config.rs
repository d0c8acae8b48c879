//! What an operator can set.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

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
    /// Limits.
    pub limits: RpcLimits,
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
            limits: RpcLimits::default(),
            client_version: concat!("millrace/v", env!("CARGO_PKG_VERSION")).to_owned(),
            name: "rollup",
        }
    }
}

/// What one client, and all clients together, may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcLimits {
    /// Open connections, HTTP and WebSocket together.
    pub max_connections: u32,
    /// Calls that run at the same time, over all connections.
    pub max_calls: u32,
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
    /// A connection on which nothing arrives for this long is closed. WebSocket clients answer pings.
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
            max_calls: 4_096,
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
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
