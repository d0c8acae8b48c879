//! What executing a block gave.

use std::sync::Arc;

use alloy::{
    consensus::{
        EMPTY_ROOT_HASH, Eip2718EncodableReceipt, TxReceipt, proofs::ordered_trie_root_with_encoder,
    },
    eips::{eip7685::Requests, eip7928::BlockAccessList},
};
use alloy_primitives::{B256, Bloom};
use millrace_proto::{Receipt, RecoveredTx, SharedReceipt, StateDiff};

use super::tally::Tally;

/// A block without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOutput {
    /// The included transactions, in order.
    pub transactions: Vec<Arc<RecoveredTx>>,
    /// How many of them were forced; [`ForcedCount`](super::ForcedCount) tells.
    pub forced: u32,
    /// One receipt a transaction.
    pub receipts: Vec<Receipt>,
    /// What the block changed.
    pub diff: StateDiff,
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Blob gas used by all transactions.
    pub blob_gas_used: u64,
    /// Union of the receipts' blooms.
    pub logs_bloom: Bloom,
    /// Root of the receipts' trie.
    pub receipts_root: B256,
    /// Requests to the consensus layer (EIP-7685).
    pub requests: Requests,
    /// What each transaction reads and writes (EIP-7928), if the block's environment asks for it.
    pub access_list: Option<BlockAccessList>,
}

impl BlockOutput {
    pub(super) fn new(
        tally: Tally,
        diff: StateDiff,
        requests: Requests,
        access_list: Option<BlockAccessList>,
    ) -> Self {
        let Tally { transactions, receipts, gas_used, blob_gas_used } = tally;
        let receipts: Vec<Receipt> = receipts.into_iter().map(SharedReceipt::into_inner).collect();
        let blooms: Vec<Bloom> = receipts.iter().map(TxReceipt::bloom).collect();
        let receipts_root = receipts_root(&receipts, &blooms);
        let logs_bloom = blooms.iter().fold(Bloom::ZERO, |union, bloom| union | *bloom);
        Self {
            transactions,
            forced: 0,
            receipts,
            diff,
            gas_used,
            blob_gas_used,
            logs_bloom,
            receipts_root,
            requests,
            access_list,
        }
    }

    /// Root of the transactions' trie.
    pub fn transactions_root(&self) -> B256 {
        if self.transactions.is_empty() {
            return EMPTY_ROOT_HASH;
        }
        ordered_trie_root_with_encoder(&self.transactions, |tx, out| {
            out.extend_from_slice(tx.encoded());
        })
    }
}

fn receipts_root(receipts: &[Receipt], blooms: &[Bloom]) -> B256 {
    if receipts.is_empty() {
        return EMPTY_ROOT_HASH;
    }
    let items: Vec<(&Receipt, &Bloom)> = receipts.iter().zip(blooms).collect();
    ordered_trie_root_with_encoder(&items, |(receipt, bloom), out| {
        receipt.eip2718_encode_with_bloom(bloom, out);
    })
}
