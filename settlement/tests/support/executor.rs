//! The sequencer's executor, as far as settlement asks it.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, Bytes, TxHash, U256},
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
        trace::geth::GethDebugTracingOptions,
    },
};
use async_trait::async_trait;
use millrace_proto::{
    AccountInfo, AddressPrefix, BlockAttributes, BlockBuild, BlockNumHash, BlockSelector,
    BoxStream, CallOutcome, CallRequest, ChainSpec, ExecutedBlock, Executor, ExecutorError,
    FoundAccounts, GasEstimate, SealedHeader, SimulatedBlock, StateDiff, TraceTarget, TxLocation,
};
use serde_json::value::RawValue;

use super::{TestChain, chain::changed};

/// Serves the blocks of a chain.
#[derive(Debug)]
pub(crate) struct TestExecutor(pub(crate) TestChain);

fn unsupported<T>() -> Result<T, ExecutorError> {
    Err(ExecutorError::InvalidRequest("only blocks are served".to_owned()))
}

#[async_trait]
impl Executor for TestExecutor {
    async fn spec(&self) -> Result<Arc<ChainSpec>, ExecutorError> {
        Ok(self.0.spec())
    }

    async fn head(&self) -> Result<SealedHeader, ExecutorError> {
        Ok(self.0.head().header.clone())
    }

    async fn header(&self, at: BlockSelector) -> Result<Option<SealedHeader>, ExecutorError> {
        match at {
            BlockSelector::Number(number) => {
                Ok(self.0.block(number).map(|block| block.header.clone()))
            }
            BlockSelector::Latest => Ok(Some(self.0.head().header.clone())),
            BlockSelector::Hash(_) | BlockSelector::Open(_) => unsupported(),
        }
    }

    async fn block(&self, at: BlockSelector) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        match at {
            BlockSelector::Number(number) => Ok(self.0.block(number)),
            _ => unsupported(),
        }
    }

    async fn subscribe(
        &self,
        _: u64,
    ) -> Result<BoxStream<Arc<ExecutedBlock>, ExecutorError>, ExecutorError> {
        unsupported()
    }

    async fn open_block(&self, _: BlockAttributes) -> Result<Box<dyn BlockBuild>, ExecutorError> {
        unsupported()
    }

    async fn unwind(&self, _: BlockNumHash) -> Result<(), ExecutorError> {
        unsupported()
    }

    async fn locate(&self, _: TxHash) -> Result<Option<TxLocation>, ExecutorError> {
        unsupported()
    }

    async fn accounts(
        &self,
        _: &[Address],
        _: BlockSelector,
    ) -> Result<Vec<Option<AccountInfo>>, ExecutorError> {
        unsupported()
    }

    async fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
        _: BlockSelector,
    ) -> Result<FoundAccounts, ExecutorError> {
        let accounts = self.0.find_accounts(prefixes);
        Ok(FoundAccounts { accounts, total: self.0.accounts.len() as u64 })
    }

    async fn storage(&self, _: Address, _: B256, _: BlockSelector) -> Result<U256, ExecutorError> {
        unsupported()
    }

    async fn code(&self, _: Address, _: BlockSelector) -> Result<Bytes, ExecutorError> {
        unsupported()
    }

    async fn proof(
        &self,
        _: Address,
        _: Vec<B256>,
        _: BlockSelector,
    ) -> Result<EIP1186AccountProofResponse, ExecutorError> {
        unsupported()
    }

    async fn call(&self, _: CallRequest, _: BlockSelector) -> Result<CallOutcome, ExecutorError> {
        unsupported()
    }

    async fn estimate_gas(
        &self,
        _: CallRequest,
        _: BlockSelector,
    ) -> Result<GasEstimate, ExecutorError> {
        unsupported()
    }

    async fn create_access_list(
        &self,
        _: CallRequest,
        _: BlockSelector,
    ) -> Result<AccessListResult, ExecutorError> {
        unsupported()
    }

    async fn trace(
        &self,
        _: TraceTarget,
        _: GethDebugTracingOptions,
    ) -> Result<Box<RawValue>, ExecutorError> {
        unsupported()
    }

    async fn simulate(
        &self,
        _: SimulatePayload,
        _: BlockSelector,
    ) -> Result<Vec<SimulatedBlock>, ExecutorError> {
        unsupported()
    }

    async fn logs(&self, _: &Filter, _: usize) -> Result<Vec<Log>, ExecutorError> {
        unsupported()
    }

    async fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, ExecutorError> {
        Ok(self.0.block(number).map(|block| Arc::new(changed(&block))))
    }
}
