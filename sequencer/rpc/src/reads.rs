//! Blocks, transactions, state and calls.

use std::sync::Arc;

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes, TxHash, U64, U256},
    rpc::types::{
        AccessListResult, BlockOverrides, EIP1186AccountProofResponse, TransactionRequest,
        state::StateOverride,
    },
};
use millrace_proto::{BlockSelector, CallRequest, ExecutedBlock, ExecutorError, GasEstimate};

use crate::{
    context::Context,
    error::CallError,
    json::{self, AnyBlock, RpcReceipt, RpcTransaction, SlotKey},
};

impl Context {
    /// The block that a parameter names, which may be open, or `None` if there is no such block.
    pub(crate) async fn executed(
        &self,
        id: BlockId,
    ) -> Result<Option<Arc<ExecutedBlock>>, CallError> {
        self.read(Some(id), |at| self.executor.block(at)).await
    }

    /// The same; the latest for what is pending.
    async fn sealed(&self, id: BlockId) -> Result<Option<Arc<ExecutedBlock>>, CallError> {
        Ok(self.executor.block(self.select(Some(id)).await?).await?)
    }

    pub(crate) async fn block(
        &self,
        id: BlockId,
        full: bool,
    ) -> Result<Option<AnyBlock>, CallError> {
        let Some(block) = self.executed(id).await? else { return Ok(None) };
        let written = json::any_block(&block, full);
        Ok(Some(written.map_err(|error| ExecutorError::Store(Box::new(error)))?))
    }

    pub(crate) async fn transaction_count_of_block(
        &self,
        id: BlockId,
    ) -> Result<Option<U64>, CallError> {
        Ok(self.executed(id).await?.map(|block| U64::from(block.transactions.len())))
    }

    /// No block has any; `None` if there is no such block.
    pub(crate) async fn uncle_count(&self, id: BlockId) -> Result<Option<U64>, CallError> {
        let header = self.read(Some(id), |at| self.executor.header(at)).await?;
        Ok(header.map(|_| U64::ZERO))
    }

    pub(crate) async fn block_receipts(
        &self,
        id: BlockId,
    ) -> Result<Option<Vec<RpcReceipt>>, CallError> {
        Ok(self.sealed(id).await?.map(|block| json::receipts(&block, &self.spec)))
    }

    /// The block that holds a transaction, and its index there.
    async fn mined(&self, hash: TxHash) -> Result<Option<(Arc<ExecutedBlock>, usize)>, CallError> {
        let Some(location) = self.executor.locate(hash).await? else { return Ok(None) };
        let block = self.executor.block(BlockSelector::Hash(location.block.hash)).await?;
        Ok(block.and_then(|block| Some((block, usize::try_from(location.index).ok()?))))
    }

    pub(crate) async fn transaction(
        &self,
        hash: TxHash,
    ) -> Result<Option<RpcTransaction>, CallError> {
        if let Some((block, index)) = self.mined(hash).await? {
            return Ok(RpcTransaction::mined(&block, index));
        }
        if let Some(tx) = self.pool.pooled(hash).await? {
            return Ok(Some(RpcTransaction::pending(&tx)));
        }
        // It may have been sealed between the two looks.
        let mined = self.mined(hash).await?;
        Ok(mined.and_then(|(block, index)| RpcTransaction::mined(&block, index)))
    }

    pub(crate) async fn raw_transaction(&self, hash: TxHash) -> Result<Option<Bytes>, CallError> {
        let encoded = |(block, index): (Arc<ExecutedBlock>, usize)| {
            block.transactions.get(index).map(|tx| tx.encoded().clone())
        };
        if let Some(mined) = self.mined(hash).await? {
            return Ok(encoded(mined));
        }
        if let Some(tx) = self.pool.pooled(hash).await? {
            return Ok(Some(tx.encoded().clone()));
        }
        Ok(self.mined(hash).await?.and_then(encoded))
    }

    pub(crate) async fn transaction_at(
        &self,
        id: BlockId,
        index: usize,
    ) -> Result<Option<RpcTransaction>, CallError> {
        let block = self.executed(id).await?;
        Ok(block.and_then(|block| match block.is_open() {
            true => block.transactions.get(index).map(RpcTransaction::pending),
            false => RpcTransaction::mined(&block, index),
        }))
    }

