//! What a client is told that speaks plain HTTP to a TLS port, in the HTTP that it speaks.

use std::{convert::Infallible, io, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::Notify};
use tonic::{Status, body::Body};
use tower::service_fn;

/// The first byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

const TEXT: &str = "this port speaks TLS: use https://";

/// Whether a client begins with something else than TLS. Waits for its first byte, which it does not take.
pub(crate) async fn speaks_plain(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(socket.peek(&mut first).await? == 1 && first != [HANDSHAKE])
}

/// Answers the first request with what is wrong, and closes. Whoever sends none is left to the caller's deadline.
pub(crate) async fn refuse(socket: TcpStream) {
    let answered = Arc::new(Notify::new());
    let tell = answered.clone();
    let service = service_fn(move |request| {
        tell.notify_one();
        std::future::ready(Ok::<_, Infallible>(answer(&request)))
    });
    let server = Builder::new(TokioExecutor::new());
    let serving = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    tokio::pin!(serving);
    // How it ends is the client's affair.
    let _ = tokio::select! {
        ended = &mut serving => ended,
        () = answered.notified() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
}

fn answer<B>(request: &Request<B>) -> Response<Body> {
    if request.version() == Version::HTTP_2 {
        return Status::failed_precondition(TEXT).into_http();
    }
    let mut response = Response::new(Body::new(format!("{TEXT}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
