//! The executor in another process.

use std::{sync::Arc, time::Duration};

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, TxHash, U256},
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
        trace::geth::GethDebugTracingOptions,
    },
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tonic::{Response, Status};

use crate::{
    grpc::{
        ClientConfig, ConnectError, Connection, INTERNAL_MESSAGE_LIMIT, Transport,
        client::{build::open, receive},
        convert::{
            Parsed, address, address_bytes, call_request, from_json, hash_bytes, missing, to_json,
            trace_request,
        },
        error::WireError,
        pb::{self, executor_client},
    },
    service::{
        BlockBuild, BlockSelector, BoxStream, CallOutcome, CallRequest, Executor, ExecutorError,
        FoundAccounts, GasEstimate, SimulatedBlock, TraceTarget, TransportError, TxLocation,
    },
    types::{
        AccountInfo, AddressPrefix, BlockAttributes, ChainSpec, ExecutedBlock, SealedHeader,
        StateDiff,
    },
};

/// An [`Executor`] in another process.
#[derive(Debug, Clone)]
pub struct ExecutorClient {
    inner: executor_client::ExecutorClient<Transport>,
    call_timeout: Duration,
    /// The genesis of a chain never changes.
    spec: Arc<OnceCell<Arc<ChainSpec>>>,
}

impl ExecutorClient {
    /// Uses a connection.
    pub fn new(connection: Connection) -> Self {
        let inner = executor_client::ExecutorClient::new(connection.transport)
            .max_decoding_message_size(INTERNAL_MESSAGE_LIMIT)
            .max_encoding_message_size(INTERNAL_MESSAGE_LIMIT);
        Self { inner, call_timeout: connection.call_timeout, spec: Arc::default() }
    }

    /// Names the service by its URI, with the default [`ClientConfig`]; connects on the first call.
    ///
    /// # Errors
    /// When the URI is not usable.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        ClientConfig::default().connect(uri).map(Self::new)
    }
}

/// Takes a call's reply apart.
fn reply<M, T>(result: Result<Response<M>, Status>) -> Result<T, ExecutorError>
where
    T: TryFrom<M>,
    TransportError: From<T::Error>,
{
    let message = result.map_err(ExecutorError::from_status)?.into_inner();
    Ok(T::try_from(message).map_err(TransportError::from)?)
}

fn json_reply<T: DeserializeOwned>(
    result: Result<Response<pb::JsonValue>, Status>,
) -> Result<T, ExecutorError> {
    let message = result.map_err(ExecutorError::from_status)?.into_inner();
    Ok(from_json("JsonValue.json", &message.json)?)
}

#[async_trait]
impl Executor for ExecutorClient {
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError> {
        self.spec
            .get_or_try_init(|| async {
                let reply = self.inner.clone().get_genesis(pb::GetGenesisRequest {}).await;
                let json = reply.map_err(ExecutorError::from_status)?.into_inner().json;
                let spec = ChainSpec::from_json(&json)
                    .map_err(|error| TransportError::malformed("Genesis.json", error))?;
                Ok(Arc::new(spec))
            })
            .await
            .cloned()
    }

