//! Clients: each implements the service trait that its server wraps.

mod build;
mod da;
mod executor;
mod sequencer;
mod settlement;

use futures::stream;
use tonic::Streaming;

pub use self::{
    da::DaAdapterClient, executor::ExecutorClient, sequencer::SequencerClient,
    settlement::SettlementClient,
};
use crate::{
    grpc::{convert::Parsed, error::WireError},
    service::BoxStream,
};

/// Receives a stream; it ends after an error.
fn receive<M, T, E>(
    messages: Streaming<M>,
    parse: impl Fn(M) -> Parsed<T> + Send + Copy + 'static,
) -> BoxStream<T, E>
where
    M: Send + 'static,
    T: Send + 'static,
    E: WireError + Send + 'static,
{
    Box::pin(stream::try_unfold(messages, move |mut messages| async move {
        match messages.message().await.map_err(E::from_status)? {
            Some(message) => {
                let item = parse(message).map_err(E::from_transport)?;
                Ok(Some((item, messages)))
            }
            None => Ok(None),
        }
    }))
}
