//! The DA adapter in another process.

use async_trait::async_trait;

use crate::{
    grpc::{
        ClientConfig, ConnectError, Connection, INTERNAL_MESSAGE_LIMIT, Transport,
        error::WireError,
        pb::{self, da_adapter_client},
    },
    service::{DaAdapter, DaAdapterError, DaStatus, OutboxBatch},
};

/// A [`DaAdapter`] in another process.
#[derive(Debug, Clone)]
pub struct DaAdapterClient {
    inner: da_adapter_client::DaAdapterClient<Transport>,
}

impl DaAdapterClient {
    /// Uses a connection.
    pub fn new(connection: Connection) -> Self {
        let inner = da_adapter_client::DaAdapterClient::new(connection.transport)
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
impl DaAdapter for DaAdapterClient {
    async fn da_status(&self) -> Result<DaStatus, DaAdapterError> {
        let reply = self.inner.clone().get_da_status(pb::GetDaStatusRequest {}).await;
        Ok(reply.map_err(DaAdapterError::from_status)?.into_inner().try_into()?)
    }

    async fn use_backend(&self, backend: Option<&str>) -> Result<(), DaAdapterError> {
        let backend = backend.unwrap_or_default().to_owned();
        let reply = self.inner.clone().use_backend(pb::UseBackendRequest { backend }).await;
        reply.map_err(DaAdapterError::from_status)?;
        Ok(())
    }

    async fn batch(&self, number: u64) -> Result<Option<OutboxBatch>, DaAdapterError> {
        let reply = self.inner.clone().get_batch(pb::GetBatchRequest { number }).await;
        Ok(reply.map_err(DaAdapterError::from_status)?.into_inner().try_into()?)
    }
}
