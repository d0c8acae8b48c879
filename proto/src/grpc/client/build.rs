//! A block that an executor in another process builds.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    grpc::{
        Transport,
        convert::{executed_from_pb, missing, noting_to_pb, txs_to_pb},
        error::WireError,
        pb::{
            self, build_request::Step as Request, build_response::Step as Reply,
            executor_client::ExecutorClient,
        },
    },
    service::{BlockBuild, Executed, ExecutorError, Noting, TransportError},
    types::{BlockAttributes, ExecutedBlock, RecoveredTx},
};

/// Opens a block.
pub(super) async fn open(
    mut client: ExecutorClient<Transport>,
    step_timeout: Duration,
    attributes: BlockAttributes,
) -> Result<Box<dyn BlockBuild>, ExecutorError> {
    // One step is under way at a time.
    let (requests, receiver) = mpsc::channel(1);
    let replies = client.build(ReceiverStream::new(receiver)).await;
    let replies = replies.map_err(ExecutorError::from_status)?.into_inner();
    let mut build = RemoteBuild { requests, replies, base_fee: None, block: None, step_timeout };
    match build.step(Request::Open(attributes.into())).await? {
        Reply::Opened(opened) => build.base_fee = opened.base_fee_per_gas,
        _ => return Err(unexpected("opened")),
    }
    Ok(Box::new(build))
}

/// Dropping it ends the stream, on which the executor discards the block.
#[derive(Debug)]
struct RemoteBuild {
    requests: mpsc::Sender<pb::BuildRequest>,
    replies: Streaming<pb::BuildResponse>,
    base_fee: Option<u64>,
    /// Once it is closed.
    block: Option<Arc<ExecutedBlock>>,
    step_timeout: Duration,
}

impl RemoteBuild {
    /// Sends a request and receives its reply.
    async fn step(&mut self, request: Request) -> Result<Reply, ExecutorError> {
        let exchange = async {
            // If the stream is over, its status says why.
            let _ = self.requests.send(pb::BuildRequest { step: Some(request) }).await;
            self.replies.message().await
        };
        let reply = timeout(self.step_timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no reply to a build step")))
            .map_err(ExecutorError::from_status)?
            .ok_or(TransportError::Closed)?;
        Ok(reply.step.ok_or_else(|| missing("BuildResponse.step"))?)
    }
}

#[async_trait]
impl BlockBuild for RemoteBuild {
    fn base_fee(&self) -> Option<u64> {
        self.base_fee
    }

    async fn execute_noting(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
    ) -> Result<Executed, ExecutorError> {
        let batch = pb::TransactionBatch {
            transactions: txs_to_pb(&transactions),
            noting: noting_to_pb(noting).into(),
        };
        let Reply::Outcomes(reply) = self.step(Request::Transactions(batch)).await? else {
            return Err(unexpected("outcomes"));
        };
        if reply.outcomes.len() != transactions.len() {
            return Err(TransportError::malformed(
                "TransactionOutcomes.outcomes",
                format!("{} for {} transactions", reply.outcomes.len(), transactions.len()),
            )
            .into());
        }
        Ok(executed_from_pb(reply)?)
    }

    async fn close(&mut self) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        if let Some(block) = &self.block {
            return Ok(block.clone());
        }
        let Reply::Closed(block) = self.step(Request::Close(pb::Close {})).await? else {
            return Err(unexpected("closed"));
        };
        let block: Arc<_> = block_from_pb(block)?;
        self.block = Some(block.clone());
        Ok(block)
    }

    async fn seal(mut self: Box<Self>) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        let Reply::Sealed(block) = self.step(Request::Seal(pb::Seal {})).await? else {
            return Err(unexpected("sealed"));
        };
        self.block.map_or_else(|| block_from_pb(block), Ok)
    }
}

fn block_from_pb(block: pb::ExecutedBlock) -> Result<Arc<ExecutedBlock>, ExecutorError> {
    Ok(Option::try_from(block)?.ok_or_else(|| missing("ExecutedBlock.header"))?)
}

fn unexpected(expected: &str) -> ExecutorError {
    TransportError::malformed("BuildResponse.step", format!("{expected} was expected")).into()
}
