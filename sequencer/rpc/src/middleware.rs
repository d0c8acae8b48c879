//! Around every call: the limit on calls in flight, and metrics.

use std::{iter::Peekable, net::IpAddr, sync::Arc};

use alloy::primitives::Bytes;
use jsonrpsee::{
    BatchResponseBuilder, MethodResponse, ResponsePayload,
    server::middleware::rpc::{Batch, BatchEntry, Notification, Request, RpcServiceT},
    types::{
        ErrorObjectOwned, Id,
        error::{METHOD_NOT_FOUND_CODE, SERVER_IS_BUSY_MSG},
    },
};
use millrace_edge::Shed;
use millrace_proto::TxPool;
use tokio::sync::Semaphore;
use tower::Layer;

use crate::{
    error::{CallError, LIMIT_EXCEEDED, object},
    guard::{Session, caller},
    metrics::CallMetrics,
};

/// What all calls of a server share.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer {
    metrics: Arc<CallMetrics>,
    in_flight: Arc<Semaphore>,
    max_response_bytes: usize,
    pool: Arc<dyn TxPool>,
}

impl CallLayer {
    pub(crate) fn new(
        metrics: CallMetrics,
        max_calls: u32,
        max_response_bytes: u32,
        pool: Arc<dyn TxPool>,
    ) -> Self {
        Self {
            metrics: Arc::new(metrics),
            pool,
            in_flight: Arc::new(Semaphore::new(max_calls as usize)),
            max_response_bytes: max_response_bytes as usize,
        }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, shared: self.clone() }
    }
}

/// A connection's calls.
#[derive(Debug, Clone)]
pub(crate) struct CallService<S> {
    inner: S,
    shared: CallLayer,
}

impl<S> RpcServiceT for CallService<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let session = request.extensions().get::<Session>().cloned();
            let Some(session) = session else { return service.one(request).await };
            let id = request.id().into_owned();
            within(&session, id, service.one(request)).await
        }
    }

    /// Runs the calls in their order: the next transaction of a sender must not overtake the one before it. Transactions that follow each other are
    /// submitted together.
    fn batch<'a>(&self, mut batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let session = batch.extensions().get::<Session>().cloned();
            let Some(session) = session else { return service.all(batch).await };
            within(&session, Id::Null, service.all(batch)).await
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
}

impl<S> CallService<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    /// Runs one call.
    fn one<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let Self { inner, shared } = self.clone();
        async move {
            let mut running = shared.metrics.method(request.method_name()).begin(1);
            let response = match refusal(&request, &shared.in_flight) {
                Ok(_permit) => inner.call(request).await,
                Err(error) => MethodResponse::error(request.id, error),
            };
            running.ended(response.as_error_code());
            response
        }
    }

    /// Runs the calls of a batch.
    fn all<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let mut responses =
                BatchResponseBuilder::new_with_limit(service.shared.max_response_bytes);
            let mut notified = false;
            let mut entries = batch.into_iter().peekable();
            while let Some(entry) = entries.next() {
                let done = match entry {
                    Ok(BatchEntry::Call(request)) => match Submission::of(&request) {
                        Some(first) => {
                            let from = caller(request.extensions());
                            let together = Submission::with_next(first, &mut entries);
                            service.shared.submit(together, from).await
                        }
                        None => vec![service.one(request).await],
                    },
                    Ok(BatchEntry::Notification(notification)) => {
                        notified = true;
                        service.notification(notification).await;
                        continue;
                    }
                    Err(invalid) => {
                        let (error, id) = invalid.into_parts();
                        vec![MethodResponse::error(id, error)]
                    }
                };
                for response in done {
                    if let Err(too_large) = responses.append(response) {
                        return too_large;
                    }
                }
            }
            if notified && responses.is_empty() {
                return MethodResponse::notification();
            }
            MethodResponse::from_batch(responses.finish())
        }
    }
}

