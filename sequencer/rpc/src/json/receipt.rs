//! Receipts as JSON.

use alloy::{
    consensus::{Receipt, Transaction, TxReceipt, Typed2718},
    rpc::types::{AnyReceiptEnvelope, Log, TransactionReceipt},
};
use millrace_proto::{ChainSpec, ExecutedBlock};

/// A receipt as `eth_getTransactionReceipt` returns it.
pub(crate) type RpcReceipt = TransactionReceipt<AnyReceiptEnvelope<Log>>;

/// All receipts of a block.
pub(crate) fn receipts(block: &ExecutedBlock, spec: &ChainSpec) -> Vec<RpcReceipt> {
    let mut first_log = 0;
    (0..block.receipts.len())
        .filter_map(|index| {
            let receipt = receipt(block, spec, index, first_log)?;
            first_log += receipt.inner.inner.receipt.logs.len() as u64;
            Some(receipt)
        })
        .collect()
}

/// The receipt at `index` of a block, or `None` past the end.
pub(crate) fn receipt_at(
    block: &ExecutedBlock,
    spec: &ChainSpec,
    index: usize,
) -> Option<RpcReceipt> {
    let before = block.receipts.get(..index)?;
    let first_log = before.iter().map(|receipt| receipt.logs.len() as u64).sum();
    receipt(block, spec, index, first_log)
}

/// A block's logs in order, with their places.
pub(crate) fn logs(block: &ExecutedBlock) -> impl Iterator<Item = Log> {
    let receipts = block.receipts.iter().zip(&block.transactions).enumerate();
    let logs = receipts.flat_map(|(index, (receipt, tx))| {
        let hash = tx.hash();
        receipt.logs.iter().map(move |log| (index, hash, log))
    });
    logs.enumerate().map(|(log_index, (index, transaction_hash, log))| Log {
        inner: log.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(transaction_hash),
        transaction_index: Some(index as u64),
        log_index: Some(log_index as u64),
        removed: false,
    })
}

fn receipt(
    block: &ExecutedBlock,
    spec: &ChainSpec,
    index: usize,
    first_log: u64,
) -> Option<RpcReceipt> {
    let receipt = block.receipts.get(index)?;
    let recovered = block.transactions.get(index)?;
    let tx = recovered.tx();
    let header = &block.header;
    let transaction_hash = recovered.hash();
    let logs = (first_log..).zip(&receipt.logs).map(|(log_index, log)| Log {
        inner: log.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        block_timestamp: Some(header.timestamp),
        transaction_hash: Some(transaction_hash),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed: false,
    });
    let blob_gas_used = tx.blob_gas_used();
    let blob_params = blob_gas_used.and_then(|_| spec.blob_params(header.timestamp));
    // A deposit can call, but not create: the contract's queue names a recipient.
    let creates = tx.is_create() && !tx.is_deposit();
    Some(TransactionReceipt {
        inner: AnyReceiptEnvelope {
            inner: Receipt {
                status: receipt.success.into(),
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: logs.collect(),
            }
            .into_with_bloom(),
            r#type: tx.ty(),
        },
        transaction_hash,
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        gas_used: block.gas_used_by(index)?,
        effective_gas_price: tx.effective_gas_price(header.base_fee_per_gas),
        blob_gas_used,
        blob_gas_price: blob_params.and_then(|params| header.blob_fee(params)),
        from: recovered.sender(),
        to: tx.to(),
        contract_address: creates.then(|| recovered.sender().create(tx.nonce())),
    })
}
