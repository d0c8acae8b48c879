//! One TCP connection: its slot among all, and how long its client may be silent or take nothing.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use jsonrpsee::{
    Extensions,
    server::{HttpRequest, ws::is_upgrade_request},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::Service;

use crate::metrics::Open;

/// A socket that fails once its client was silent, or took nothing, for too long, or when it is told to close.
///
/// It lives as long as its connection, through the upgrade to a WebSocket, and so holds the connection's slot.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    read: Patience,
    write: Patience,
    _slot: OwnedSemaphorePermit,
    _open: Open,
}

impl Connection {
    pub(crate) fn new(
        socket: TcpStream,
        idle: Duration,
        stalled: Duration,
        close: &CancellationToken,
        slot: OwnedSemaphorePermit,
        open: Open,
    ) -> Self {
        let (read, write) = (Patience::new(idle, close), Patience::new(stalled, close));
        Self { socket, read, write, _slot: slot, _open: open }
    }
}

/// Ends a wait that makes no progress. Reading and writing have one each, because different tasks may wait for them.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    close: Pin<Box<WaitForCancellationFutureOwned>>,
    waiting: bool,
}

impl Patience {
    fn new(limit: Duration, close: &CancellationToken) -> Self {
        Self {
            limit,
            deadline: Box::pin(sleep(limit)),
            close: Box::pin(close.clone().cancelled_owned()),
            waiting: false,
        }
    }

    /// Passes a result on; while there is none, the error that ends the wait.
    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        if self.close.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.read.check(cx, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.write.check(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.write.check(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_flush(cx);
        self.write.check(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.write.check(cx, result)
    }
}

/// A WebSocket's calls carry it.
#[derive(Debug, Clone)]
pub(crate) struct Session(CancellationToken);

impl Session {
    /// Closes the connection at once.
    pub(crate) fn close(&self) {
        self.0.cancel();
    }
}

/// Where the client is that sent a request: every call carries it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    /// The address that a call came from.
    pub(crate) fn of(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().map(|peer| peer.0)
    }
}

/// Puts a [`Peer`] on all requests, and a [`Session`] on those that become WebSockets.
#[derive(Debug, Clone)]
pub(crate) struct MarkSession<S> {
    inner: S,
    peer: Peer,
    close: CancellationToken,
}

impl<S> MarkSession<S> {
    pub(crate) const fn new(inner: S, peer: IpAddr, close: CancellationToken) -> Self {
        Self { inner, peer: Peer(peer), close }
    }
}

impl<S, B> Service<HttpRequest<B>> for MarkSession<S>
where
    S: Service<HttpRequest<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: HttpRequest<B>) -> S::Future {
        request.extensions_mut().insert(self.peer);
        if is_upgrade_request(&request) {
            request.extensions_mut().insert(Session(self.close.clone()));
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;
    use crate::metrics::RpcMetrics;

    const LONG: Duration = Duration::from_secs(60);

    /// A served connection, its client, and what closes it.
    async fn connected(slots: &Arc<Semaphore>) -> (Connection, TcpStream, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (socket, _) = accepted.expect("accept");
        let close = CancellationToken::new();
        let slot = slots.clone().try_acquire_owned().expect("a slot");
        let open = RpcMetrics::new("test").connection_opened();
        let connection = Connection::new(socket, LONG, LONG, &close, slot, open);
        (connection, client.expect("connect"), close)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_times_out_and_frees_its_slot() {
        let slots = Arc::new(Semaphore::new(1));
        let (mut connection, _client, _close) = connected(&slots).await;
        let start = Instant::now();
        let error = connection.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= LONG);
        assert_eq!(slots.available_permits(), 0);
        drop(connection);
        assert_eq!(slots.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_times_out() {
        let slots = Arc::new(Semaphore::new(1));
        let (mut connection, _client, _close) = connected(&slots).await;
        let much = vec![0; 64 << 20];
        let error = connection.write_all(&much).await.expect_err("the buffers are full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn closing_ends_a_wait() {
        let slots = Arc::new(Semaphore::new(1));
        let (mut connection, mut client, close) = connected(&slots).await;
        client.write_all(&[7]).await.expect("sent");
        assert_eq!(connection.read_u8().await.expect("received"), 7);
        let (closed, ()) = tokio::join!(connection.read_u8(), async { close.cancel() });
        assert_eq!(closed.expect_err("closed").kind(), io::ErrorKind::ConnectionAborted);
    }
}
