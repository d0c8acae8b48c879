//! The edge of a gRPC server.

mod arriving;
mod guard;
mod methods;

use std::sync::Arc;

use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

pub use self::guard::{GrpcGuard, GrpcGuardLayer};
use crate::edge::Edge;

/// A server with the port's limits. Add services, then serve on [`Edge::connections`].
pub fn server_builder(edge: &Arc<Edge>) -> Server<Stack<GrpcGuardLayer, Identity>> {
    let http2 = edge.http2();
    Server::builder()
        .max_concurrent_streams(http2.max_concurrent_streams)
        .initial_stream_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_frame_size(http2.max_frame_bytes)
        .http2_max_header_list_size(http2.max_header_bytes)
        .http2_max_pending_accept_reset_streams(Some(http2.max_pending_resets as usize))
        .http2_max_local_error_reset_streams(Some(http2.max_error_resets as usize))
        .http2_keepalive_interval(Some(http2.keepalive_interval))
        .http2_keepalive_timeout(Some(http2.keepalive_timeout))
        .layer(GrpcGuardLayer::new(edge.clone()))
}

#[cfg(test)]
mod tests;
