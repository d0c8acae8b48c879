//! What executing a block gave.

use std::sync::Arc;

use alloy::{
    consensus::{Eip2718EncodableReceipt, TxReceipt},
    eips::{eip7685::Requests, eip7928::BlockAccessList},
};
use alloy_primitives::{B256, Bloom};
use millrace_proto::{Receipt, RecoveredTx, SharedReceipt, StateDiff};

use super::tally::Tally;
use crate::trie::ordered_root;

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
    /// The bloom of each receipt.
    pub blooms: Vec<Bloom>,
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
        let logs_bloom = blooms.iter().fold(Bloom::ZERO, |union, bloom| union | *bloom);
        Self {
            transactions,
            forced: 0,
            receipts,
            diff,
            gas_used,
            blob_gas_used,
            logs_bloom,
            blooms,
            requests,
            access_list,
        }
    }

    /// Root of the transactions' trie.
    pub fn transactions_root(&self) -> B256 {
        let transactions: Vec<_> = self.transactions.iter().map(|tx| tx.encoded()).collect();
        ordered_root(&transactions)
    }

    /// Root of the receipts' trie.
    pub fn receipts_root(&self) -> B256 {
        let receipts = self.receipts.iter().zip(&self.blooms).map(|(receipt, bloom)| {
            let mut out = Vec::with_capacity(receipt.eip2718_encoded_length_with_bloom(bloom));
            receipt.eip2718_encode_with_bloom(bloom, &mut out);
            out
        });
        ordered_root(&receipts.collect::<Vec<_>>())
    }
}
