//! Serves the public API: a [`Sequencer`], and the blocks of its [`Executor`].

use std::{sync::Arc, time::SystemTime};

use alloy::primitives::TxHash;
use futures::{StreamExt, stream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    grpc::{
        connection::{INTERNAL_MESSAGE_LIMIT, PUBLIC_REQUEST_LIMIT},
        convert::{Wait, address, frame_to_pb, hash},
        error::{bad_request, to_status},
        pb::{self, get_block_request::Id, sequencer_server},
        server::{Replies, replies, submit::submit_transactions},
    },
    service::{
        BlockSelector, Executor, ExecutorError, FrameDetail, Sequencer, SequencerError,
        TransportError,
    },
    types::{Preconfirmation, Stage, TxStatus},
};

/// Serves a sequencer to the public.
#[derive(Debug, Clone)]
pub struct SequencerServer {
    sequencer: Arc<dyn Sequencer>,
    executor: Arc<dyn Executor>,
}

impl SequencerServer {
    /// Wraps a sequencer, and the executor that holds its blocks.
    pub fn new(sequencer: Arc<dyn Sequencer>, executor: Arc<dyn Executor>) -> Self {
        Self { sequencer, executor }
    }

    /// The service to add to a gRPC server.
    pub fn into_service(self) -> sequencer_server::SequencerServer<Self> {
        sequencer_server::SequencerServer::new(self)
            .max_decoding_message_size(PUBLIC_REQUEST_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT)
    }

    /// The block that a request names.
    async fn select(&self, id: Option<Id>) -> Result<BlockSelector, Status> {
        match id.unwrap_or(Id::Head(pb::Head::Latest.into())) {
            Id::Number(number) => Ok(BlockSelector::Number(number)),
            Id::Hash(bytes) => {
                hash("GetBlockRequest.hash", &bytes).map(BlockSelector::Hash).map_err(bad_request)
            }
            Id::Head(head) => {
                let head = pb::Head::try_from(head).map_err(|error| {
                    bad_request(TransportError::malformed("GetBlockRequest.head", error))
                })?;
                let heads = || async { self.sequencer.heads().await.map_err(to_status) };
                Ok(match head {
                    pb::Head::Latest => BlockSelector::Latest,
                    pb::Head::Safe => BlockSelector::Hash(heads().await?.safe.hash),
                    pb::Head::Finalized => BlockSelector::Hash(heads().await?.finalized.hash),
                })
            }
        }
    }
}

/// A transaction's status when it reached a stage. Acceptance is known from the submission's result alone.
pub(super) async fn status_at(
    sequencer: &dyn Sequencer,
    hash: TxHash,
    Wait(stage): Wait,
) -> Result<TxStatus, SequencerError> {
    if stage > Stage::Accepted {
        return sequencer.wait_for(hash, stage).await;
    }
    Ok(TxStatus {
        hash,
        stage: Stage::Accepted,
        reached_at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok(),
        inclusion: None,
        batch: None,
        l1: None,
        reason: None,
    })
}

type Reply<T> = Result<Response<T>, Status>;

#[async_trait]
impl sequencer_server::Sequencer for SequencerServer {
    type SubmitTransactionsStream = Replies<pb::SubmitTransactionsResponse>;
    type WatchTransactionStream = Replies<pb::TransactionStatus>;
    type SubscribeBlocksStream = Replies<pb::Block>;
    type SubscribePreconfirmationsStream = Replies<pb::Preconfirmation>;

    async fn submit_transaction(
        &self,
        request: Request<pb::SubmitTransactionRequest>,
    ) -> Reply<pb::SubmitTransactionResponse> {
        let from = request.remote_addr().map(|address| address.ip());
        let request = request.into_inner();
        let wait = Wait::parse(request.wait_for, Stage::Sequenced).map_err(bad_request)?;
        let submitted = self.sequencer.submit_from(request.raw.into(), from).await;
        let hash = submitted.map_err(to_status)?;
        let status = status_at(&*self.sequencer, hash, wait).await.map_err(to_status)?;
        Ok(Response::new(pb::SubmitTransactionResponse { status: Some(status.into()) }))
    }

