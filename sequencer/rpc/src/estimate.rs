//! What a transaction costs with its data: `millrace_estimateFees`.

use alloy::{
    consensus::TxEnvelope,
    eips::{BlockId, Encodable2718},
    primitives::{Signature, TxKind, U64, U256, keccak256},
    rpc::types::TransactionRequest,
};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::{DataPrice, estimated_batch_bytes, tip_for_data};
use serde::Serialize;

use crate::{api::Api, context::Context, error::CallError, reads::call_request};

#[rpc(server)]
pub(crate) trait EstimateApi {
    #[method(name = "millrace_estimateFees")]
    async fn estimate_fees(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
    ) -> Result<RpcFees, CallError>;
}

/// What `millrace_estimateFees` returns. Wei, and wei per gas.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcFees {
    /// As `eth_estimateGas` has it.
    gas: U64,
    /// The next block's.
    base_fee_per_gas: U256,
    /// Bytes of batches that the signed transaction takes, about.
    data_bytes: U64,
    /// What they cost; 0 where nothing is asked for data.
    data_fee: U256,
    /// The least priority fee with which it is taken, at this gas limit.
    min_priority_fee_per_gas: U256,
    /// All of the gas, at both of these.
    total_fee: U256,
}

impl RpcFees {
    fn new(encoded: &[u8], gas: U64, base_fee: u64, price: DataPrice) -> Self {
        let bytes = estimated_batch_bytes(encoded);
        let data_fee = price.of_bytes(bytes);
        let tip = U256::from(tip_for_data(data_fee, encoded.len(), gas.to()));
        let base_fee = U256::from(base_fee);
        Self {
            gas,
            base_fee_per_gas: base_fee,
            data_bytes: U64::from(bytes),
            data_fee: U256::from(data_fee),
            min_priority_fee_per_gas: tip,
            total_fee: (base_fee + tip) * U256::from(gas.to::<u64>()),
        }
    }
}

#[async_trait]
impl EstimateApiServer for Api {
    async fn estimate_fees(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
    ) -> Result<RpcFees, CallError> {
        self.0.estimate_fees(transaction, block).await
    }
}

impl Context {
    async fn estimate_fees(
        &self,
        transaction: TransactionRequest,
        block: Option<BlockId>,
    ) -> Result<RpcFees, CallError> {
        let call = call_request(transaction, None, None)?;
        let mut request = call.transaction.clone();
        let gas = self.estimate_gas(call, block).await?;
        let head = self.executor.head().await?;
        let base_fee = self.spec.next_base_fee(&head).unwrap_or_default();
        let price = self.pool.data_price().await?;
        if request.nonce.is_none() {
            request.nonce = match request.from {
                Some(sender) => Some(self.pool.pending_nonce(sender).await?),
                None => Some(0),
            };
        }
        request.gas.get_or_insert(gas.to());
        request.chain_id.get_or_insert(self.spec.chain_id());
        if request.gas_price.is_none() {
            let tip = *request.max_priority_fee_per_gas.get_or_insert(price.tip_of_transfer());
            request.max_fee_per_gas.get_or_insert(2 * u128::from(base_fee) + tip);
        }
        Ok(RpcFees::new(&as_signed(request)?, gas, base_fee, price))
    }
}

/// The bytes of a transaction as if it were signed: a signature is as long as any other, and does not compress.
fn as_signed(mut request: TransactionRequest) -> Result<Vec<u8>, CallError> {
    request.to.get_or_insert(TxKind::Create);
    let unsigned = request.build_typed_tx().map_err(|_| {
        let problem = "the fields do not make a transaction that could be signed: blobs without their fields, or a gas price beside a maximum fee";
        CallError::InvalidParams(problem.to_owned())
    })?;
    let [r, s] = ["r", "s"].map(|part| U256::from_be_bytes(keccak256(part).0));
    let signed = TxEnvelope::from(unsigned.into_envelope(Signature::new(r, s, false)));
    Ok(signed.encoded_2718())
}