    async fn head(&self) -> Result<SealedHeader, ExecutorError> {
        let head: Option<_> = reply(self.inner.clone().get_head(pb::GetHeadRequest {}).await)?;
        Ok(head.ok_or_else(|| missing("SealedHeader.header"))?)
    }

    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError> {
        reply(self.inner.clone().get_header(pb::BlockSelector::from(at)).await)
    }

    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        reply(self.inner.clone().get_executed_block(pb::BlockSelector::from(at)).await)
    }

    async fn subscribe(
        &self,
        from: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError> {
        let request = pb::SubscribeExecutedBlocksRequest { from };
        let blocks = self.inner.clone().subscribe_executed_blocks(request).await;
        let blocks = blocks.map_err(ExecutorError::from_status)?.into_inner();
        Ok(receive(blocks, |block| {
            Option::try_from(block)?.ok_or_else(|| missing("ExecutedBlock.header"))
        }))
    }

    async fn open_block(
        &self,
        attributes: BlockAttributes,
    ) -> Result<Box<dyn BlockBuild>, ExecutorError> {
        open(self.inner.clone(), self.call_timeout, attributes).await
    }

    async fn unwind(&self, to: BlockNumHash) -> Result<(), ExecutorError> {
        let request = pb::UnwindRequest { number: to.number, hash: hash_bytes(to.hash) };
        self.inner.clone().unwind(request).await.map_err(ExecutorError::from_status)?;
        Ok(())
    }

    async fn locate(&self, hash: TxHash) -> Result<Option<TxLocation>, ExecutorError> {
        let request = pb::LocateTransactionRequest { hash: hash_bytes(hash) };
        reply(self.inner.clone().locate_transaction(request).await)
    }

    async fn accounts(
        &self,
        addresses: &[Address],
        at: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError> {
        let request = pb::GetAccountsRequest {
            addresses: addresses.iter().copied().map(address_bytes).collect(),
            at: Some(at.into()),
        };
        let reply = self.inner.clone().get_accounts(request).await;
        let accounts = reply.map_err(ExecutorError::from_status)?.into_inner().accounts;
        if accounts.len() != addresses.len() {
            return Err(TransportError::malformed(
                "Accounts.accounts",
                format!("{} accounts for {} addresses", accounts.len(), addresses.len()),
            )
            .into());
        }
        Ok(accounts.into_iter().map(TryInto::try_into).collect::<Parsed<_>>()?)
    }

    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        at: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError> {
        let request = pb::FindAccountsRequest {
            prefixes: prefixes.iter().copied().map(Into::into).collect(),
            at: Some(at.into()),
        };
        let reply = self.inner.clone().find_accounts(request).await;
        let pb::FoundAccounts { addresses: found, total } =
            reply.map_err(ExecutorError::from_status)?.into_inner();
        if found.len() != prefixes.len() {
            return Err(TransportError::malformed(
                "FoundAccounts.addresses",
                format!("{} addresses for {} prefixes", found.len(), prefixes.len()),
            )
            .into());
        }
        let parse = |bytes: &bytes::Bytes| match bytes.is_empty() {
            true => Ok(None),
            false => address("FoundAccounts.addresses", bytes).map(Some),
        };
        let accounts = found.iter().map(parse).collect::<Parsed<_>>()?;
        Ok(FoundAccounts { accounts, total })
    }

    async fn storage(
        &self,
        address: Address,
        slot: B256,
        at: BlockSelector,
    ) -> Result<U256, ExecutorError> {
        let request = pb::GetStorageRequest {
            address: address_bytes(address),
            slot: hash_bytes(slot),
            at: Some(at.into()),
        };
        reply(self.inner.clone().get_storage(request).await)
    }

    async fn code(&self, address: Address, at: BlockSelector) -> Result<Bytes, ExecutorError> {
        let request = pb::GetCodeRequest { address: address_bytes(address), at: Some(at.into()) };
        let reply = self.inner.clone().get_code(request).await;
        Ok(reply.map_err(ExecutorError::from_status)?.into_inner().code.into())
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<B256>,
        at: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError> {
        let request = pb::GetProofRequest {
            address: address_bytes(address),
            slots: slots.into_iter().map(hash_bytes).collect(),
            at: Some(at.into()),
        };
        json_reply(self.inner.clone().get_proof(request).await)
    }

    async fn call(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<CallOutcome, ExecutorError> {
        reply(self.inner.clone().call(call_request(&request, at)?).await)
    }

    async fn estimate_gas(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError> {
        reply(self.inner.clone().estimate_gas(call_request(&request, at)?).await)
    }

    async fn create_access_list(
        &self,
        request: CallRequest,
        at: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError> {
        json_reply(self.inner.clone().create_access_list(call_request(&request, at)?).await)
    }

    async fn trace(
        &self,
        target: TraceTarget,
        options: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError> {
        json_reply(self.inner.clone().trace(trace_request(&target, &options)?).await)
    }

    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError> {
        let payload_json = to_json("SimulateRequest.payload_json", &payload)?;
        let request = pb::SimulateRequest { payload_json, at: Some(at.into()) };
        reply(self.inner.clone().simulate(request).await)
    }

    async fn logs(&self, filter: &Filter, max_results: usize) -> Result<Vec<Log>, ExecutorError> {
        let request = pb::GetLogsRequest {
            filter_json: to_json("GetLogsRequest.filter_json", filter)?,
            max_results: u64::try_from(max_results).unwrap_or(u64::MAX),
        };
        json_reply(self.inner.clone().get_logs(request).await)
    }

    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError> {
        let request = pb::GetStateDiffRequest { number };
        let diff: Option<StateDiff> = json_reply(self.inner.clone().get_state_diff(request).await)?;
        Ok(diff.map(Arc::new))
    }
}
