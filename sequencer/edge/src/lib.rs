//! What stands between Millrace's public ports and whoever connects to them: caps, timeouts, TLS, tokens. The gRPC port and the JSON-RPC port each
//! have one [`Edge`]; the ports between services have none.
//!
//! ```text
//!  listener ─> gate: caps in total and a peer ─> TLS handshake ─> Connection: ends when its client is too slow, silent or idle
//!                                                                     │ each request
//!                                                                     └─> token? ─> Call: a place among all calls and its peer's
//! ```
//!
//! A connection that is over a cap is closed at once: it costs a file descriptor for a moment and nothing else. A call that is over a cap is told so, and
//! when to try again.

mod body;
mod bytes;
mod calls;
mod config;
mod connection;
mod edge;
mod error;
mod gate;
pub mod grpc;
mod listener;
mod lull;
mod metrics;
mod plain;
mod tls;
mod tokens;
mod unsent;
mod watched;

pub use self::{
    body::{CallBody, HeldBody},
    bytes::HeldBytes,
    calls::{Call, Shed},
    config::{EdgeConfig, Http2Config, Limits, TlsFiles},
    connection::{Connection, ConnectionInfo},
    edge::Edge,
    error::EdgeError,
    metrics::Port,
};
