//! What an operator can set of a public port.

use std::{path::PathBuf, time::Duration};

use hyper_util::{rt::TokioTimer, server::conn::auto::Builder};
use serde::{Deserialize, Serialize};

/// The settings of a public port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    /// Caps and timeouts.
    pub limits: Limits,
    /// What HTTP/2 clients may do.
    pub http2: Http2Config,
    /// The certificate; without, the port speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// A file of tokens, one a line, one of which a caller has to show; without, nobody has to.
    pub tokens: Option<PathBuf>,
}

/// Caps and timeouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; more are closed at once.
    pub max_connections: u32,
    /// Open connections of one peer, an IPv4 address or an IPv6 network of 64 bits; 0 for as many as there may be in all.
    pub max_connections_per_peer: u32,
    /// Calls at the same time, over all connections, until their replies are taken; more are told to come again.
    pub max_calls: u32,
    /// Calls at the same time of one peer; 0 for as many as there may be in all.
    pub max_calls_per_peer: u32,
    /// Bytes of requests that are not here whole yet, over all connections; a quarter of it of one peer, where peers have a cap.
    pub max_held_bytes: u32,
    /// Bytes of HTTP/1 and WebSocket replies that are not taken, over all connections; a quarter of it of one peer, where peers have a cap. gRPC's replies are made as they are
    /// taken.
    #[serde(skip)]
    pub max_unsent_bytes: u32,
    /// For how long a connection may be open before its first request is there, the TLS handshake included; and how long the head of a later request may take.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// For how long a connection may have no call open.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// For how long a client may take nothing of what is sent.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long a call may take that does not wait for the chain, and how long a request may take to arrive whole. A reply that is not taken in twice that time
    /// costs its connection.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            max_connections_per_peer: 128,
            max_calls: 16_384,
            max_calls_per_peer: 8_192,
            max_held_bytes: 256 << 20,
            max_unsent_bytes: 512 << 20,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(30),
        }
    }
}

/// What HTTP/2 clients may do ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113), section 6.5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Config {
    /// Calls that one connection may have open.
    pub max_concurrent_streams: u32,
    /// Bytes of one call's requests that a client may send before they are read.
    pub stream_window: u32,
    /// Bytes of all requests of a connection that a client may send before they are read. What they take at most is this, times the connections.
    pub connection_window: u32,
    /// Bytes of a frame, 16384 to 16777215.
    pub max_frame_bytes: u32,
    /// Bytes of a request's headers.
    pub max_header_bytes: u32,
    /// Calls that a client may have opened and taken back before they are looked at; one more ends the connection (CVE-2023-44487).
    pub max_pending_resets: u32,
    /// Calls that a client's mistakes may have ended on a connection; one more ends the connection.
    pub max_error_resets: u32,
    /// Time between pings on a connection.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// A connection that leaves a ping without an answer for so long is dead.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 4_096,
            stream_window: 1 << 20,
            connection_window: 2 << 20,
            max_frame_bytes: 16 << 10,
            max_header_bytes: 16 << 10,
            max_pending_resets: 20,
            max_error_resets: 128,
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

impl Http2Config {
    /// Sets up hyper's server.
    pub fn apply<E>(&self, builder: &mut Builder<E>)
    where
        E: Clone,
    {
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.max_concurrent_streams)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame_bytes)
            .max_header_list_size(self.max_header_bytes)
            .max_pending_accept_reset_streams(self.max_pending_resets as usize)
            .max_local_error_reset_streams(self.max_error_resets as usize)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout);
    }
}

/// A certificate and its key. Both are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM, the server's certificate first and then those that signed it.
    pub certificate: PathBuf,
    /// PEM, PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
}
