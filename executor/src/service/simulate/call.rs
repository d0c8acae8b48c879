//! Calls as transactions that nobody signed.

use alloy::{
    consensus::{
        SignableTransaction, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    },
    rpc::types::TransactionRequest,
};
use alloy_primitives::{Address, Signature, TxKind, U256};
use millrace_proto::{
    ChainSpec, ExecutorError, RecoveredTx, RejectReason, SimulationCode as Code, TxEnvelope,
};

use super::failed;

/// The transaction that a call stands for: by the fields that it has, EIP-1559 where none says otherwise, with a signature of zeros.
pub(super) fn transaction(
    spec: &ChainSpec,
    request: &TransactionRequest,
    nonce: u64,
    gas_limit: u64,
) -> Result<RecoveredTx, ExecutorError> {
    let invalid = |problem: &str| failed(Code::Invalid, problem);
    let fees = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && fees {
        return Err(invalid("both gasPrice and maxFeePerGas or maxPriorityFeePerGas are given"));
    }
    let chain_id = request.chain_id.unwrap_or(spec.chain_id());
    if chain_id != spec.chain_id() {
        let problem = format!("chainId {chain_id} is not this chain's {}", spec.chain_id());
        return Err(failed(Code::Invalid, problem));
    }
    let to = request.to.unwrap_or(TxKind::Create);
    let called = || to.to().copied().ok_or_else(|| invalid("such a transaction needs a to"));
    let value = request.value.unwrap_or_default();
    let input = request.input.input().cloned().unwrap_or_default();
    let access_list = request.access_list.clone().unwrap_or_default();
    let max_fee_per_gas = request.max_fee_per_gas.unwrap_or(0);
    let max_priority_fee_per_gas = request.max_priority_fee_per_gas.unwrap_or(0);
    let tx = if let Some(authorization_list) = request.authorization_list.clone() {
        let tx = TxEip7702 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to: called()?,
            value,
            access_list,
            authorization_list,
            input,
        };
        TxEnvelope::Eip7702(unsigned(tx))
    } else if let Some(blob_versioned_hashes) = request.blob_versioned_hashes.clone() {
        if spec.is_rollup() {
            return Err(invalid("this chain takes no blob transactions"));
        }
        let tx = TxEip4844 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to: called()?,
            value,
            access_list,
            blob_versioned_hashes,
            max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or(0),
            input,
        };
        TxEnvelope::Eip4844(unsigned(tx))
    } else if let Some(gas_price) = request.gas_price {
        if request.access_list.is_some() {
            let tx =
                TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input };
            TxEnvelope::Eip2930(unsigned(tx))
        } else {
            let chain_id = Some(chain_id);
            let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
            TxEnvelope::Legacy(unsigned(tx))
        }
    } else {
        let tx = TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to,
            value,
            access_list,
            input,
        };
        TxEnvelope::Eip1559(unsigned(tx))
    };
    let sender: Address = request.from.unwrap_or_default();
    Ok(RecoveredTx::new_unchecked(tx, sender))
}

fn unsigned<T: SignableTransaction<Signature>>(tx: T) -> Signed<T> {
    tx.into_signed(Signature::new(U256::ZERO, U256::ZERO, false))
}

/// Why a call cannot be in its block.
pub(super) fn refused(reason: &RejectReason) -> ExecutorError {
    let code = match reason {
        RejectReason::NonceTooLow { .. } => Code::NonceTooLow,
        RejectReason::NonceTooFar { .. } => Code::NonceTooHigh,
        RejectReason::FeeBelowFloor { .. } => Code::FeeTooLow,
        RejectReason::IntrinsicGas { .. } => Code::IntrinsicGas,
        RejectReason::InsufficientFunds { .. } => Code::InsufficientFunds,
        RejectReason::GasOverLimit { .. } => Code::BlockGasLimit,
        RejectReason::SenderIsContract { .. } => Code::SenderIsContract,
        RejectReason::InitCodeTooLarge { .. } => Code::InitCodeTooLarge,
        _ => Code::Invalid,
    };
    failed(code, reason.to_string())
}
