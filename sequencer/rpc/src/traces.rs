//! Transactions and calls executed again under a tracer: `debug_trace…`.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{B256, TxHash},
    rpc::types::{
        TransactionRequest,
        trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions},
    },
};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::{BlockSelector, TraceTarget};
use serde_json::value::RawValue;

use crate::{api::Api, error::CallError, reads::call_request};

#[rpc(server, namespace = "debug")]
pub(crate) trait TraceApi {
    #[method(name = "traceTransaction")]
    async fn trace_transaction(
        &self,
        hash: TxHash,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError>;

    #[method(name = "traceBlockByNumber")]
    async fn trace_block_by_number(
        &self,
        number: BlockNumberOrTag,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError>;

    #[method(name = "traceBlockByHash")]
    async fn trace_block_by_hash(
        &self,
        hash: B256,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError>;

    #[method(name = "traceCall")]
    async fn trace_call(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        options: Option<GethDebugTracingCallOptions>,
    ) -> Result<Box<RawValue>, CallError>;
}

#[async_trait]
impl TraceApiServer for Api {
    async fn trace_transaction(
        &self,
        hash: TxHash,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError> {
        let location = self.0.executor.locate(hash).await?;
        let location =
            location.ok_or_else(|| CallError::Halted("transaction not found".to_owned()))?;
        let block = BlockSelector::Hash(location.block.hash);
        let target = TraceTarget::Transaction { block, index: location.index };
        self.trace(target, options.unwrap_or_default()).await
    }

    async fn trace_block_by_number(
        &self,
        number: BlockNumberOrTag,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError> {
        let target = TraceTarget::Block(self.0.select_tag(number).await?);
        self.trace(target, options.unwrap_or_default()).await
    }

    async fn trace_block_by_hash(
        &self,
        hash: B256,
        options: Option<GethDebugTracingOptions>,
    ) -> Result<Box<RawValue>, CallError> {
        let target = TraceTarget::Block(BlockSelector::Hash(hash));
        self.trace(target, options.unwrap_or_default()).await
    }

    async fn trace_call(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        options: Option<GethDebugTracingCallOptions>,
    ) -> Result<Box<RawValue>, CallError> {
        let GethDebugTracingCallOptions {
            tracing_options,
            state_overrides,
            block_overrides,
            tx_index: index,
        } = options.unwrap_or_default();
        let request = Box::new(call_request(transaction, state_overrides, block_overrides)?);
        let at = self.0.select(block).await?;
        let target = TraceTarget::Call { request, at, index };
        self.trace(target, tracing_options).await
    }
}

impl Api {
    async fn trace(
        &self,
        target: TraceTarget,
        options: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, CallError> {
        self.0.executor.trace(target, options).await.map_err(CallError::without_block)
    }
}
