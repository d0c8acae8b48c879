//! The methods.

use std::sync::Arc;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, TxHash, U64, U256, keccak256},
    rpc::types::{
        AccessListResult, BlockOverrides, EIP1186AccountProofResponse, FeeHistory, Filter,
        FilterChanges, Index, Log, TransactionRequest, state::StateOverride,
    },
};
use jsonrpsee::{Extensions, core::async_trait, proc_macros::rpc};

use crate::{
    context::Context,
    error::CallError,
    guard::caller,
    json::{AnyBlock, RpcBlock, RpcReceipt, RpcTransaction, SlotKey},
    reads::call_request,
};

#[rpc(server, namespace = "eth")]
pub(crate) trait EthApi {
    #[method(name = "chainId")]
    async fn chain_id(&self) -> Result<U64, CallError>;

    #[method(name = "blockNumber")]
    async fn block_number(&self) -> Result<U64, CallError>;

    #[method(name = "syncing")]
    async fn syncing(&self) -> Result<bool, CallError>;

    #[method(name = "accounts")]
    async fn accounts(&self) -> Result<Vec<Address>, CallError>;

    #[method(name = "getBlockByNumber")]
    async fn block_by_number(
        &self,
        number: BlockNumberOrTag,
        full: Option<bool>,
    ) -> Result<Option<AnyBlock>, CallError>;

    #[method(name = "getBlockByHash")]
    async fn block_by_hash(
        &self,
        hash: B256,
        full: Option<bool>,
    ) -> Result<Option<AnyBlock>, CallError>;

    #[method(name = "getBlockTransactionCountByNumber")]
    async fn transaction_count_by_number(
        &self,
        number: BlockNumberOrTag,
    ) -> Result<Option<U64>, CallError>;

    #[method(name = "getBlockTransactionCountByHash")]
    async fn transaction_count_by_hash(&self, hash: B256) -> Result<Option<U64>, CallError>;

    #[method(name = "getUncleCountByBlockNumber")]
    async fn uncle_count_by_number(
        &self,
        number: BlockNumberOrTag,
    ) -> Result<Option<U64>, CallError>;

    #[method(name = "getUncleCountByBlockHash")]
    async fn uncle_count_by_hash(&self, hash: B256) -> Result<Option<U64>, CallError>;

    #[method(name = "getUncleByBlockNumberAndIndex")]
    async fn uncle_by_number(
        &self,
        number: BlockNumberOrTag,
        index: U64,
    ) -> Result<Option<RpcBlock>, CallError>;

    #[method(name = "getUncleByBlockHashAndIndex")]
    async fn uncle_by_hash(&self, hash: B256, index: U64) -> Result<Option<RpcBlock>, CallError>;

    #[method(name = "getBlockReceipts")]
    async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<RpcReceipt>>, CallError>;

    #[method(name = "getTransactionByHash")]
    async fn transaction_by_hash(&self, hash: TxHash) -> Result<Option<RpcTransaction>, CallError>;

    #[method(name = "getTransactionByBlockNumberAndIndex")]
    async fn transaction_by_block_number(
        &self,
        number: BlockNumberOrTag,
        index: Index,
    ) -> Result<Option<RpcTransaction>, CallError>;

    #[method(name = "getTransactionByBlockHashAndIndex")]
    async fn transaction_by_block_hash(
        &self,
        hash: B256,
        index: Index,
    ) -> Result<Option<RpcTransaction>, CallError>;

    #[method(name = "getTransactionReceipt")]
    async fn transaction_receipt(&self, hash: TxHash) -> Result<Option<RpcReceipt>, CallError>;

    #[method(name = "getRawTransactionByHash")]
    async fn raw_transaction_by_hash(&self, hash: TxHash) -> Result<Option<Bytes>, CallError>;

    #[method(name = "getBalance")]
    async fn balance(&self, address: Address, block: Option<BlockId>) -> Result<U256, CallError>;

    #[method(name = "getTransactionCount")]
    async fn transaction_count(
        &self,
        address: Address,
        block: Option<BlockId>,
    ) -> Result<U64, CallError>;

    #[method(name = "getCode")]
    async fn code(&self, address: Address, block: Option<BlockId>) -> Result<Bytes, CallError>;

    #[method(name = "getStorageAt")]
    async fn storage_at(
        &self,
        address: Address,
        slot: SlotKey,
        block: Option<BlockId>,
    ) -> Result<B256, CallError>;

    #[method(name = "getProof")]
    async fn proof(
        &self,
        address: Address,
        slots: Vec<SlotKey>,
        block: Option<BlockId>,
    ) -> Result<EIP1186AccountProofResponse, CallError>;

    #[method(name = "call")]
    async fn call(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
        block_overrides: Option<BlockOverrides>,
    ) -> Result<Bytes, CallError>;

    #[method(name = "estimateGas")]
    async fn estimate_gas(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
        block_overrides: Option<BlockOverrides>,
    ) -> Result<U64, CallError>;

