//! Accepts TCP connections, and goes on when that fails.

use std::{net::SocketAddr, time::Duration};

use millrace_proto::{Outage, PastOutage};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

/// How long to wait when no connection can be accepted, for example for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener and whether it works.
pub(crate) struct Listener {
    inner: TcpListener,
    outage: Outage,
}

impl Listener {
    pub(crate) fn new(inner: TcpListener) -> Self {
        Self { inner, outage: Outage::new() }
    }

    /// The next connection, and from where it comes.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((socket, from)) => {
                    // Messages are small, and would wait for the client's delayed acknowledgements, up to 40 ms (Nagle's algorithm). A socket that is gone already
                    // shows it on the first read.
                    let _ = socket.set_nodelay(true);
                    if let Some(PastOutage { failures, lasted }) = self.outage.over() {
                        info!(target: "millrace::edge", failures, ?lasted, "connections are accepted again");
                    }
                    return (socket, from);
                }
                Err(error) => {
                    if self.outage.failed() {
                        warn!(target: "millrace::edge", %error, "cannot accept connections");
                    } else {
                        debug!(target: "millrace::edge", %error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}
