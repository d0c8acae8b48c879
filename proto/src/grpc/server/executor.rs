//! Serves an [`Executor`].

use std::sync::Arc;

use alloy::{eips::BlockNumHash, primitives::Address, rpc::types::Filter};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    grpc::{
        connection::INTERNAL_MESSAGE_LIMIT,
        convert::{
            Parsed, address, address_bytes, block_to_pb, call_from_pb, from_json, hash,
            selector_from_pb, to_json, trace_from_pb,
        },
        error::{bad_request, to_status},
        pb::{self, executor_server},
        server::{Replies, build::build, replies},
    },
    service::{BlockSelector, CallRequest, Executor, ExecutorError},
};

/// Serves an executor to the other services.
#[derive(Debug, Clone)]
pub struct ExecutorServer {
    executor: Arc<dyn Executor>,
}

impl ExecutorServer {
    /// Wraps an executor.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor }
    }

    /// The service to add to a gRPC server.
    pub fn into_service(self) -> executor_server::ExecutorServer<Self> {
        executor_server::ExecutorServer::new(self)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT)
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[async_trait]
impl executor_server::Executor for ExecutorServer {
    type BuildStream = Replies<pb::BuildResponse>;
    type SubscribeExecutedBlocksStream = Replies<pb::ExecutedBlock>;

    async fn build(
        &self,
        request: Request<Streaming<pb::BuildRequest>>,
    ) -> Reply<Self::BuildStream> {
        Ok(Response::new(build(self.executor.clone(), request.into_inner())))
    }

    async fn get_genesis(&self, _: Request<pb::GetGenesisRequest>) -> Reply<pb::Genesis> {
        let spec = self.executor.spec().await.map_err(to_status)?;
        let json = to_json("Genesis.json", spec.genesis()).map_err(internal)?;
        Ok(Response::new(pb::Genesis { json }))
    }

    async fn get_head(&self, _: Request<pb::GetHeadRequest>) -> Reply<pb::SealedHeader> {
        let head = self.executor.head().await.map_err(to_status)?;
        Ok(Response::new((&head).into()))
    }

    async fn get_header(&self, request: Request<pb::BlockSelector>) -> Reply<pb::SealedHeader> {
        let at = parse_at(Some(request.into_inner()))?;
        let header = self.executor.header(at).await.map_err(to_status)?;
        Ok(Response::new(header.as_ref().map(Into::into).unwrap_or_default()))
    }

    async fn get_executed_block(
        &self,
        request: Request<pb::BlockSelector>,
    ) -> Reply<pb::ExecutedBlock> {
        let at = parse_at(Some(request.into_inner()))?;
        let block = self.executor.block(at).await.map_err(to_status)?;
        Ok(Response::new(block_to_pb(block.as_deref())))
    }

    async fn subscribe_executed_blocks(
        &self,
        request: Request<pb::SubscribeExecutedBlocksRequest>,
    ) -> Reply<Self::SubscribeExecutedBlocksStream> {
        let from = request.into_inner().from;
        let blocks = self.executor.subscribe(from).await.map_err(to_status)?;
        Ok(Response::new(replies(blocks, |block| (&*block).into())))
    }

    async fn unwind(&self, request: Request<pb::UnwindRequest>) -> Reply<pb::UnwindResponse> {
        let pb::UnwindRequest { number, hash: bytes } = request.into_inner();
        let hash = hash("UnwindRequest.hash", &bytes).map_err(bad_request)?;
        self.executor.unwind(BlockNumHash { number, hash }).await.map_err(to_status)?;
        Ok(Response::new(pb::UnwindResponse {}))
    }

    async fn locate_transaction(
        &self,
        request: Request<pb::LocateTransactionRequest>,
    ) -> Reply<pb::TransactionLocation> {
        let hash = hash("LocateTransactionRequest.hash", &request.into_inner().hash)
            .map_err(bad_request)?;
        let location = self.executor.locate(hash).await.map_err(to_status)?;
        Ok(Response::new(location.into()))
    }

