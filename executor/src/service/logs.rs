//! Searching for logs.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::Bytes,
    rpc::types::{Filter, FilterBlockOption, Log},
};
use millrace_proto::{BlockSelector, ExecutedBlock, ExecutorError};

use crate::store::Store;

/// Finds the logs that match. Blocks are passed over by their header's bloom, then by their receipts.
pub(super) fn search(
    store: &Store,
    filter: &Filter,
    max_results: usize,
    max_blocks: u64,
) -> Result<Vec<Log>, ExecutorError> {
    let (from, to) = match &filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let at = BlockSelector::Hash(*hash);
            let number = store.header(at)?.ok_or(ExecutorError::UnknownBlock(at))?.number;
            (number, number)
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let head = store.head().number;
            let from = number(from_block.as_ref(), head)?;
            let to = number(to_block.as_ref(), head)?;
            if from > to {
                let problem = format!("the block range ends at {to}, before its start {from}");
                return Err(ExecutorError::InvalidRequest(problem));
            }
            (from, to.min(head))
        }
    };
    if to.saturating_sub(from) >= max_blocks {
        return Err(ExecutorError::LimitExceeded { what: "block range", limit: max_blocks });
    }
    let mut found = Vec::new();
    for header in store.headers(from, to) {
        let header = header?;
        if !filter.matches_bloom(header.logs_bloom) {
            continue;
        }
        let Some(receipts) = store.receipts(header.number)? else { continue };
        if !receipts.iter().flat_map(|receipt| &receipt.logs).any(|log| filter.matches(log)) {
            continue;
        }
        let at = BlockSelector::Number(header.number);
        let block = store.block(at)?.ok_or(ExecutorError::UnknownBlock(at))?;
        collect(&block, filter, &mut found);
        if found.len() > max_results {
            let limit = max_results as u64;
            return Err(ExecutorError::LimitExceeded { what: "number of logs", limit });
        }
    }
    Ok(found)
}

fn number(at: Option<&BlockNumberOrTag>, head: u64) -> Result<u64, ExecutorError> {
    match at {
        Some(BlockNumberOrTag::Number(number)) => Ok(*number),
        Some(BlockNumberOrTag::Earliest) => Ok(0),
        Some(BlockNumberOrTag::Latest) | None => Ok(head),
        Some(tag) => Err(ExecutorError::InvalidRequest(format!("the executor knows no tag {tag}"))),
    }
}

/// A copy that does not keep the block's receipts in memory, of which a decoded log's data is a slice.
fn detached(log: &alloy::primitives::Log) -> alloy::primitives::Log {
    let mut log = log.clone();
    log.data.data = Bytes::copy_from_slice(&log.data.data);
    log
}

fn collect(block: &ExecutedBlock, filter: &Filter, found: &mut Vec<Log>) {
    let mut log_index = 0;
    for (index, (tx, receipt)) in block.transactions.iter().zip(&block.receipts).enumerate() {
        for log in &receipt.logs {
            if filter.matches(log) {
                found.push(Log {
                    inner: detached(log),
                    block_hash: Some(block.hash()),
                    block_number: Some(block.number()),
                    block_timestamp: Some(block.header.timestamp),
                    transaction_hash: Some(tx.hash()),
                    transaction_index: Some(index as u64),
                    log_index: Some(log_index),
                    removed: false,
                });
            }
            log_index += 1;
        }
    }
}
