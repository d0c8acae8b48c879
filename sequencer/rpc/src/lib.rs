//! Ethereum JSON-RPC over HTTP and WebSocket, on one port.
//!
//! It answers from two service traits and holds no chain data of its own, so it serves the rollup and the embedded
//! dev L1 alike.
//!
//! ```text
//!             ┌ edge         caps on connections, timeouts, TLS
//!   client ───┤ guard        token, caps on requests and bytes, deadline
//!             ├ middleware   in-flight limit, metrics a method
//!             └ api ─┬ blocks, state, calls, fees, logs, filters ──> Arc<dyn Executor>
//!                    ├ sendRawTransaction, pending nonce, heads  ──> Arc<dyn TxPool>
//!                    └ subscriptions <── feed <── Executor::subscribe
//! ```
//!
//! The methods and error codes are listed in `docs/json-rpc.md`.

mod api;
mod config;
mod context;
mod error;
mod estimate;
mod feed;
mod fees;
mod filters;
mod guard;
mod ids;
mod json;
mod lifecycle;
mod logs;
mod metrics;
mod middleware;
mod node;
mod pending;
mod raw;
mod reads;
mod reject;
mod server;
mod simulate;
mod subscriptions;
mod traces;
mod txpool;

pub use self::{
    config::{RpcConfig, RpcLimits},
    error::RpcError,
    server::{RpcHandle, RpcServer},
};