    #[method(name = "createAccessList")]
    async fn create_access_list(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
    ) -> Result<AccessListResult, CallError>;

    #[method(name = "gasPrice")]
    async fn gas_price(&self) -> Result<U256, CallError>;

    #[method(name = "maxPriorityFeePerGas")]
    async fn max_priority_fee_per_gas(&self) -> Result<U256, CallError>;

    #[method(name = "blobBaseFee")]
    async fn blob_base_fee(&self) -> Result<U256, CallError>;

    #[method(name = "feeHistory")]
    async fn fee_history(
        &self,
        block_count: U64,
        newest_block: BlockNumberOrTag,
        reward_percentiles: Option<Vec<f64>>,
    ) -> Result<FeeHistory, CallError>;

    #[method(name = "getLogs")]
    async fn logs(&self, filter: Filter) -> Result<Vec<Log>, CallError>;

    #[method(name = "newFilter")]
    async fn new_filter(&self, filter: Filter) -> Result<U64, CallError>;

    #[method(name = "newBlockFilter")]
    async fn new_block_filter(&self) -> Result<U64, CallError>;

    #[method(name = "newPendingTransactionFilter")]
    async fn new_pending_filter(&self) -> Result<U64, CallError>;

    #[method(name = "getFilterChanges")]
    async fn filter_changes(&self, id: U64) -> Result<FilterChanges, CallError>;

    #[method(name = "getFilterLogs")]
    async fn filter_logs(&self, id: U64) -> Result<Vec<Log>, CallError>;

    #[method(name = "uninstallFilter")]
    async fn uninstall_filter(&self, id: U64) -> Result<bool, CallError>;

    #[method(name = "sendRawTransaction", with_extensions)]
    async fn send_raw_transaction(&self, raw: Bytes) -> Result<TxHash, CallError>;
}

/// `net_` and `web3_`.
#[rpc(server)]
pub(crate) trait NodeApi {
    #[method(name = "net_version")]
    async fn net_version(&self) -> Result<String, CallError>;

    #[method(name = "net_listening")]
    async fn net_listening(&self) -> Result<bool, CallError>;

    #[method(name = "net_peerCount")]
    async fn net_peer_count(&self) -> Result<U64, CallError>;

    #[method(name = "web3_clientVersion")]
    async fn client_version(&self) -> Result<String, CallError>;

    #[method(name = "web3_sha3")]
    async fn sha3(&self, data: Bytes) -> Result<B256, CallError>;
}

/// The methods, over what they share.
#[derive(Debug, Clone)]
pub(crate) struct Api(pub(crate) Arc<Context>);

#[async_trait]
impl EthApiServer for Api {
    async fn chain_id(&self) -> Result<U64, CallError> {
        Ok(U64::from(self.0.spec.chain_id()))
    }

    async fn block_number(&self) -> Result<U64, CallError> {
        Ok(U64::from(self.0.executor.head().await?.number))
    }

    async fn syncing(&self) -> Result<bool, CallError> {
        Ok(false)
    }

    async fn accounts(&self) -> Result<Vec<Address>, CallError> {
        Ok(Vec::new())
    }

    async fn block_by_number(
        &self,
        number: BlockNumberOrTag,
        full: Option<bool>,
    ) -> Result<Option<AnyBlock>, CallError> {
        self.0.block(number.into(), full.unwrap_or(false)).await
    }

    async fn block_by_hash(
        &self,
        hash: B256,
        full: Option<bool>,
    ) -> Result<Option<AnyBlock>, CallError> {
        self.0.block(hash.into(), full.unwrap_or(false)).await
    }

    async fn transaction_count_by_number(
        &self,
        number: BlockNumberOrTag,
    ) -> Result<Option<U64>, CallError> {
        self.0.transaction_count_of_block(number.into()).await
    }

    async fn transaction_count_by_hash(&self, hash: B256) -> Result<Option<U64>, CallError> {
        self.0.transaction_count_of_block(hash.into()).await
    }

    async fn uncle_count_by_number(
        &self,
        number: BlockNumberOrTag,
    ) -> Result<Option<U64>, CallError> {
        self.0.uncle_count(number.into()).await
    }

    async fn uncle_count_by_hash(&self, hash: B256) -> Result<Option<U64>, CallError> {
        self.0.uncle_count(hash.into()).await
    }

    async fn uncle_by_number(
        &self,
        _number: BlockNumberOrTag,
        _index: U64,
    ) -> Result<Option<RpcBlock>, CallError> {
        Ok(None)
    }

    async fn uncle_by_hash(&self, _hash: B256, _index: U64) -> Result<Option<RpcBlock>, CallError> {
        Ok(None)
    }

    async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<RpcReceipt>>, CallError> {
        self.0.block_receipts(block).await
    }

