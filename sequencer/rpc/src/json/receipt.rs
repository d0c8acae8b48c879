//! Receipts as JSON.

use alloy::{
    consensus::{Receipt as EthReceipt, Transaction, TxReceipt, Typed2718},
    primitives::B256,
    rpc::types::{AnyReceiptEnvelope, Log, TransactionReceipt},
};
use millrace_proto::{ChainSpec, ExecutedBlock, Preconfirmation, Receipt, RecoveredTx};

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
    logs_at(block, block.receipts.iter().map(|receipt| &receipt.logs[..]))
}

/// The logs that each of a block's transactions has made, in order, with their places.
pub(crate) fn logs_at<'a>(
    block: &'a ExecutedBlock,
    logs: impl Iterator<Item = &'a [alloy::primitives::Log]>,
) -> impl Iterator<Item = Log> {
    let logs = logs.zip(&block.transactions).enumerate().flat_map(|(index, (logs, tx))| {
        let hash = tx.hash();
        logs.iter().map(move |log| (index, hash, log))
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
    let header = &block.header;
    let recovered = block.transactions.get(index)?;
    let place = Place {
        block_hash: Some(block.hash()),
        block_number: block.number(),
        timestamp: header.timestamp,
        base_fee: header.base_fee_per_gas,
        index: index as u64,
        first_log,
        gas_used: block.gas_used_by(index)?,
    };
    let mut receipt = receipt_at_place(recovered, block.receipts.get(index)?, &place);
    let blob_params = receipt.blob_gas_used.and_then(|_| spec.blob_params(header.timestamp));
    receipt.blob_gas_price = blob_params.and_then(|params| header.blob_fee(params));
    Some(receipt)
}

/// The receipts of a frame of the open block, whose hash nobody knows yet.
pub(super) fn preconfirmed(frame: &Preconfirmation) -> Vec<RpcReceipt> {
    let mut first_log = frame.start.log_index;
    let receipts = frame.transactions.iter().zip(&frame.receipts).enumerate();
    receipts
        .map(|(index, (tx, receipt))| {
            let place = Place {
                block_hash: None,
                block_number: frame.block,
                timestamp: frame.timestamp,
                base_fee: Some(frame.base_fee),
                index: frame.start.index + index as u64,
                first_log,
                gas_used: frame.gas_used_by(index).unwrap_or_default(),
            };
            first_log += receipt.logs.len() as u64;
            receipt_at_place(tx, receipt, &place)
        })
        .collect()
}

/// Where a receipt's transaction is.
struct Place {
    block_hash: Option<B256>,
    block_number: u64,
    timestamp: u64,
    base_fee: Option<u64>,
    /// In the block.
    index: u64,
    /// In the block.
    first_log: u64,
    /// By this transaction alone.
    gas_used: u64,
}

/// All but the price of blobs.
fn receipt_at_place(recovered: &RecoveredTx, receipt: &Receipt, place: &Place) -> RpcReceipt {
    let tx = recovered.tx();
    let transaction_hash = recovered.hash();
    let logs = (place.first_log..).zip(&receipt.logs).map(|(log_index, log)| Log {
        inner: log.clone(),
        block_hash: place.block_hash,
        block_number: Some(place.block_number),
        block_timestamp: Some(place.timestamp),
        transaction_hash: Some(transaction_hash),
        transaction_index: Some(place.index),
        log_index: Some(log_index),
        removed: false,
    });
    // A deposit can call, but not create: the contract's queue names a recipient.
    let creates = tx.is_create() && !tx.is_deposit();
    TransactionReceipt {
        inner: AnyReceiptEnvelope {
            inner: EthReceipt {
                status: receipt.success.into(),
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: logs.collect(),
            }
            .into_with_bloom(),
            r#type: tx.ty(),
        },
        transaction_hash,
        transaction_index: Some(place.index),
        block_hash: place.block_hash,
        block_number: Some(place.block_number),
        gas_used: place.gas_used,
        effective_gas_price: tx.effective_gas_price(place.base_fee),
        blob_gas_used: tx.blob_gas_used(),
        blob_gas_price: None,
        from: recovered.sender(),
        to: tx.to(),
        contract_address: creates.then(|| recovered.sender().create(tx.nonce())),
    }
}
