//! Around every call: the token, the caps on calls, the deadline.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use millrace_proto::grpc::{overloaded, too_slow, unauthenticated};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use super::{
    arriving::Arriving,
    methods::{is_open, streams, waits},
};
use crate::{body::CallBody, connection::ConnectionInfo, edge::Edge};

/// What guards the calls of all connections.
#[derive(Debug, Clone)]
pub struct GrpcGuardLayer {
    edge: Arc<Edge>,
}

impl GrpcGuardLayer {
    pub(super) const fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }
}

impl<S> Layer<S> for GrpcGuardLayer {
    type Service = GrpcGuard<S>;

    fn layer(&self, inner: S) -> GrpcGuard<S> {
        GrpcGuard { inner, edge: self.edge.clone() }
    }
}

/// Services behind the guard.
#[derive(Debug, Clone)]
pub struct GrpcGuard<S> {
    inner: S,
    edge: Arc<Edge>,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for GrpcGuard<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if !is_open(path) && !self.edge.admits(request.headers()) {
            return refuse(unauthenticated());
        }
        let (timed, streams) = (!waits(path), streams(path));
        // Every connection of this server has it.
        let Some(info) = request.extensions().get::<ConnectionInfo>().cloned() else {
            return Box::pin(self.inner.call(request));
        };
        let (local_addr, remote_addr) = (None, Some(info.from()));
        request.extensions_mut().insert(TcpConnectInfo { local_addr, remote_addr });
        let call = match info.begin(timed) {
            Ok(call) => call,
            Err(why) => return refuse(overloaded(why.what(), why.retry_after())),
        };
        let edge = self.edge.clone();
        let arriving = |body| Body::new(Arriving::new(body, edge.clone(), &info, !streams));
        let answer = self.inner.call(request.map(arriving));
        Box::pin(async move {
            let answer = if timed { edge.in_time(answer).await } else { Some(answer.await) };
            let Some(answer) = answer else {
                return Ok(too_slow(edge.limits().call_timeout).into_http());
            };
            // The call is over when its reply is taken.
            Ok(answer?.map(|body| Body::new(CallBody::new(body, call))))
        })
    }
}

fn refuse<E: Send + 'static>(why: Status) -> Answer<E> {
    Box::pin(std::future::ready(Ok(why.into_http())))
}
