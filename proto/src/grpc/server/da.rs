//! Serves a [`DaAdapter`].

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{
        connection::INTERNAL_MESSAGE_LIMIT,
        error::{operators_only, to_status},
        pb::{self, da_adapter_server},
    },
    service::DaAdapter,
};

/// Serves a DA adapter to the other services, or to its operators.
#[derive(Debug, Clone)]
pub struct DaAdapterServer {
    adapter: Arc<dyn DaAdapter>,
    for_operators: bool,
}

impl DaAdapterServer {
    /// Wraps a DA adapter for the other services: what only operators may do is refused.
    pub fn new(adapter: Arc<dyn DaAdapter>) -> Self {
        Self { adapter, for_operators: false }
    }

    /// Wraps a DA adapter for its operators.
    pub fn for_operators(adapter: Arc<dyn DaAdapter>) -> Self {
        Self { adapter, for_operators: true }
    }

    /// The service to add to a gRPC server.
    pub fn into_service(self) -> da_adapter_server::DaAdapterServer<Self> {
        da_adapter_server::DaAdapterServer::new(self)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT)
    }
}

#[async_trait]
impl da_adapter_server::DaAdapter for DaAdapterServer {
    async fn get_da_status(
        &self,
        _: Request<pb::GetDaStatusRequest>,
    ) -> Result<Response<pb::DaStatus>, Status> {
        let status = self.adapter.da_status().await.map_err(to_status)?;
        Ok(Response::new(status.into()))
    }

    async fn use_backend(
        &self,
        request: Request<pb::UseBackendRequest>,
    ) -> Result<Response<pb::DaStatus>, Status> {
        if !self.for_operators {
            return Err(operators_only());
        }
        let backend = request.into_inner().backend;
        let backend = Some(backend.as_str()).filter(|backend| !backend.is_empty());
        self.adapter.use_backend(backend).await.map_err(to_status)?;
        let status = self.adapter.da_status().await.map_err(to_status)?;
        Ok(Response::new(status.into()))
    }

    async fn get_batch(
        &self,
        request: Request<pb::GetBatchRequest>,
    ) -> Result<Response<pb::Batch>, Status> {
        let batch = self.adapter.batch(request.into_inner().number).await.map_err(to_status)?;
        Ok(Response::new(batch.into()))
    }
}