    async fn submit_transactions(
        &self,
        request: Request<Streaming<pb::SubmitTransactionsRequest>>,
    ) -> Reply<Self::SubmitTransactionsStream> {
        let from = request.remote_addr().map(|address| address.ip());
        Ok(Response::new(submit_transactions(self.sequencer.clone(), from, request.into_inner())))
    }

    async fn watch_transaction(
        &self,
        request: Request<pb::WatchTransactionRequest>,
    ) -> Reply<Self::WatchTransactionStream> {
        let request = request.into_inner();
        let hash = hash("WatchTransactionRequest.hash", &request.hash).map_err(bad_request)?;
        let Wait(until) = Wait::parse(request.until, Stage::Finalized).map_err(bad_request)?;
        let stages = self.sequencer.watch(hash).await.map_err(to_status)?;
        // Ends with the stage that was asked for, not with the one after it.
        let stages = stream::unfold(Some(stages), move |stages| async move {
            let mut stages = stages?;
            let status = stages.next().await?;
            let last = status.as_ref().map_or(true, |status| status.stage >= until);
            Some((status, (!last).then_some(stages)))
        });
        Ok(Response::new(replies(stages, Into::into)))
    }

    async fn get_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Reply<pb::Transaction> {
        let hash =
            hash("GetTransactionRequest.hash", &request.into_inner().hash).map_err(bad_request)?;
        let transaction = self.sequencer.transaction(hash).await.map_err(to_status)?;
        let transaction =
            transaction.ok_or_else(|| to_status(SequencerError::UnknownTransaction(hash)))?;
        Ok(Response::new(transaction.into()))
    }

    async fn get_block(&self, request: Request<pb::GetBlockRequest>) -> Reply<pb::Block> {
        let at = self.select(request.into_inner().id).await?;
        let block = self.executor.block(at).await.map_err(to_status)?;
        let block = block.ok_or_else(|| to_status(ExecutorError::UnknownBlock(at)))?;
        Ok(Response::new((&*block).into()))
    }

    async fn subscribe_blocks(
        &self,
        request: Request<pb::SubscribeBlocksRequest>,
    ) -> Reply<Self::SubscribeBlocksStream> {
        let from = request.into_inner().from;
        let blocks = self.executor.subscribe(from).await.map_err(to_status)?;
        Ok(Response::new(replies(blocks, |block| (&*block).into())))
    }

    async fn subscribe_preconfirmations(
        &self,
        request: Request<pb::SubscribePreconfirmationsRequest>,
    ) -> Reply<Self::SubscribePreconfirmationsStream> {
        let detail = match request.into_inner().state_diff {
            true => FrameDetail::StateDiffs,
            false => FrameDetail::Receipts,
        };
        let frames = self.sequencer.preconfirmations(detail).await.map_err(to_status)?;
        let frames = frames.ok_or_else(|| Status::unimplemented("no frames are told here"))?;
        let message = move |frame: Result<Arc<Preconfirmation>, SequencerError>| {
            let frame = frame.map_err(to_status)?;
            frame_to_pb(&frame, detail).map_err(|error| to_status(SequencerError::Transport(error)))
        };
        Ok(Response::new(frames.map(message).boxed()))
    }

    async fn get_pending_nonce(
        &self,
        request: Request<pb::GetPendingNonceRequest>,
    ) -> Reply<pb::PendingNonce> {
        let sender = address("GetPendingNonceRequest.address", &request.into_inner().address)
            .map_err(bad_request)?;
        let nonce = self.sequencer.pending_nonce(sender).await.map_err(to_status)?;
        Ok(Response::new(pb::PendingNonce { nonce }))
    }

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Reply<pb::SequencerStatus> {
        let status = self.sequencer.status().await.map_err(to_status)?;
        Ok(Response::new(status.into()))
    }
}