    async fn get_accounts(&self, request: Request<pb::GetAccountsRequest>) -> Reply<pb::Accounts> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let addresses = request
            .addresses
            .iter()
            .map(|bytes| address("GetAccountsRequest.addresses", bytes))
            .collect::<Parsed<Vec<_>>>()
            .map_err(bad_request)?;
        let accounts = self.executor.accounts(&addresses, at).await.map_err(to_status)?;
        let accounts = accounts.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::Accounts { accounts }))
    }

    async fn find_accounts(
        &self,
        request: Request<pb::FindAccountsRequest>,
    ) -> Reply<pb::FoundAccounts> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let prefixes = request.prefixes.into_iter().map(TryInto::try_into);
        let prefixes = prefixes.collect::<Parsed<Vec<_>>>().map_err(bad_request)?;
        let found = self.executor.find_accounts(&prefixes, at).await.map_err(to_status)?;
        let bytes = |found: Option<Address>| found.map(address_bytes).unwrap_or_default();
        let addresses = found.accounts.into_iter().map(bytes).collect();
        Ok(Response::new(pb::FoundAccounts { addresses, total: found.total }))
    }

    async fn get_storage(
        &self,
        request: Request<pb::GetStorageRequest>,
    ) -> Reply<pb::StorageValue> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let account =
            address("GetStorageRequest.address", &request.address).map_err(bad_request)?;
        let slot = hash("GetStorageRequest.slot", &request.slot).map_err(bad_request)?;
        let value = self.executor.storage(account, slot, at).await.map_err(to_status)?;
        Ok(Response::new(value.into()))
    }

    async fn get_code(&self, request: Request<pb::GetCodeRequest>) -> Reply<pb::Code> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let account = address("GetCodeRequest.address", &request.address).map_err(bad_request)?;
        let code = self.executor.code(account, at).await.map_err(to_status)?;
        Ok(Response::new(pb::Code { code: code.0 }))
    }

    async fn get_proof(&self, request: Request<pb::GetProofRequest>) -> Reply<pb::JsonValue> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let account = address("GetProofRequest.address", &request.address).map_err(bad_request)?;
        let slots = request
            .slots
            .iter()
            .map(|slot| hash("GetProofRequest.slots", slot))
            .collect::<Parsed<Vec<_>>>()
            .map_err(bad_request)?;
        let proof = self.executor.proof(account, slots, at).await.map_err(to_status)?;
        json_reply(&proof)
    }

    async fn call(&self, request: Request<pb::CallRequest>) -> Reply<pb::CallResponse> {
        let (call, at) = parse_call(request)?;
        let outcome = self.executor.call(call, at).await.map_err(to_status)?;
        Ok(Response::new(outcome.into()))
    }

    async fn estimate_gas(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Reply<pb::EstimateGasResponse> {
        let (call, at) = parse_call(request)?;
        let estimate = self.executor.estimate_gas(call, at).await.map_err(to_status)?;
        Ok(Response::new(estimate.into()))
    }

    async fn create_access_list(&self, request: Request<pb::CallRequest>) -> Reply<pb::JsonValue> {
        let (call, at) = parse_call(request)?;
        let list = self.executor.create_access_list(call, at).await.map_err(to_status)?;
        json_reply(&list)
    }

    async fn trace(&self, request: Request<pb::TraceRequest>) -> Reply<pb::JsonValue> {
        let (target, options) = trace_from_pb(request.into_inner()).map_err(bad_request)?;
        let trace = self.executor.trace(target, options).await.map_err(to_status)?;
        let json = Box::<str>::from(trace).into_string().into();
        Ok(Response::new(pb::JsonValue { json }))
    }

    async fn simulate(&self, request: Request<pb::SimulateRequest>) -> Reply<pb::SimulatedBlocks> {
        let request = request.into_inner();
        let at = parse_at(request.at)?;
        let payload = from_json("SimulateRequest.payload_json", &request.payload_json);
        let payload = payload.map_err(bad_request)?;
        let blocks = self.executor.simulate(payload, at).await.map_err(to_status)?;
        Ok(Response::new(blocks.into()))
    }

    async fn get_logs(&self, request: Request<pb::GetLogsRequest>) -> Reply<pb::JsonValue> {
        let request = request.into_inner();
        let filter: Filter =
            from_json("GetLogsRequest.filter_json", &request.filter_json).map_err(bad_request)?;
        let max_results = usize::try_from(request.max_results).unwrap_or(usize::MAX);
        let logs = self.executor.logs(&filter, max_results).await.map_err(to_status)?;
        json_reply(&logs)
    }

    async fn get_state_diff(
        &self,
        request: Request<pb::GetStateDiffRequest>,
    ) -> Reply<pb::JsonValue> {
        let diff =
            self.executor.state_diff(request.into_inner().number).await.map_err(to_status)?;
        json_reply(&diff.as_deref())
    }
}

fn parse_at(at: Option<pb::BlockSelector>) -> Result<BlockSelector, Status> {
    selector_from_pb(at).map_err(bad_request)
}

fn parse_call(request: Request<pb::CallRequest>) -> Result<(CallRequest, BlockSelector), Status> {
    call_from_pb(request.into_inner()).map_err(bad_request)
}

fn json_reply<T: serde::Serialize>(value: &T) -> Reply<pb::JsonValue> {
    let json = to_json("JsonValue.json", value).map_err(internal)?;
    Ok(Response::new(pb::JsonValue { json }))
}

/// The status for a reply that cannot be written.
pub(super) fn internal(error: crate::service::TransportError) -> Status {
    to_status(ExecutorError::Store(Box::new(error)))
}
