//! One connection: its place among all, and how long its client may be silent, idle, or take nothing.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{
    either::Either,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};
use tonic::transport::server::Connected;

use crate::{
    bytes::HeldBytes,
    calls::{Call, Caller, Shed},
    config::Limits,
    lull::{Lull, Verdict},
    metrics::{Closed, EdgeMetrics, Open},
    unsent::Unsent,
};

/// What is below HTTP.
pub(crate) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that fails once its client is too slow, silent, idle or takes nothing, or when it is told to close.
///
/// It lives as long as what is served on it, through the upgrade to a WebSocket, and holds the connection's place.
#[derive(Debug)]
pub struct Connection {
    io: Transport,
    read: Patience,
    write: Patience,
    /// Who waits to read until something can be written.
    reader: Option<Waker>,
    lull: Arc<Lull>,
    /// When to look at the lull next.
    look: Pin<Box<Sleep>>,
    start: Start,
    info: ConnectionInfo,
    metrics: Arc<EdgeMetrics>,
    _open: Open,
}

/// Says whose call it is. Requests carry it in their extensions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    from: SocketAddr,
    caller: Arc<Caller>,
    unsent: Arc<Unsent>,
    close: CancellationToken,
}

impl ConnectionInfo {
    pub(crate) fn new(from: SocketAddr, caller: Arc<Caller>, close: CancellationToken) -> Self {
        Self { from, caller, unsent: Arc::default(), close }
    }

    /// Where the connection comes from: a client, or a proxy.
    pub const fn from(&self) -> SocketAddr {
        self.from
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// A call begins. A timed one is not to outlive its deadline: when its reply is not taken either, the connection is closed.
    ///
    /// # Errors
    /// When as many run as may.
    pub fn begin(&self, timed: bool) -> Result<Call, Shed> {
        self.caller.begin(timed)
    }

    /// Room for the bytes of a request, none of which is here yet.
    pub fn held_bytes(&self) -> HeldBytes {
        HeldBytes::new(self.clone())
    }

    /// The connection has become a WebSocket: it may be without a call, but not silent.
    pub fn upgraded(&self) {
        self.unsent.begin();
        self.caller.upgraded();
    }

    /// Room for a reply of so many bytes that a WebSocket is about to be given, until it is written to the socket.
    ///
    /// # Errors
    /// When its client, or all together, leave too much lying.
    pub fn hold_reply(&self, bytes: usize) -> Result<(), Shed> {
        let place = self.caller.hold_reply(bytes)?;
        self.unsent.hold(bytes, place);
        Ok(())
    }

    /// A WebSocket is about to be given so many bytes that take no room here, as the error that says that there is none.
    pub fn passes(&self, bytes: usize) {
        self.unsent.pass(bytes);
    }

    /// Closes the connection at once.
    pub fn close(&self) {
        self.close.cancel();
    }
}

impl Connection {
    pub(crate) fn new(
        io: Transport,
        limits: &Limits,
        lull: Arc<Lull>,
        info: ConnectionInfo,
        metrics: Arc<EdgeMetrics>,
    ) -> Self {
        Self {
            io,
            read: Patience::new(limits.idle_timeout, Closed::Silent, &info.close),
            write: Patience::new(limits.write_timeout, Closed::NothingTaken, &info.close),
            reader: None,
            lull,
            look: Box::pin(sleep(limits.header_timeout)),
            start: Start::default(),
            _open: metrics.opened(),
            info,
            metrics,
        }
    }

    /// Whose connection it is.
    pub const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Ready when there was no request for too long.
    fn poll_lull(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            match self.lull.look(Instant::now()) {
                Verdict::Close(why) => return Poll::Ready(why),
                Verdict::LookAgain(at) => self.look.as_mut().reset(at),
            }
        }
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.info.unsent.wrote(*bytes);
        }
        self.progressed(written);
    }

    /// Something could be written, or nothing ever will.
    fn progressed<T>(&mut self, written: &Poll<io::Result<T>>) {
        if written.is_ready()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }

    /// Bytes have arrived.
    fn arrived(&mut self, bytes: &[u8]) {
        self.start.push(bytes);
        // HTTP/2 also sends when there is no request: windows, and answers to pings.
        if !self.start.is_http2()
            && let Some(deadline) = self.lull.arrived()
        {
            self.look.as_mut().reset(deadline);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

/// The first bytes of a connection, by which HTTP/2 is known.
#[derive(Debug, Default)]
struct Start {
    bytes: [u8; 3],
    len: usize,
}

impl Start {
    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
            self.len += 1;
        }
    }

    fn is_http2(&self) -> bool {
        self.bytes == *b"PRI"
    }
}

/// Ends a wait that makes no progress. Reading and writing have one each, because different tasks may wait for them.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    why: Closed,
    deadline: Pin<Box<Sleep>>,
    close: Pin<Box<WaitForCancellationFutureOwned>>,
    waiting: bool,
}

impl Patience {
    fn new(limit: Duration, why: Closed, close: &CancellationToken) -> Self {
        Self {
            limit,
            why,
            deadline: Box::pin(sleep_until(Instant::now() + limit)),
            close: Box::pin(close.clone().cancelled_owned()),
            waiting: false,
        }
    }

    /// Passes a result on; while there is none, the error that ends the wait.
    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &EdgeMetrics,
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
        Poll::Ready(Err(ended(metrics, self.why)))
    }
}

