//! Around every call: the limit on calls in flight, and metrics.

use std::{sync::Arc, time::Instant};

use jsonrpsee::{
    BatchResponseBuilder, MethodResponse,
    server::middleware::rpc::{Batch, BatchEntry, Notification, Request, RpcServiceT},
    types::{
        ErrorObjectOwned,
        error::{METHOD_NOT_FOUND_CODE, SERVER_IS_BUSY_MSG},
    },
};
use tokio::sync::Semaphore;
use tower::Layer;

use crate::{
    connection::Session,
    error::{LIMIT_EXCEEDED, object},
    metrics::CallMetrics,
};

/// What all calls of a server share.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer {
    metrics: Arc<CallMetrics>,
    in_flight: Arc<Semaphore>,
    max_response_bytes: usize,
}

impl CallLayer {
    pub(crate) fn new(metrics: CallMetrics, max_calls: u32, max_response_bytes: u32) -> Self {
        Self {
            metrics: Arc::new(metrics),
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
        let Self { inner, shared } = self.clone();
        async move {
            let start = Instant::now();
            let method = shared.metrics.method(request.method_name());
            let response = match refusal(&request, &shared.in_flight) {
                Ok(_permit) => inner.call(request).await,
                Err(error) => MethodResponse::error(request.id, error),
            };
            method.record(response.as_error_code(), start.elapsed());
            response
        }
    }

    /// Runs the calls in their order: the next transaction of a sender must not overtake the one before it.
    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let mut responses =
                BatchResponseBuilder::new_with_limit(service.shared.max_response_bytes);
            let mut notified = false;
            for entry in batch {
                let response = match entry {
                    Ok(BatchEntry::Call(request)) => service.call(request).await,
                    Ok(BatchEntry::Notification(notification)) => {
                        notified = true;
                        service.notification(notification).await;
                        continue;
                    }
                    Err(invalid) => {
                        let (error, id) = invalid.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_large) = responses.append(response) {
                    return too_large;
                }
            }
            if notified && responses.is_empty() {
                return MethodResponse::notification();
            }
            MethodResponse::from_batch(responses.finish())
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
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
    in_flight.try_acquire().map_err(|_| object(LIMIT_EXCEEDED, SERVER_IS_BUSY_MSG, None::<()>))
}
