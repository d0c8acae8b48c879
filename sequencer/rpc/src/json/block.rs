//! Blocks as JSON.

use alloy::{
    consensus::constants::EMPTY_OMMER_ROOT_HASH,
    eips::{eip2718::Encodable2718, eip4895::Withdrawals},
    primitives::U256,
    rlp::{Encodable, Header as RlpHeader},
    rpc::types::{Block, BlockTransactions, Header},
};
use millrace_proto::{ExecutedBlock, RecoveredTx, SealedHeader};
use serde::Serialize;
use serde_json::{Map, Value};

use super::RpcTransaction;

/// A block as `eth_getBlockBy*` returns it.
pub(crate) type RpcBlock = Block<RpcTransaction>;

/// A block that may be open.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum AnyBlock {
    /// A sealed one.
    Sealed(Box<RpcBlock>),
    /// The open one: fields that only a whole block has are null.
    Open(Map<String, Value>),
}

/// What is null of an open block. geth has no hash, nonce and miner of a pending block either, and the others are not known before it is closed.
const NOT_YET: [&str; 9] = [
    "hash",
    "nonce",
    "miner",
    "logsBloom",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "requestsHash",
    "size",
];

/// A block as `eth_getBlockBy*` returns it, whether it is sealed or open.
///
/// # Errors
/// If an open one cannot be written as JSON.
pub(crate) fn any_block(executed: &ExecutedBlock, full: bool) -> serde_json::Result<AnyBlock> {
    let mut rendered = block(executed, full);
    if !executed.is_open() {
        return Ok(AnyBlock::Sealed(Box::new(rendered)));
    }
    if full {
        let transactions = executed.transactions.iter().map(RpcTransaction::pending);
        rendered.transactions = BlockTransactions::Full(transactions.collect());
    }
    let mut fields: Map<String, Value> = serde_json::from_value(serde_json::to_value(&rendered)?)?;
    for field in NOT_YET {
        // Of a hardfork that does not have it, it is not there at all.
        if let Some(value) = fields.get_mut(field) {
            *value = Value::Null;
        }
    }
    Ok(AnyBlock::Open(fields))
}

/// A header as `newHeads` sends it.
pub(crate) fn header(header: &SealedHeader) -> Header {
    Header::from_consensus(header.clone(), None, None)
}

/// The block with its transactions, or with their hashes only.
pub(crate) fn block(block: &ExecutedBlock, full: bool) -> RpcBlock {
    let transactions = if full {
        let count = block.transactions.len();
        BlockTransactions::Full(
            (0..count).filter_map(|index| RpcTransaction::mined(block, index)).collect(),
        )
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|tx| tx.hash()).collect())
    };
    let size = Some(U256::from(encoded_length(block)));
    Block {
        header: Header::from_consensus(block.header.clone(), None, size),
        uncles: Vec::new(),
        transactions,
        withdrawals: block.header.withdrawals_root.map(|_| Withdrawals::default()),
    }
}

/// Bytes of the block's RLP.
fn encoded_length(block: &ExecutedBlock) -> usize {
    debug_assert_eq!(block.header.ommers_hash, EMPTY_OMMER_ROOT_HASH);
    let transactions: usize = block.transactions.iter().map(|tx| network_length(tx)).sum();
    let empty_lists = 1 + usize::from(block.header.withdrawals_root.is_some());
    let payload = block.header.inner().length() + list_length(transactions) + empty_lists;
    list_length(payload)
}

/// In a block's RLP, a typed transaction is a string that holds its EIP-2718 form.
fn network_length(tx: &RecoveredTx) -> usize {
    let length = tx.encoded().len();
    if tx.tx().type_flag().is_none() {
        return length;
    }
    RlpHeader { list: false, payload_length: length }.length_with_payload()
}

fn list_length(payload_length: usize) -> usize {
    RlpHeader { list: true, payload_length }.length_with_payload()
}
