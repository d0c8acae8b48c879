//! The service traits over gRPC (`millrace/v1/*.proto`).
//!
//! ```text
//!  caller ── Arc<dyn Trait> ──> XClient ──┐                              ┌──> XServer ──> Arc<dyn Trait>: the service
//!            domain types       convert   └─ pb messages, HTTP/2, pb ────┘    convert     domain types
//! ```
//!
//! A client implements the trait that its server wraps, so that a caller cannot tell a service in its own process from one in
//! another. Messages are parsed into domain types on arrival, and travel no further.
//! Errors travel as `google.rpc.Status` with an `ErrorInfo` (domain [`ERROR_DOMAIN`]) from which the other side makes
//! the same typed error again; `docs/wire.md` lists the reasons.

mod access;
mod client;
mod connection;
mod convert;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod server;

/// The messages, clients and servers generated from `millrace/v1/*.proto`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("millrace.v1");
}

pub use self::{
    access::{Access, AccessError, ShowToken, Transport},
    client::{DaAdapterClient, ExecutorClient, SequencerClient, SettlementClient},
    connection::{
        ClientConfig, ConnectError, Connection, INTERNAL_MESSAGE_LIMIT, PUBLIC_REQUEST_LIMIT,
        incoming, server_builder,
    },
    error::{ERROR_DOMAIN, RemoteError, overloaded, too_slow, unauthenticated},
    pb::{
        da_adapter_server::SERVICE_NAME as DA_ADAPTER_SERVICE,
        executor_server::SERVICE_NAME as EXECUTOR_SERVICE,
        sequencer_server::SERVICE_NAME as SEQUENCER_SERVICE,
        settlement_server::SERVICE_NAME as SETTLEMENT_SERVICE,
    },
    server::{DaAdapterServer, ExecutorServer, SequencerServer, SettlementServer},
};

/// The encoded `google.protobuf.FileDescriptorSet` of `millrace/v1/*.proto`, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("millrace_descriptor");