/// What a WebSocket is given: the response, or that its client has too many calls under way, that the call takes too long, or that too many replies lie untaken.
async fn within(
    session: &Session,
    id: Id<'_>,
    response: impl Future<Output = MethodResponse>,
) -> MethodResponse {
    let _call = match session.begin() {
        Ok(call) => call,
        Err(why) => return shed(why, session, id),
    };
    let Some(response) = session.in_time(response).await else {
        return failed("the call was not answered in time".into(), session, id);
    };
    // These two are not sent from here.
    if response.is_subscription() || response.is_notification() {
        return response;
    }
    match session.hold_reply(response.as_json().get().len()) {
        Ok(()) => response,
        Err(why) => shed(why, session, id),
    }
}

fn shed(why: Shed, session: &Session, id: Id<'_>) -> MethodResponse {
    failed(format!("server is busy: too many {}", why.what()), session, id)
}

fn failed(message: String, session: &Session, id: Id<'_>) -> MethodResponse {
    let error = MethodResponse::error(id, object(LIMIT_EXCEEDED, message, None::<()>));
    session.passes(error.as_json().get().len());
    error
}

/// A call that submits a transaction.
struct Submission {
    id: Id<'static>,
    raw: Bytes,
}

impl Submission {
    const METHOD: &str = "eth_sendRawTransaction";

    /// `None` if it is another call, or one that does not say what it has to.
    fn of(request: &Request<'_>) -> Option<Self> {
        if request.method_name() != Self::METHOD {
            return None;
        }
        let (raw,) = request.params().parse().ok()?;
        Some(Self { id: request.id().into_owned(), raw })
    }

    /// With those that follow it without another call in between.
    fn with_next<'a, E>(
        self,
        entries: &mut Peekable<impl Iterator<Item = Result<BatchEntry<'a>, E>>>,
    ) -> Vec<Self> {
        let mut together = vec![self];
        while let Some(Ok(BatchEntry::Call(request))) = entries.peek()
            && let Some(next) = Self::of(request)
        {
            together.push(next);
            entries.next();
        }
        together
    }
}

impl CallLayer {
    /// Submits transactions together, which counts as one call, and responds to each.
    async fn submit(
        &self,
        submissions: Vec<Submission>,
        from: Option<IpAddr>,
    ) -> Vec<MethodResponse> {
        let mut running = self.metrics.method(Submission::METHOD).begin(submissions.len());
        let (ids, raw): (Vec<_>, Vec<_>) =
            submissions.into_iter().map(|submission| (submission.id, submission.raw)).unzip();
        let permit = self.in_flight.try_acquire();
        let admissions =
            if permit.is_ok() { self.pool.admit_from(raw, from).await } else { Vec::new() };
        let mut admissions = admissions.into_iter();
        let mut responses = Vec::with_capacity(ids.len());
        for id in ids {
            let response = match admissions.next() {
                None => MethodResponse::error(id, busy()),
                Some(admission) => match admission.await {
                    Ok(hash) => {
                        let payload = ResponsePayload::success(hash);
                        MethodResponse::response(id, payload, self.max_response_bytes)
                    }
                    Err(error) => MethodResponse::error(id, CallError::from(error)),
                },
            };
            running.ended(response.as_error_code());
            responses.push(response);
        }
        responses
    }
}

fn busy() -> ErrorObjectOwned {
    object(LIMIT_EXCEEDED, SERVER_IS_BUSY_MSG, None::<()>)
}

/// Leave to run a call, or why it does not run.
fn refusal<'s>(
    request: &Request<'_>,
    in_flight: &'s Semaphore,
) -> Result<tokio::sync::SemaphorePermit<'s>, ErrorObjectOwned> {
    let subscribes = matches!(request.method_name(), "eth_subscribe" | "eth_unsubscribe");
    if subscribes && request.extensions().get::<Session>().is_none() {
        return Err(object(
            METHOD_NOT_FOUND_CODE,
            "notifications not supported over HTTP; connect with WebSocket",
            None::<()>,
        ));
    }
    in_flight.try_acquire().map_err(|_| busy())
}
