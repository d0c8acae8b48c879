//! The settlement service in another process.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    grpc::{
        ClientConfig, ConnectError, Connection, INTERNAL_MESSAGE_LIMIT, Transport,
        client::receive,
        error::WireError,
        pb::{self, settlement_client},
    },
    service::{
        BatchRecord, BatchVerdict, BoxStream, Settlement, SettlementError, SettlementStatus,
    },
    types::{Attestation, ExecutedBlock},
};

/// A [`Settlement`] in another process.
#[derive(Debug, Clone)]
pub struct SettlementClient {
    inner: settlement_client::SettlementClient<Transport>,
}

impl SettlementClient {
    /// Uses a connection.
    pub fn new(connection: Connection) -> Self {
        let inner = settlement_client::SettlementClient::new(connection.transport)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT);
        Self { inner }
    }

    /// Names the service by its URI, with the default [`ClientConfig`]; connects on the first call.
    ///
    /// # Errors
    /// When the URI is not usable.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        ClientConfig::default().connect(uri).map(Self::new)
    }
}

#[async_trait]
impl Settlement for SettlementClient {
    async fn settlement_status(&self) -> Result<SettlementStatus, SettlementError> {
        let request = pb::GetSettlementStatusRequest {};
        let reply = self.inner.clone().get_settlement_status(request).await;
        Ok(reply.map_err(SettlementError::from_status)?.into_inner().try_into()?)
    }

    async fn subscribe_status(
        &self,
    ) -> Result<BoxStream<SettlementStatus, SettlementError>, SettlementError> {
        let request = pb::GetSettlementStatusRequest {};
        let statuses = self.inner.clone().subscribe_settlement_status(request).await;
        let statuses = statuses.map_err(SettlementError::from_status)?.into_inner();
        Ok(receive(statuses, SettlementStatus::try_from))
    }

    async fn batch_of_block(&self, number: u64) -> Result<Option<BatchRecord>, SettlementError> {
        let request = pb::GetBatchOfBlockRequest { number };
        let reply = self.inner.clone().get_batch_of_block(request).await;
        Ok(reply.map_err(SettlementError::from_status)?.into_inner().try_into()?)
    }

    async fn verdict(&self, batch: u64) -> Result<Option<BatchVerdict>, SettlementError> {
        let request = pb::GetVerdictRequest { batch };
        let reply = self.inner.clone().get_verdict(request).await;
        Ok(reply.map_err(SettlementError::from_status)?.into_inner().try_into()?)
    }

    async fn derived_block(
        &self,
        number: u64,
    ) -> Result<Option<Arc<ExecutedBlock>>, SettlementError> {
        let request = pb::GetDerivedBlockRequest { number };
        let reply = self.inner.clone().get_derived_block(request).await;
        Ok(reply.map_err(SettlementError::from_status)?.into_inner().try_into()?)
    }

    async fn attest(&self, batch: u64) -> Result<Option<Attestation>, SettlementError> {
        let reply = self.inner.clone().attest(pb::AttestRequest { batch }).await;
        Ok(reply.map_err(SettlementError::from_status)?.into_inner().try_into()?)
    }
}
