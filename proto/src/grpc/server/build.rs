//! Serves the block builder: a request stream drives one [`BlockBuild`], a reply a request.

use std::sync::Arc;

use futures::stream;
use tonic::{Status, Streaming};

use crate::{
    grpc::{
        convert::{block_to_pb, executed_to_pb, missing, noting_from_pb, txs_from_pb},
        error::{bad_request, to_status},
        pb::{self, build_request::Step as Request, build_response::Step as Reply},
        server::{Replies, executor::internal},
    },
    service::{BlockBuild, Executor, TransportError},
};

/// The replies to a build's requests. The open block lives in the stream: it is discarded with it, which is when the client
/// goes away, ends its requests, or makes an error.
pub(super) fn build(
    executor: Arc<dyn Executor>,
    requests: Streaming<pb::BuildRequest>,
) -> Replies<pb::BuildResponse> {
    let build = Build { executor, requests, state: State::New };
    Box::pin(stream::try_unfold(build, |mut build| async move {
        let Some(request) = build.requests.message().await? else { return Ok(None) };
        let reply = build.step(request).await?;
        Ok(Some((pb::BuildResponse { step: Some(reply) }, build)))
    }))
}

struct Build {
    executor: Arc<dyn Executor>,
    requests: Streaming<pb::BuildRequest>,
    state: State,
}

enum State {
    New,
    Open(Box<dyn BlockBuild>),
    Closed(Box<dyn BlockBuild>),
    Sealed,
}

impl Build {
    async fn step(&mut self, request: pb::BuildRequest) -> Result<Reply, Status> {
        let request = request.step.ok_or_else(|| bad_request(missing("BuildRequest.step")))?;
        match request {
            Request::Open(attributes) => {
                if !matches!(self.state, State::New) {
                    return Err(out_of_order("a stream builds one block: open another stream"));
                }
                let attributes = attributes.try_into().map_err(bad_request)?;
                let build = self.executor.open_block(attributes).await.map_err(to_status)?;
                let base_fee_per_gas = build.base_fee();
                self.state = State::Open(build);
                Ok(Reply::Opened(pb::Opened { base_fee_per_gas }))
            }
            Request::Transactions(batch) => {
                let State::Open(build) = &mut self.state else { return Err(not_open()) };
                let noting = noting_from_pb(batch.noting());
                let transactions = txs_from_pb(batch.transactions).map_err(bad_request)?;
                let executed =
                    build.execute_noting(transactions, noting).await.map_err(to_status)?;
                Ok(Reply::Outcomes(executed_to_pb(executed).map_err(internal)?))
            }
            Request::Close(pb::Close {}) => {
                let State::Open(mut build) = std::mem::replace(&mut self.state, State::Sealed)
                else {
                    return Err(not_open());
                };
                let block = build.close().await.map_err(to_status)?;
                self.state = State::Closed(build);
                Ok(Reply::Closed(block_to_pb(Some(&block))))
            }
            Request::Seal(pb::Seal {}) => match std::mem::replace(&mut self.state, State::Sealed) {
                State::Open(build) => {
                    let block = build.seal().await.map_err(to_status)?;
                    Ok(Reply::Sealed(block_to_pb(Some(&block))))
                }
                State::Closed(build) => {
                    build.seal().await.map_err(to_status)?;
                    Ok(Reply::Sealed(block_to_pb(None)))
                }
                State::New | State::Sealed => Err(not_open()),
            },
        }
    }
}

fn not_open() -> Status {
    out_of_order("no block is open")
}

fn out_of_order(problem: &str) -> Status {
    bad_request(TransportError::malformed("BuildRequest.step", problem))
}
