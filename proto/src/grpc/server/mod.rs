//! Servers: each wraps a service trait.

mod build;
mod da;
mod executor;
mod sequencer;
mod settlement;
mod submit;

use futures::{Stream, StreamExt};
use tonic::Status;

pub use self::{
    da::DaAdapterServer, executor::ExecutorServer, sequencer::SequencerServer,
    settlement::SettlementServer,
};
use crate::{grpc::error::WireError, service::BoxStream};

/// A stream of replies.
type Replies<T> = BoxStream<T, Status>;

/// Sends a service's stream; an error is its last item.
fn replies<T, M, E>(
    items: impl Stream<Item = Result<T, E>> + Send + 'static,
    to_message: impl Fn(T) -> M + Send + 'static,
) -> Replies<M>
where
    E: WireError,
{
    Box::pin(items.map(move |item| item.map(&to_message).map_err(|error| error.status())))
}
