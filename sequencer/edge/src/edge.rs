//! A public port: who may connect, and who may call.

use std::{io, net::SocketAddr, sync::Arc};

use futures::{Stream, StreamExt, future, stream};
use http::HeaderMap;
use millrace_proto::Peer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken, task::AbortOnDropHandle};
use tracing::debug;

use crate::{
    calls::Caller,
    config::{EdgeConfig, Http2Config, Limits},
    connection::{Connection, ConnectionInfo, Transport},
    error::EdgeError,
    gate::{Full, Gate, Place},
    listener::Listener,
    lull::Lull,
    metrics::{EdgeMetrics, Port, Refused},
    plain,
    tls::Tls,
    tokens::Tokens,
};

/// A connection that is inside the caps, before TLS.
struct Entered {
    socket: TcpStream,
    from: SocketAddr,
    place: Place,
}

/// A public port's caps, certificate and tokens.
#[derive(Debug)]
pub struct Edge {
    limits: Limits,
    http2: Http2Config,
    gate: Arc<Gate>,
    tls: Option<Tls>,
    tokens: Option<Tokens>,
    metrics: Arc<EdgeMetrics>,
}

impl Edge {
    /// Reads the certificate and the tokens, if there are to be any. `server` is the label of the metrics.
    ///
    /// # Errors
    /// When a file is missing, or of no use.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn open(
        config: EdgeConfig,
        port: Port,
        server: &'static str,
    ) -> Result<Arc<Self>, EdgeError> {
        let EdgeConfig { limits, http2, tls, tokens } = config;
        let protocols: &[&[u8]] = match port {
            Port::Grpc => &[b"h2"],
            Port::JsonRpc => &[b"h2", b"http/1.1"],
        };
        Ok(Arc::new(Self {
            gate: Gate::new(&limits),
            tls: tls.map(|files| Tls::open(files, protocols)).transpose()?,
            tokens: tokens.map(Tokens::open).transpose()?,
            metrics: Arc::new(EdgeMetrics::new(port, server)),
            limits,
            http2,
        }))
    }

    /// Caps and timeouts.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What HTTP/2 clients may do.
    pub const fn http2(&self) -> &Http2Config {
        &self.http2
    }

    /// Whether clients have to speak TLS.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connections that are inside the caps, once TLS is set up where there is any. `close` closes them all. Never ends; dropping it closes the listener, and
    /// what was not set up.
    pub fn connections(
        self: &Arc<Self>,
        listener: TcpListener,
        close: CancellationToken,
    ) -> impl Stream<Item = Connection> + Send + 'static + use<> {
        let (edge, at_once) = (self.clone(), self.limits.max_connections.max(1) as usize);
        let accepted = stream::unfold(
            (self.clone(), Listener::new(listener)),
            |(edge, mut listener)| async move {
                let entered = edge.entered(&mut listener).await;
                Some((entered, (edge, listener)))
            },
        );
        accepted
            .map(move |entered| edge.clone().establish(entered, close.child_token()))
            .buffer_unordered(at_once)
            .filter_map(future::ready)
            .boxed()
    }

    /// The next connection that is inside the caps.
    async fn entered(&self, listener: &mut Listener) -> Entered {
        loop {
            let (socket, from) = listener.accept().await;
            match self.gate.enter(Peer::from(from.ip())) {
                Ok(place) => return Entered { socket, from, place },
                Err(Full::Total) => self.metrics.refused(Refused::Total),
                Err(Full::Peer) => self.metrics.refused(Refused::Peer),
            }
        }
    }

    async fn establish(
        self: Arc<Self>,
        entered: Entered,
        close: CancellationToken,
    ) -> Option<Connection> {
        let Entered { socket, from, place } = entered;
        let Some(tls) = self.tls.clone() else {
            return Some(self.connection(Either::Left(socket), (from, place), close));
        };
        let edge = self.clone();
        // On a task of its own: a handshake is work, and the others are not to wait for it.
        let handshake = tokio::spawn(async move { edge.handshake(&tls, socket).await });
        let stream = AbortOnDropHandle::new(handshake).await.ok().flatten()?;
        Some(self.connection(Either::Right(Box::new(stream)), (from, place), close))
    }

    async fn handshake(&self, tls: &Tls, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        let handshake = async {
            if plain::speaks_plain(&socket).await? {
                plain::refuse(socket).await;
                return Ok(None);
            }
            tls.accept(socket).await.map(Some)
        };
        let failed: io::Error = match timeout(self.limits.header_timeout, handshake).await {
            Ok(Ok(Some(stream))) => return Some(stream),
            Ok(Ok(None)) => {
                self.metrics.refused(Refused::PlainText);
                debug!(target: "millrace::edge", "a client spoke plain HTTP to a TLS port");
                return None;
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        self.metrics.refused(Refused::Handshake);
        debug!(target: "millrace::edge", error = %failed, "TLS handshake failed");
        None
    }

    fn connection(
        &self,
        io: Transport,
        (from, place): (SocketAddr, Place),
        close: CancellationToken,
    ) -> Connection {
        let lull = Arc::new(Lull::new(&self.limits));
        let caller = Arc::new(Caller::new(place, lull.clone(), self.metrics.clone()));
        let info = ConnectionInfo::new(from, caller, close);
        Connection::new(io, &self.limits, lull, info, self.metrics.clone())
    }

    /// Waits until every connection is closed. No other is let in meanwhile.
    pub async fn emptied(&self) {
        self.gate.emptied().await;
    }

    /// Whether a request shows a token, where one has to be shown.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let admitted = self.tokens.as_ref().is_none_or(|tokens| tokens.admit(headers));
        if !admitted {
            self.metrics.shed(Refused::Token);
        }
        admitted
    }

    /// What a call comes to, or `None` once it has taken as long as one may, which is counted.
    pub async fn in_time<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let done = timeout(self.limits.call_timeout, call).await.ok();
        if done.is_none() {
            self.overdue();
        }
        done
    }

    /// Counts a call that was ended for its time.
    pub(crate) fn overdue(&self) {
        self.metrics.shed(Refused::Deadline);
    }
}
