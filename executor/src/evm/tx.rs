//! Transactions as the EVM takes them.

use alloy::consensus::{Transaction, Typed2718};
use millrace_proto::{RecoveredTx, TxDeposit};
use revm::{context::TxEnv, context_interface::either::Either};

/// A signed transaction. EIP-7702 authorities are recovered by the EVM when it applies them.
pub(crate) fn tx_env(recovered: &RecoveredTx) -> TxEnv {
    let tx = recovered.tx();
    TxEnv {
        tx_type: tx.ty(),
        caller: recovered.sender(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: tx.blob_versioned_hashes().map(<[_]>::to_vec).unwrap_or_default(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas().unwrap_or(0),
        authorization_list: tx
            .authorization_list()
            .map(|list| list.iter().cloned().map(Either::Left).collect())
            .unwrap_or_default(),
    }
}

/// A deposit, which the EVM sees as a legacy transaction at a gas price of zero.
pub(super) fn deposit_env(deposit: &TxDeposit) -> TxEnv {
    TxEnv {
        tx_type: 0,
        caller: deposit.from,
        gas_limit: deposit.gas_limit,
        gas_price: 0,
        kind: deposit.to,
        value: deposit.value,
        data: deposit.input.clone(),
        nonce: 0,
        chain_id: None,
        access_list: Default::default(),
        gas_priority_fee: None,
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: Vec::new(),
    }
}