fn ended(metrics: &EdgeMetrics, why: Closed) -> io::Error {
    metrics.closed(why);
    io::Error::new(io::ErrorKind::TimedOut, why.label())
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // A WebSocket's requests are held until their replies are on their way: from a client that does not take those, no more are read.
        if this.write.waiting && this.info.unsent.has_begun() {
            this.reader = Some(cx.waker().clone());
            return this.read.check(cx, &this.metrics, Poll::Pending);
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) {
            this.arrived(buf.filled().get(before..).unwrap_or_default());
        } else if result.is_pending()
            && let Poll::Ready(why) = this.poll_lull(cx)
        {
            return Poll::Ready(Err(ended(&this.metrics, why)));
        }
        this.read.check(cx, &this.metrics, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(&result);
        this.write.check(cx, &this.metrics, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(&result);
        this.write.check(cx, &this.metrics, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_flush(cx);
        this.progressed(&result);
        this.write.check(cx, &this.metrics, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_shutdown(cx);
        this.write.check(cx, &this.metrics, result)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{gate::Gate, metrics::Port};

    const LONG: Duration = Duration::from_secs(60);

    struct Served {
        connection: Connection,
        client: TcpStream,
        gate: Arc<Gate>,
    }

    async fn served(limits: Limits) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (socket, from) = accepted.unwrap();
        let gate = Gate::new(&limits);
        let place = gate.enter(from.ip().into()).unwrap();
        let metrics = Arc::new(EdgeMetrics::new(Port::Grpc, "test"));
        let lull = Arc::new(Lull::new(&limits));
        let caller = Arc::new(Caller::new(place, lull.clone(), metrics.clone()));
        let info = ConnectionInfo::new(from, caller, CancellationToken::new());
        let connection = Connection::new(Either::Left(socket), &limits, lull, info, metrics);
        Served { connection, client: client.unwrap(), gate }
    }

    fn limits() -> Limits {
        Limits {
            max_connections: 1,
            header_timeout: LONG,
            idle_timeout: 4 * LONG,
            write_timeout: LONG,
            ..Limits::default()
        }
    }

    async fn error(connection: &mut Connection) -> String {
        connection.read_u8().await.expect_err("nothing comes").to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_request_times_out_and_frees_its_place() {
        let Served { mut connection, client: _client, gate } = served(limits()).await;
        let (start, other) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(error(&mut connection).await, "header_timeout");
        assert!(start.elapsed() >= LONG && start.elapsed() < 2 * LONG);
        assert!(gate.enter(other.into()).is_err());
        drop(connection);
        gate.enter(other.into()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_byte_by_byte_times_out() {
        let Served { mut connection, mut client, .. } = served(limits()).await;
        let start = Instant::now();
        let slow = tokio::spawn(async move {
            for byte in b"POST / HTTP/1.1\r\nhost: x\r\nx: ".iter().cycle() {
                tokio::time::sleep(LONG / 10).await;
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        });
        let error = loop {
            if let Err(error) = connection.read_u8().await {
                break error;
            }
        };
        assert_eq!(error.to_string(), "header_timeout");
        assert!(start.elapsed() < 2 * LONG);
        slow.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_of_a_later_request_may_not_be_slow_either() {
        let Served { mut connection, mut client, .. } = served(limits()).await;
        drop(connection.info().begin(false).unwrap());
        client.write_all(b"P").await.unwrap();
        connection.read_u8().await.unwrap();
        let start = Instant::now();
        assert_eq!(error(&mut connection).await, "header_timeout");
        assert!(start.elapsed() >= LONG && start.elapsed() < 2 * LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_pings_do_not_keep_an_idle_connection() {
        let Served { mut connection, mut client, .. } = served(limits()).await;
        client.write_all(b"PRI").await.unwrap();
        let call = connection.info().begin(false).unwrap();
        for _ in 0..3 {
            connection.read_u8().await.unwrap();
        }
        // As long as a call is open nothing ends.
        let waiting = tokio::time::timeout(3 * LONG, connection.read_u8()).await;
        assert!(waiting.is_err());
        drop(call);
        let start = Instant::now();
        let pings = tokio::spawn(async move {
            while client.write_all(b"ping").await.is_ok() {
                tokio::time::sleep(LONG / 10).await;
            }
        });
        let error = loop {
            if let Err(error) = connection.read_u8().await {
                break error;
            }
        };
        assert_eq!(error.to_string(), "idle");
        assert!(start.elapsed() >= 4 * LONG && start.elapsed() < 5 * LONG);
        pings.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_may_be_without_a_call_but_not_silent() {
        let Served { mut connection, client: _client, .. } = served(limits()).await;
        drop(connection.info().begin(false).unwrap());
        connection.info().upgraded();
        let start = Instant::now();
        assert_eq!(error(&mut connection).await, "silent");
        assert!(start.elapsed() >= 4 * LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_times_out() {
        let Served { mut connection, client: _client, .. } = served(limits()).await;
        let much = vec![0; 64 << 20];
        let error = connection.write_all(&much).await.expect_err("the buffers are full");
        assert_eq!(error.to_string(), "nothing_taken");
    }

    #[tokio::test]
    async fn closing_ends_a_wait() {
        let Served { mut connection, mut client, .. } = served(limits()).await;
        client.write_all(&[7]).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), 7);
        let info = connection.info().clone();
        let (closed, ()) = tokio::join!(connection.read_u8(), async { info.close() });
        assert_eq!(closed.expect_err("closed").kind(), io::ErrorKind::ConnectionAborted);
    }
}