    async fn transaction_by_hash(&self, hash: TxHash) -> Result<Option<RpcTransaction>, CallError> {
        self.0.transaction(hash).await
    }

    async fn transaction_by_block_number(
        &self,
        number: BlockNumberOrTag,
        index: Index,
    ) -> Result<Option<RpcTransaction>, CallError> {
        self.0.transaction_at(number.into(), index.into()).await
    }

    async fn transaction_by_block_hash(
        &self,
        hash: B256,
        index: Index,
    ) -> Result<Option<RpcTransaction>, CallError> {
        self.0.transaction_at(hash.into(), index.into()).await
    }

    async fn transaction_receipt(&self, hash: TxHash) -> Result<Option<RpcReceipt>, CallError> {
        self.0.receipt(hash).await
    }

    async fn raw_transaction_by_hash(&self, hash: TxHash) -> Result<Option<Bytes>, CallError> {
        self.0.raw_transaction(hash).await
    }

    async fn balance(&self, address: Address, block: Option<BlockId>) -> Result<U256, CallError> {
        self.0.balance(address, block).await
    }

    async fn transaction_count(
        &self,
        address: Address,
        block: Option<BlockId>,
    ) -> Result<U64, CallError> {
        Ok(U64::from(self.0.nonce(address, block).await?))
    }

    async fn code(&self, address: Address, block: Option<BlockId>) -> Result<Bytes, CallError> {
        self.0.code(address, block).await
    }

    async fn storage_at(
        &self,
        address: Address,
        slot: SlotKey,
        block: Option<BlockId>,
    ) -> Result<B256, CallError> {
        self.0.storage(address, slot, block).await
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<SlotKey>,
        block: Option<BlockId>,
    ) -> Result<EIP1186AccountProofResponse, CallError> {
        self.0.proof(address, slots, block).await
    }

    async fn call(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
        block_overrides: Option<BlockOverrides>,
    ) -> Result<Bytes, CallError> {
        self.0.call(call_request(transaction, state_overrides, block_overrides)?, block).await
    }

    async fn estimate_gas(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
        block_overrides: Option<BlockOverrides>,
    ) -> Result<U64, CallError> {
        let request = call_request(transaction, state_overrides, block_overrides)?;
        self.0.estimate_gas(request, block).await
    }

    async fn create_access_list(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
        state_overrides: Option<StateOverride>,
    ) -> Result<AccessListResult, CallError> {
        self.0.access_list(call_request(transaction, state_overrides, None)?, block).await
    }

    async fn gas_price(&self) -> Result<U256, CallError> {
        self.0.gas_price().await.map(U256::from)
    }

    async fn max_priority_fee_per_gas(&self) -> Result<U256, CallError> {
        self.0.suggested_tip().await.map(U256::from)
    }

    async fn blob_base_fee(&self) -> Result<U256, CallError> {
        self.0.blob_base_fee().await.map(U256::from)
    }

    async fn fee_history(
        &self,
        block_count: U64,
        newest_block: BlockNumberOrTag,
        reward_percentiles: Option<Vec<f64>>,
    ) -> Result<FeeHistory, CallError> {
        self.0.fee_history(block_count.to(), newest_block, reward_percentiles).await
    }

    async fn logs(&self, filter: Filter) -> Result<Vec<Log>, CallError> {
        self.0.logs(filter).await
    }

    async fn new_filter(&self, filter: Filter) -> Result<U64, CallError> {
        self.0.install_log_filter(filter).await
    }

    async fn new_block_filter(&self) -> Result<U64, CallError> {
        self.0.install_block_filter().await
    }

    async fn new_pending_filter(&self) -> Result<U64, CallError> {
        self.0.install_pending_filter().await
    }

    async fn filter_changes(&self, id: U64) -> Result<FilterChanges, CallError> {
        self.0.filter_changes(id).await
    }

    async fn filter_logs(&self, id: U64) -> Result<Vec<Log>, CallError> {
        self.0.filter_logs(id).await
    }

    async fn uninstall_filter(&self, id: U64) -> Result<bool, CallError> {
        Ok(self.0.filters.remove(id))
    }

    async fn send_raw_transaction(
        &self,
        extensions: &Extensions,
        raw: Bytes,
    ) -> Result<TxHash, CallError> {
        Ok(self.0.pool.submit_from(raw, caller(extensions)).await?)
    }
}

#[async_trait]
impl NodeApiServer for Api {
    async fn net_version(&self) -> Result<String, CallError> {
        Ok(self.0.spec.chain_id().to_string())
    }

    async fn net_listening(&self) -> Result<bool, CallError> {
        Ok(true)
    }

    async fn net_peer_count(&self) -> Result<U64, CallError> {
        Ok(U64::ZERO)
    }

    async fn client_version(&self) -> Result<String, CallError> {
        Ok(self.0.config.client_version.clone())
    }

    async fn sha3(&self, data: Bytes) -> Result<B256, CallError> {
        Ok(keccak256(data))
    }
}
