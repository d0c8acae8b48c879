//! Transactions as JSON.

use std::sync::Arc;

use alloy::{
    consensus::transaction::{Recovered, TransactionInfo},
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Transaction,
};
use millrace_proto::{ExecutedBlock, RecoveredTx, TxDeposit, TxEnvelope};
use serde::Serialize;

/// A transaction as `eth_getTransactionBy*` returns it.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum RpcTransaction {
    /// One that somebody signed.
    Signed(Box<Transaction<TxEnvelope>>),
    /// One that no block holds yet. Its block's time is null as well as the block, which alloy leaves out.
    #[serde(rename_all = "camelCase")]
    Pending {
        #[serde(flatten)]
        transaction: Box<Transaction<TxEnvelope>>,
        block_timestamp: Option<u64>,
    },
    /// A deposit from L1, which nobody signed.
    Deposit(Box<RpcDeposit>),
}

/// A deposit with the fields that the OP Stack gives it. Clients that want a nonce, a gas price and a signature of every
/// transaction find zeros.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RpcDeposit {
    #[serde(rename = "type", with = "alloy::serde::quantity")]
    ty: u8,
    hash: B256,
    source_hash: B256,
    from: Address,
    to: Option<Address>,
    #[serde(with = "alloy::serde::quantity")]
    mint: u128,
    value: U256,
    #[serde(with = "alloy::serde::quantity")]
    gas: u64,
    input: Bytes,
    #[serde(with = "alloy::serde::quantity")]
    nonce: u64,
    #[serde(with = "alloy::serde::quantity")]
    gas_price: u64,
    v: U256,
    r: U256,
    s: U256,
    block_hash: Option<B256>,
    #[serde(with = "alloy::serde::quantity::opt")]
    block_number: Option<u64>,
    #[serde(with = "alloy::serde::quantity::opt")]
    transaction_index: Option<u64>,
    #[serde(with = "alloy::serde::quantity::opt", skip_serializing_if = "Option::is_none")]
    block_timestamp: Option<u64>,
}

impl RpcTransaction {
    /// The transaction at `index` of a block, or `None` past the end.
    pub(crate) fn mined(block: &ExecutedBlock, index: usize) -> Option<Self> {
        let info = TransactionInfo {
            hash: None,
            index: Some(index as u64),
            block_hash: Some(block.hash()),
            block_number: Some(block.number()),
            base_fee: block.header.base_fee_per_gas,
            block_timestamp: Some(block.header.timestamp),
        };
        Some(Self::new(block.transactions.get(index)?, info))
    }

    /// A transaction that no block holds yet.
    pub(crate) fn pending(tx: &Arc<RecoveredTx>) -> Self {
        Self::new(tx, TransactionInfo::default())
    }

    fn new(tx: &RecoveredTx, info: TransactionInfo) -> Self {
        match tx.tx().as_deposit() {
            Some(deposit) => Self::Deposit(Box::new(RpcDeposit::new(tx.hash(), deposit, &info))),
            None => {
                let recovered = Recovered::new_unchecked(tx.tx().clone(), tx.sender());
                let transaction = Box::new(Transaction::from_transaction(recovered, info));
                match info.block_hash {
                    Some(_) => Self::Signed(transaction),
                    None => Self::Pending { transaction, block_timestamp: None },
                }
            }
        }
    }
}

impl RpcDeposit {
    fn new(hash: B256, deposit: &TxDeposit, info: &TransactionInfo) -> Self {
        Self {
            ty: 0x7e,
            hash,
            source_hash: deposit.source_hash,
            from: deposit.from,
            to: deposit.to.to().copied(),
            mint: deposit.mint,
            value: deposit.value,
            gas: deposit.gas_limit,
            input: deposit.input.clone(),
            nonce: 0,
            gas_price: 0,
            v: U256::ZERO,
            r: U256::ZERO,
            s: U256::ZERO,
            block_hash: info.block_hash,
            block_number: info.block_number,
            transaction_index: info.index,
            block_timestamp: info.block_timestamp,
        }
    }
}