    pub(crate) async fn receipt(&self, hash: TxHash) -> Result<Option<RpcReceipt>, CallError> {
        let mined = self.mined(hash).await?;
        Ok(mined.and_then(|(block, index)| json::receipt_at(&block, &self.spec, index)))
    }

    pub(crate) async fn balance(
        &self,
        address: Address,
        id: Option<BlockId>,
    ) -> Result<U256, CallError> {
        let addresses = [address];
        let accounts = self.read(id, |at| self.executor.accounts(&addresses, at)).await?;
        Ok(accounts.first().copied().flatten().unwrap_or_default().balance)
    }

    pub(crate) async fn nonce(
        &self,
        address: Address,
        id: Option<BlockId>,
    ) -> Result<u64, CallError> {
        if id.is_some_and(|id| id.is_pending()) {
            return Ok(self.pool.pending_nonce(address).await?);
        }
        let accounts = self.executor.accounts(&[address], self.select(id).await?).await?;
        Ok(accounts.first().copied().flatten().unwrap_or_default().nonce)
    }

    pub(crate) async fn code(
        &self,
        address: Address,
        id: Option<BlockId>,
    ) -> Result<Bytes, CallError> {
        self.read(id, |at| self.executor.code(address, at)).await
    }

    pub(crate) async fn storage(
        &self,
        address: Address,
        SlotKey(slot): SlotKey,
        id: Option<BlockId>,
    ) -> Result<B256, CallError> {
        let slot = slot.as_b256();
        Ok(self.read(id, |at| self.executor.storage(address, slot, at)).await?.into())
    }

    pub(crate) async fn proof(
        &self,
        address: Address,
        slots: Vec<SlotKey>,
        id: Option<BlockId>,
    ) -> Result<EIP1186AccountProofResponse, CallError> {
        let limit = self.config.limits.max_proof_keys as usize;
        if slots.len() > limit {
            return Err(CallError::Limit(format!(
                "{} storage keys are over the limit of {limit}; ask for less",
                slots.len()
            )));
        }
        let at = self.select(id).await?;
        let keys = slots.iter().map(|SlotKey(key)| key.as_b256()).collect();
        let mut proof = self.executor.proof(address, keys, at).await?;
        // Clients look their keys up in the form in which they asked.
        for (entry, SlotKey(key)) in proof.storage_proof.iter_mut().zip(slots) {
            entry.key = key;
        }
        Ok(proof)
    }

    pub(crate) async fn call(
        &self,
        request: CallRequest,
        id: Option<BlockId>,
    ) -> Result<Bytes, CallError> {
        let outcome = self.read(id, |at| self.executor.call(request.clone(), at)).await?;
        CallError::of_outcome(outcome)
    }

    pub(crate) async fn estimate_gas(
        &self,
        request: CallRequest,
        id: Option<BlockId>,
    ) -> Result<U64, CallError> {
        match self.read(id, |at| self.executor.estimate_gas(request.clone(), at)).await? {
            GasEstimate::Gas(gas) => Ok(U64::from(gas)),
            GasEstimate::Fails(outcome) => match CallError::of_outcome(outcome) {
                Err(error) => Err(error),
                Ok(_) => Err(ExecutorError::InvalidRequest(
                    "the call succeeds only with more gas than it may use".to_owned(),
                )
                .into()),
            },
        }
    }

    pub(crate) async fn access_list(
        &self,
        request: CallRequest,
        id: Option<BlockId>,
    ) -> Result<AccessListResult, CallError> {
        self.read(id, |at| self.executor.create_access_list(request.clone(), at)).await
    }
}

/// A call's parameters as one request.
///
/// # Errors
/// When `data` and `input` differ.
pub(crate) fn call_request(
    mut transaction: TransactionRequest,
    state_overrides: Option<StateOverride>,
    block_overrides: Option<BlockOverrides>,
) -> Result<CallRequest, CallError> {
    single_input(&mut transaction)?;
    Ok(CallRequest { transaction, state_overrides, block_overrides })
}

/// Leaves what `data` or `input` says in `input`.
///
/// # Errors
/// When they differ.
pub(crate) fn single_input(transaction: &mut TransactionRequest) -> Result<(), CallError> {
    let input = std::mem::take(&mut transaction.input).try_into_unique_input();
    transaction.input.input = input.map_err(|error| CallError::InvalidParams(error.to_string()))?;
    Ok(())
}
