//! Around every HTTP request: the token, the caps on calls and bytes, the deadline.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body::Body;
use jsonrpsee::{
    Extensions,
    core::BoxError,
    server::{HttpBody, HttpRequest, HttpResponse, ws::is_upgrade_request},
};
use millrace_edge::{Call, CallBody, ConnectionInfo, Edge, HeldBody, Shed};
use serde_json::json;
use tower::{Layer, Service};

use crate::error::LIMIT_EXCEEDED;

/// The address that a call came from.
pub(crate) fn caller(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectionInfo>().map(|info| info.from().ip())
}

/// A WebSocket's calls carry it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    info: ConnectionInfo,
    edge: Arc<Edge>,
}

impl Session {
    /// Closes the connection at once.
    pub(crate) fn close(&self) {
        self.info.close();
    }

    /// A call begins: it has its place among all and its client's until its reply is on its way.
    pub(crate) fn begin(&self) -> Result<Call, Shed> {
        self.info.begin(false)
    }

    /// Room for a reply that is about to be sent.
    pub(crate) fn hold_reply(&self, bytes: usize) -> Result<(), Shed> {
        self.info.hold_reply(bytes)
    }

    /// Something is about to be sent that takes no room.
    pub(crate) fn passes(&self, bytes: usize) {
        self.info.passes(bytes);
    }

    /// What a call comes to, or `None` once it has taken as long as one over HTTP may.
    pub(crate) async fn in_time<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        self.edge.in_time(call).await
    }
}

/// Puts a connection's [`ConnectionInfo`] on its requests.
#[derive(Debug, Clone)]
pub(crate) struct MarkConnection<S> {
    inner: S,
    info: ConnectionInfo,
    edge: Arc<Edge>,
}

impl<S> MarkConnection<S> {
    pub(crate) const fn new(inner: S, info: ConnectionInfo, edge: Arc<Edge>) -> Self {
        Self { inner, info, edge }
    }
}

impl<S, B> Service<HttpRequest<B>> for MarkConnection<S>
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
        request.extensions_mut().insert(self.info.clone());
        if is_upgrade_request(&request) {
            let session = Session { info: self.info.clone(), edge: self.edge.clone() };
            request.extensions_mut().insert(session);
        }
        self.inner.call(request)
    }
}

/// What guards the requests of all connections.
#[derive(Debug, Clone)]
pub(crate) struct GuardLayer {
    edge: Arc<Edge>,
}

impl GuardLayer {
    pub(crate) const fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, guard: self.clone() }
    }
}

/// A service behind the guard.
#[derive(Debug, Clone)]
pub(crate) struct Guard<S> {
    inner: S,
    guard: GuardLayer,
}

type Answer = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

impl<S, B> Service<HttpRequest<B>> for Guard<S>
where
    S: Service<HttpRequest<HttpBody>, Response = HttpResponse, Error = BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Answer {
        let edge = &self.guard.edge;
        if !edge.admits(request.headers()) {
            return answer(unauthorized());
        }
        // Every connection of this server is marked.
        let Some(info) = request.extensions().get::<ConnectionInfo>().cloned() else {
            return answer(refusal(StatusCode::INTERNAL_SERVER_ERROR, "whose call is it?"));
        };
        let call = match info.begin(!is_upgrade_request(&request)) {
            Ok(call) => call,
            Err(why) => return answer(busy(why)),
        };
        let held = info.held_bytes();
        let request = request.map(|body| HttpBody::new(HeldBody::new(body, held.clone())));
        let answer = self.inner.call(request);
        let edge = edge.clone();
        Box::pin(async move {
            let Some(answer) = edge.in_time(answer).await else { return Ok(too_slow()) };
            if let Some(why) = held.refused() {
                return Ok(busy(why));
            }
            let answer = answer?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                info.upgraded();
                return Ok(answer);
            }
            // The call is over when its answer is taken.
            let (head, body) = answer.into_parts();
            match CallBody::whole(body, call, &info) {
                Ok(body) => Ok(HttpResponse::from_parts(head, HttpBody::new(body))),
                Err(why) => Ok(busy(why)),
            }
        })
    }
}

fn answer(response: HttpResponse) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

fn unauthorized() -> HttpResponse {
    let mut response =
        refusal(StatusCode::UNAUTHORIZED, "this port wants a token: authorization: Bearer TOKEN");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn busy(why: Shed) -> HttpResponse {
    let status = match why {
        Shed::PeerCalls => StatusCode::TOO_MANY_REQUESTS,
        Shed::Calls | Shed::Bytes | Shed::Unsent => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = refusal(status, &format!("server is busy: too many {}", why.what()));
    let seconds = why.retry_after().as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn too_slow() -> HttpResponse {
    refusal(StatusCode::REQUEST_TIMEOUT, "the request did not arrive, or was not answered, in time")
}

/// In the form of an answer, for clients that look for one whatever the status.
fn refusal(status: StatusCode, message: &str) -> HttpResponse {
    let error = json!({ "code": LIMIT_EXCEEDED, "message": message });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
    let mut response = HttpResponse::new(HttpBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
