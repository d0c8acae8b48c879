//! Serves a [`Settlement`].

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{
        connection::INTERNAL_MESSAGE_LIMIT,
        convert::block_to_pb,
        error::to_status,
        pb::{self, settlement_server},
        server::{Replies, replies},
    },
    service::Settlement,
};

/// Serves a settlement service to the other services.
#[derive(Debug, Clone)]
pub struct SettlementServer {
    settlement: Arc<dyn Settlement>,
}

impl SettlementServer {
    /// Wraps a settlement service.
    pub fn new(settlement: Arc<dyn Settlement>) -> Self {
        Self { settlement }
    }

    /// The service to add to a gRPC server.
    pub fn into_service(self) -> settlement_server::SettlementServer<Self> {
        settlement_server::SettlementServer::new(self)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT)
    }
}

#[async_trait]
impl settlement_server::Settlement for SettlementServer {
    type SubscribeSettlementStatusStream = Replies<pb::SettlementStatus>;

    async fn get_settlement_status(
        &self,
        _: Request<pb::GetSettlementStatusRequest>,
    ) -> Result<Response<pb::SettlementStatus>, Status> {
        let status = self.settlement.settlement_status().await.map_err(to_status)?;
        Ok(Response::new(status.into()))
    }

    async fn subscribe_settlement_status(
        &self,
        _: Request<pb::GetSettlementStatusRequest>,
    ) -> Result<Response<Self::SubscribeSettlementStatusStream>, Status> {
        let statuses = self.settlement.subscribe_status().await.map_err(to_status)?;
        Ok(Response::new(replies(statuses, Into::into)))
    }

    async fn get_batch_of_block(
        &self,
        request: Request<pb::GetBatchOfBlockRequest>,
    ) -> Result<Response<pb::BatchRecord>, Status> {
        let number = request.into_inner().number;
        let record = self.settlement.batch_of_block(number).await.map_err(to_status)?;
        Ok(Response::new(record.into()))
    }

    async fn get_verdict(
        &self,
        request: Request<pb::GetVerdictRequest>,
    ) -> Result<Response<pb::BatchVerdict>, Status> {
        let batch = request.into_inner().batch;
        let verdict = self.settlement.verdict(batch).await.map_err(to_status)?;
        Ok(Response::new(verdict.into()))
    }

    async fn get_derived_block(
        &self,
        request: Request<pb::GetDerivedBlockRequest>,
    ) -> Result<Response<pb::ExecutedBlock>, Status> {
        let number = request.into_inner().number;
        let block = self.settlement.derived_block(number).await.map_err(to_status)?;
        Ok(Response::new(block_to_pb(block.as_deref())))
    }

    async fn attest(
        &self,
        request: Request<pb::AttestRequest>,
    ) -> Result<Response<pb::AttestReply>, Status> {
        let batch = request.into_inner().batch;
        let attestation = self.settlement.attest(batch).await.map_err(to_status)?;
        Ok(Response::new(attestation.into()))
    }
}
