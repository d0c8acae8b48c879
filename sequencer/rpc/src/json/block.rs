//! Blocks as JSON.

use alloy::{
    consensus::constants::EMPTY_OMMER_ROOT_HASH,
    eips::{eip2718::Encodable2718, eip4895::Withdrawals},
    primitives::U256,
    rlp::{Encodable, Header as RlpHeader},
    rpc::types::{Block, BlockTransactions, Header},
};
use millrace_proto::{ExecutedBlock, RecoveredTx, SealedHeader};

use super::RpcTransaction;

/// A block as `eth_getBlockBy*` returns it.
pub(crate) type RpcBlock = Block<RpcTransaction>;

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
