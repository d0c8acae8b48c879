//! What executing a block gave.

use std::sync::Arc;

use alloy::{
    consensus::Eip2718EncodableReceipt,
    eips::{eip7685::Requests, eip7928::BlockAccessList},
};
use alloy_primitives::{B256, Bloom};
use millrace_proto::{Receipt, RecoveredTx, SharedReceipt, StateDiff};

use super::tally::Tally;
use crate::trie::OrderedTrie;

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
        mut tally: Tally,
        diff: StateDiff,
        requests: Requests,
        access_list: Option<BlockAccessList>,
    ) -> Self {
        tally.find_blooms();
        let Tally { transactions, receipts, blooms, gas_used, blob_gas_used } = tally;
        let receipts: Vec<Receipt> = receipts.into_iter().map(SharedReceipt::into_inner).collect();
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
        self.transactions_root_of(OrderedTrie::default())
    }

    /// Root of the receipts' trie.
    pub fn receipts_root(&self) -> B256 {
        self.receipts_root_of(OrderedTrie::default())
    }

    /// Both, of what is hashed already.
    pub(super) fn list_roots(&self, tries: ListTries) -> (B256, B256) {
        let ListTries { transactions, receipts } = tries;
        (self.transactions_root_of(transactions), self.receipts_root_of(receipts))
    }

    fn transactions_root_of(&self, trie: OrderedTrie) -> B256 {
        trie.root(self.transactions.len(), |index| self.transactions[index].encoded())
    }

    fn receipts_root_of(&self, trie: OrderedTrie) -> B256 {
        let item = |index: usize| encoded(&self.receipts[index], &self.blooms[index]);
        trie.root(self.receipts.len(), item)
    }
}

/// The tries of a block's transactions and of its receipts, as far as they are hashed.
#[derive(Debug, Default)]
pub struct ListTries {
    transactions: OrderedTrie,
    receipts: OrderedTrie,
}

impl ListTries {
    /// Hashes what is complete by now.
    pub(super) fn grow(&mut self, tally: &mut Tally) {
        tally.find_blooms();
        let Tally { transactions, receipts, blooms, .. } = tally;
        self.transactions.grow(transactions.len(), |index| transactions[index].encoded());
        self.receipts.grow(receipts.len(), |index| encoded(&receipts[index], &blooms[index]));
    }
}

fn encoded(receipt: &Receipt, bloom: &Bloom) -> Vec<u8> {
    let mut out = Vec::with_capacity(receipt.eip2718_encoded_length_with_bloom(bloom));
    receipt.eip2718_encode_with_bloom(bloom, &mut out);
    out
}
