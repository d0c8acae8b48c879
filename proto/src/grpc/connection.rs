//! How services reach each other: limits, deadlines, keepalive.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server, server::TcpIncoming};

use crate::grpc::{Access, Transport};

/// Largest message between services, bytes: an executed block, or the transactions of one.
pub const INTERNAL_MESSAGE_LIMIT: usize = 256 * 1024 * 1024;

/// Largest request that the public API reads, bytes.
pub const PUBLIC_REQUEST_LIMIT: usize = 4 * 1024 * 1024;

/// HTTP/2 flow-control windows. Blocks are larger than the protocol's default of 64 KiB.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Calls that one connection may have open at once. A submission that waits for a stage is one.
const MAX_CONCURRENT_STREAMS: u32 = 4096;

/// How a client reaches a service in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Longest wait for a TCP connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest wait for a reply: of a call, of one step of a block build, or for a stream to begin. Streams that follow
    /// the chain, and waiting for a stage, have no deadline.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// Time between pings on a connection, idle or not.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// A connection that leaves a ping without an answer for so long is dead.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

impl ClientConfig {
    /// [`Self::connect_with`] the default [`Access`].
    ///
    /// # Errors
    /// When the URI is not usable.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect(self, uri: &str) -> Result<Connection, ConnectError> {
        self.connect_with(uri, Access::default())
    }

    /// Names a service by its URI, for example `http://127.0.0.1:9645`, or `https://` for TLS. Connects on the first call, and again after a
    /// break, so that services can start in any order. Cheap to clone; clones share the connection.
    ///
    /// # Errors
    /// When the URI is none, or TLS cannot be set up.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect_with(self, uri: &str, access: Access) -> Result<Connection, ConnectError> {
        let endpoint = Endpoint::from_shared(uri.to_owned())
            .map_err(|source| ConnectError::Uri { uri: uri.to_owned(), source })?;
        let endpoint = match endpoint.uri().scheme_str() {
            Some("http") => endpoint,
            Some("https") => endpoint
                .tls_config(access.tls())
                .map_err(|source| ConnectError::Tls { uri: uri.to_owned(), source })?,
            _ => return Err(ConnectError::Scheme { uri: uri.to_owned() }),
        };
        let channel = endpoint
            .connect_timeout(self.connect_timeout)
            .timeout(self.call_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        Ok(Connection { transport: access.over(channel), call_timeout: self.call_timeout })
    }
}

/// A connection to a service in another process.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) transport: Transport,
    pub(crate) call_timeout: Duration,
}

impl Connection {
    /// For generated clients.
    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }
}

/// Why a URI does not name a service.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a URI.
    #[error("{uri:?} is not a URI such as http://127.0.0.1:9645")]
    Uri {
        /// What was given.
        uri: String,
        /// What the parser said.
        #[source]
        source: tonic::transport::Error,
    },
    /// Not HTTP/2.
    #[error("{uri:?} must start with http:// or https://")]
    Scheme {
        /// What was given.
        uri: String,
    },
    /// TLS cannot be set up: the system has no certificate authorities, or the given ones are of no use.
    #[error("TLS cannot be set up for {uri:?}")]
    Tls {
        /// What was given.
        uri: String,
        /// What the TLS library said.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connections to a gRPC server. Each message goes out at once: without that (Nagle's algorithm), messages of a stream wait for the client's delayed acknowledgement, up to 40 ms.
/// (tonic's own setting for it is of no effect where the listener is given.)
pub fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// A gRPC server with the windows, keepalive and limits that the clients expect. Add services, then serve on [`incoming`].
pub fn server_builder() -> Server {
    let config = ClientConfig::default();
    Server::builder()
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_servers_messages_go_out_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let accepted = incoming(listener).next().await.unwrap().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
