//! The sequencer in another process.

use std::sync::Arc;

use alloy::primitives::{Address, Bytes, TxHash};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Code;

use crate::{
    grpc::{
        Access, ClientConfig, ConnectError, Connection, INTERNAL_MESSAGE_LIMIT,
        PUBLIC_REQUEST_LIMIT, Transport,
        client::receive,
        convert::{address_bytes, hash, hash_bytes, missing, wait_to_pb},
        error::{Fault, WireError},
        pb::{self, sequencer_client, submit_transactions_response::Result as Answer},
    },
    service::{
        Admission, BoxStream, ChainHeads, ExecutorError, FrameDetail, PoolStatus, PooledTx,
        Preconfirmations, Sequencer, SequencerError, SequencerStatus, SubmitError, TransportError,
        TxPool, admitted,
    },
    types::{DataPrice, PublishedBlock, RecoveredTx, RejectReason, Stage, TxStatus},
};

/// Largest transaction that fits into a request with its other fields. A larger one would break a stream that it
/// shares with others.
const RAW_LIMIT: usize = PUBLIC_REQUEST_LIMIT - 64;

/// A [`Sequencer`] in another process.
#[derive(Debug, Clone)]
pub struct SequencerClient {
    inner: sequencer_client::SequencerClient<Transport>,
}

impl SequencerClient {
    /// Uses a connection.
    pub fn new(connection: Connection) -> Self {
        let inner = sequencer_client::SequencerClient::new(connection.transport)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(PUBLIC_REQUEST_LIMIT);
        Self { inner }
    }

    /// Names the service by its URI, with the default [`ClientConfig`]; connects on the first call.
    ///
    /// # Errors
    /// When the URI is not usable.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        ClientConfig::default().connect(uri).map(Self::new)
    }

    /// [`Self::connect`] for a server that asks for a token, or whose certificate is one of the caller's own.
    ///
    /// # Errors
    /// When the URI is not usable.
    pub fn connect_with(uri: &str, access: Access) -> Result<Self, ConnectError> {
        ClientConfig::default().connect_with(uri, access).map(Self::new)
    }

    /// Submits transactions over one stream, and reads a result for each that the server took or refused before the
    /// stream ended.
    async fn stream(
        &self,
        raw: Vec<Bytes>,
        results: &mut Vec<Result<TxHash, SubmitError>>,
    ) -> Result<(), SubmitError> {
        let requests = (0u64..).zip(raw).map(|(tag, raw)| pb::SubmitTransactionsRequest {
            raw: raw.0,
            wait_for: wait_to_pb(Stage::Accepted),
            tag,
            batch: Vec::new(),
        });
        let replies = self.inner.clone().submit_transactions(stream::iter(requests)).await;
        let mut replies = replies.map_err(SubmitError::from_status)?.into_inner();
        while let Some(reply) = replies.message().await.map_err(SubmitError::from_status)? {
            if usize::try_from(reply.tag).ok() != Some(results.len()) {
                return Err(malformed(
                    "SubmitTransactionsResponse.tag",
                    "replies are out of order",
                ));
            }
            results.push(result(reply)?);
        }
        Ok(())
    }
}

/// The result that a reply holds; the outer error is one of the stream.
fn result(
    reply: pb::SubmitTransactionsResponse,
) -> Result<Result<TxHash, SubmitError>, SubmitError> {
    match reply.result {
        Some(Answer::Status(status)) => hash("TransactionStatus.hash", &status.hash)
            .map(Ok)
            .map_err(SubmitError::from_transport),
        Some(Answer::Rejection(rejection)) => {
            let fault = Fault::from_rejection(rejection);
            let error = SubmitError::from_fault(&fault);
            Ok(Err(error.unwrap_or_else(|| SubmitError::from_status(fault.into_status()))))
        }
        Some(Answer::Batch(_)) | None => {
            Err(SubmitError::from_transport(missing("SubmitTransactionsResponse.result")))
        }
    }
}

fn malformed(field: &'static str, problem: &str) -> SubmitError {
    SubmitError::from_transport(TransportError::malformed(field, problem))
}

fn check_size(raw: &Bytes) -> Result<(), RejectReason> {
    if raw.len() <= RAW_LIMIT {
        return Ok(());
    }
    Err(RejectReason::Oversize { size: raw.len() as u64, limit: RAW_LIMIT as u64 })
}

#[async_trait]
impl TxPool for SequencerClient {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, SubmitError> {
        check_size(&raw)?;
        let request =
            pb::SubmitTransactionRequest { raw: raw.0, wait_for: wait_to_pb(Stage::Accepted) };
        let reply = self.inner.clone().submit_transaction(request).await;
        let reply = reply.map_err(SubmitError::from_status)?.into_inner();
        let parsed = reply
            .status
            .ok_or_else(|| missing("SubmitTransactionResponse.status"))
            .and_then(|status| hash("TransactionStatus.hash", &status.hash));
        parsed.map_err(SubmitError::from_transport)
    }

    async fn admit(&self, raw: Vec<Bytes>) -> Vec<Admission> {
        admitted(self.submit_many(raw).await)
    }

    async fn pending_nonce(&self, sender: Address) -> Result<u64, SequencerError> {
        let request = pb::GetPendingNonceRequest { address: address_bytes(sender) };
        let reply = self.inner.clone().get_pending_nonce(request).await;
        Ok(reply.map_err(SequencerError::from_status)?.into_inner().nonce)
    }

    async fn pooled(&self, hash: TxHash) -> Result<Option<Arc<RecoveredTx>>, SequencerError> {
        let transaction = self.transaction(hash).await?;
        Ok(transaction
            .filter(|transaction| transaction.status.stage == Stage::Accepted)
            .map(|transaction| transaction.tx))
    }

