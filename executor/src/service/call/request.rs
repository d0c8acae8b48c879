//! Call requests as the EVM takes them.

use alloy::rpc::types::TransactionRequest;
use alloy_primitives::TxKind;
use millrace_proto::ExecutorError;
use revm::{context::TxEnv, context_interface::either::Either};

use crate::evm::EvmEnv;

/// The most that the request would pay, wei per gas; zero if it names no price.
pub(super) fn price(request: &TransactionRequest) -> u128 {
    request.gas_price.or(request.max_fee_per_gas).or(request.max_priority_fee_per_gas).unwrap_or(0)
}

/// The transaction that a request describes. Its type follows from the fields that it uses.
pub(super) fn tx_env(
    request: &TransactionRequest,
    env: &EvmEnv,
    gas_limit: u64,
) -> Result<TxEnv, ExecutorError> {
    let invalid = |problem: &str| Err(ExecutorError::InvalidRequest(problem.to_owned()));
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return invalid("both gasPrice and maxFeePerGas or maxPriorityFeePerGas are given");
    }
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data)
        && input != data
    {
        return invalid("both input and data are given, and they differ");
    }
    let blob_hashes = request.blob_versioned_hashes.clone().unwrap_or_default();
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let kind = request.to.unwrap_or(TxKind::Create);
    if kind.is_create() && !(blob_hashes.is_empty() && authorizations.is_empty()) {
        return invalid("blob and EIP-7702 transactions cannot create contracts");
    }
    let tx_type = if !authorizations.is_empty() {
        4
    } else if !blob_hashes.is_empty() {
        3
    } else if dynamic {
        2
    } else {
        u8::from(request.access_list.is_some())
    };
    let tip = dynamic.then(|| request.max_priority_fee_per_gas.unwrap_or(0));
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit,
        gas_price: request.gas_price.or(request.max_fee_per_gas).unwrap_or(0),
        kind,
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        nonce: request.nonce.unwrap_or(0),
        chain_id: Some(request.chain_id.unwrap_or(env.cfg.chain_id)),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: tip.or((tx_type > 2).then_some(0)),
        max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or_else(|| {
            let price = env.block.blob_excess_gas_and_price.map(|blob| blob.blob_gasprice);
            price.filter(|_| !blob_hashes.is_empty()).unwrap_or(0)
        }),
        blob_hashes,
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
    })
}