    async fn stages(&self, hash: TxHash) -> Result<Vec<TxStatus>, SequencerError> {
        let Some(transaction) = self.transaction(hash).await? else { return Ok(Vec::new()) };
        self.watch_until(hash, Some(transaction.status.stage)).await?.try_collect().await
    }

    async fn data_price(&self) -> Result<DataPrice, SequencerError> {
        Ok(self.status().await?.data_price)
    }

    async fn pool_status(&self) -> Result<PoolStatus, SequencerError> {
        Ok(self.status().await?.pool)
    }

    async fn heads(&self) -> Result<ChainHeads, SequencerError> {
        Ok(self.status().await?.heads)
    }

    async fn preconfirmations(
        &self,
        detail: FrameDetail,
    ) -> Result<Option<Preconfirmations>, SequencerError> {
        let state_diff = detail == FrameDetail::StateDiffs;
        let request = pb::SubscribePreconfirmationsRequest { state_diff };
        match self.inner.clone().subscribe_preconfirmations(request).await {
            Ok(frames) => {
                let frames: Preconfirmations =
                    receive(frames.into_inner(), |frame| frame.try_into().map(Arc::new));
                Ok(Some(frames))
            }
            // An older one.
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(SequencerError::from_status(status)),
        }
    }
}

impl SequencerClient {
    /// Sealed blocks from a number on, in order; follows the head. A block whose number came before replaces that one and all after it.
    ///
    /// # Errors
    /// When the sequencer does not answer.
    pub async fn blocks(
        &self,
        from: u64,
    ) -> Result<BoxStream<PublishedBlock, SequencerError>, SequencerError> {
        let request = pb::SubscribeBlocksRequest { from };
        let blocks = self.inner.clone().subscribe_blocks(request).await;
        let blocks = blocks.map_err(SequencerError::from_status)?.into_inner();
        Ok(receive(blocks, PublishedBlock::try_from))
    }

    /// The block with a number, or `None` if there is none.
    ///
    /// # Errors
    /// When the sequencer does not answer.
    pub async fn block(&self, number: u64) -> Result<Option<PublishedBlock>, SequencerError> {
        let id = Some(pb::get_block_request::Id::Number(number));
        match self.inner.clone().get_block(pb::GetBlockRequest { id }).await {
            Ok(reply) => Ok(Some(reply.into_inner().try_into()?)),
            Err(status) => match SequencerError::from_status(status) {
                SequencerError::Executor(ExecutorError::UnknownBlock(_)) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The stages of a transaction, up to one of them or to the last.
    async fn watch_until(
        &self,
        hash: TxHash,
        until: Option<Stage>,
    ) -> Result<BoxStream<TxStatus, SequencerError>, SequencerError> {
        let until = until.filter(|stage| !stage.is_last()).map_or(0, wait_to_pb);
        let request = pb::WatchTransactionRequest { hash: hash_bytes(hash), until };
        let stages = self.inner.clone().watch_transaction(request).await;
        let stages = stages.map_err(SequencerError::from_status)?.into_inner();
        Ok(receive(stages, TxStatus::try_from))
    }
}

#[async_trait]
impl Sequencer for SequencerClient {
    async fn submit_many(&self, raw: Vec<Bytes>) -> Vec<Result<TxHash, SubmitError>> {
        let sizes: Vec<_> = raw.iter().map(check_size).collect();
        let fitting: Vec<_> = raw.into_iter().filter(|raw| check_size(raw).is_ok()).collect();
        let mut results = Vec::with_capacity(fitting.len());
        let ended = match fitting.is_empty() {
            true => Ok(()),
            false => self.stream(fitting, &mut results).await,
        };
        let why = match ended {
            Ok(()) | Err(SubmitError::Rejected(_)) => TransportError::Closed,
            Err(SubmitError::Failed(SequencerError::Transport(error))) => error,
            Err(SubmitError::Failed(error)) => TransportError::malformed("reply", error),
        };
        let mut results = results.into_iter();
        sizes
            .into_iter()
            .map(|size| {
                size?;
                let unanswered = || Err(SubmitError::from_transport(why.clone()));
                results.next().unwrap_or_else(unanswered)
            })
            .collect()
    }

    async fn wait_for(&self, hash: TxHash, stage: Stage) -> Result<TxStatus, SequencerError> {
        let mut stages = self.watch_until(hash, Some(stage)).await?;
        let mut reached = None;
        while let Some(status) = stages.next().await {
            let status = status?;
            if status.stage >= stage {
                reached = Some(status);
            }
        }
        // Read to its end: HTTP/2 counts streams that are dropped half-way, and closes the connection after many.
        reached.ok_or_else(|| TransportError::Closed.into())
    }

    async fn watch(
        &self,
        hash: TxHash,
    ) -> Result<BoxStream<TxStatus, SequencerError>, SequencerError> {
        self.watch_until(hash, None).await
    }

    async fn transaction(&self, hash: TxHash) -> Result<Option<PooledTx>, SequencerError> {
        let request = pb::GetTransactionRequest { hash: hash_bytes(hash) };
        match self.inner.clone().get_transaction(request).await {
            Ok(reply) => Ok(Some(reply.into_inner().try_into()?)),
            Err(status) => match SequencerError::from_status(status) {
                SequencerError::UnknownTransaction(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn status(&self) -> Result<SequencerStatus, SequencerError> {
        let reply = self.inner.clone().get_status(pb::GetStatusRequest {}).await;
        Ok(reply.map_err(SequencerError::from_status)?.into_inner().try_into()?)
    }
}
