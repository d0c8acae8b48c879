//! An event of the contract together with what binds it to the hash of the L1 block that holds it.

use alloy::{
    consensus::{Header, ReceiptEnvelope},
    eips::{BlockNumHash, Decodable2718, Encodable2718},
    primitives::{Address, B256, Bytes, keccak256},
    rlp::{self, Decodable},
    rpc::types::Log,
};
use millrace_proto::L1Ref;
use serde::{Deserialize, Serialize};

use super::{RollupContract, RollupEvent, events};
use crate::{L1Error, prove_entry, verify_entry};

/// An event of the rollup contract, bound to the hash of an L1 block: by the block's header, the receipt that holds the event, and the nodes of the receipts'
/// trie that lead to it; and likewise the transaction. Whether that block is one of L1's, L1 has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventProof {
    /// RLP of the L1 block's header.
    pub header: Bytes,
    /// The transaction's index in the L1 block.
    #[serde(with = "alloy::serde::quantity")]
    pub transaction_index: u64,
    /// The transaction (EIP-2718; without its blobs).
    pub transaction: Bytes,
    /// Nodes from the header's transactions root to it.
    pub transaction_proof: Vec<Bytes>,
    /// Its receipt (EIP-2718).
    pub receipt: Bytes,
    /// Nodes from the header's receipts root to it.
    pub receipt_proof: Vec<Bytes>,
    /// The event's index among the receipt's logs.
    #[serde(with = "alloy::serde::quantity")]
    pub log_index: u64,
}

/// An event that was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEvent {
    /// The event, with its transaction and the L1 block.
    pub event: RollupEvent,
    /// The block's timestamp, Unix seconds.
    pub timestamp: u64,
}

/// Why a proof of an event does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventProofError {
    /// The header is none.
    #[error("the L1 header does not decode: {0}")]
    Header(String),
    /// The transaction is not in the block.
    #[error("the L1 transaction is not what the header's transactions root leads to: {0}")]
    Transaction(String),
    /// The receipt is not in the block.
    #[error("the receipt is not what the header's receipts root leads to: {0}")]
    Receipt(String),
    /// The receipt has fewer logs.
    #[error("the receipt has {logs} logs, and none with index {index}")]
    Log {
        /// Which was named.
        index: u64,
        /// How many there are.
        logs: usize,
    },
    /// The log is another contract's.
    #[error("the log is one of the contract {0}")]
    Contract(Address),
    /// The log is not an event that is followed.
    #[error("the log is no event of a rollup contract that is known: {0}")]
    Event(String),
}

impl EventProof {
    /// Checks that an event of `contract` is what the hash of the block commits to. Asks nobody.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, contract: Address) -> Result<ProvenEvent, EventProofError> {
        let header = exactly::<Header>(&self.header).map_err(EventProofError::Header)?;
        let block = BlockNumHash::new(header.number, keccak256(&self.header));
        let index = self.transaction_index;
        let holds = |root: B256, entry: &Bytes, nodes: &[Bytes]| {
            verify_entry(root, index, entry, nodes).map_err(|error| error.to_string())
        };
        holds(header.transactions_root, &self.transaction, &self.transaction_proof)
            .map_err(EventProofError::Transaction)?;
        holds(header.receipts_root, &self.receipt, &self.receipt_proof)
            .map_err(EventProofError::Receipt)?;
        let receipt = ReceiptEnvelope::decode_2718_exact(&self.receipt)
            .map_err(|error| EventProofError::Receipt(error.to_string()))?;
        let logs = receipt.logs();
        let log = usize::try_from(self.log_index).ok().and_then(|index| logs.get(index));
        let missing = EventProofError::Log { index: self.log_index, logs: logs.len() };
        let log = log.ok_or(missing)?.clone();
        if log.address != contract {
            return Err(EventProofError::Contract(log.address));
        }
        let l1 = L1Ref { tx_hash: keccak256(&self.transaction), block };
        let log = Log { inner: log, ..Log::default() };
        let event = events::decode(&log, l1, header.timestamp)
            .map_err(|error| EventProofError::Event(error.to_string()))?
            .ok_or_else(|| EventProofError::Event("another event".to_owned()))?;
        Ok(ProvenEvent { event, timestamp: header.timestamp })
    }
}

/// The RLP of one item and nothing else.
fn exactly<T: Decodable>(bytes: &[u8]) -> Result<T, String> {
    rlp::decode_exact(bytes).map_err(|error| error.to_string())
}

impl RollupContract {
    /// Proves the first event that `wanted` takes of those in an L1 block. `None` if the block has none.
    ///
    /// # Errors
    /// [`L1Error::BlockMissing`] if the node does not have the block (any more), [`L1Error::Unproven`] if what it says of it does not hold.
    pub async fn prove_event(
        &self,
        block: B256,
        wanted: impl Fn(&RollupEvent) -> bool,
    ) -> Result<Option<EventProof>, L1Error> {
        let missing = || L1Error::BlockMissing(block.to_string());
        let client = self.client();
        let header = client.header_by_hash(block).await?.ok_or_else(missing)?;
        let receipts = client.receipts_of(&header).await?.ok_or_else(missing)?;
        let raw: Vec<Vec<u8>> = receipts
            .iter()
            .cloned()
            .map(|receipt| receipt.into_primitives_receipt().inner.encoded_2718())
            .collect();
        let l1_of = |tx_hash| L1Ref { tx_hash, block: (header.number, header.hash).into() };
        for (index, receipt) in receipts.iter().enumerate() {
            let logs = receipt.logs().iter().enumerate();
            for (log_index, log) in logs.filter(|(_, log)| log.address() == self.address()) {
                let event = events::decode(log, l1_of(receipt.transaction_hash), header.timestamp)?;
                if !event.is_some_and(|event| wanted(&event)) {
                    continue;
                }
                let transactions = client.transactions_of(&header).await?.ok_or_else(missing)?;
                let unfit = || L1Error::Inconsistent(format!("block {block} in two forms"));
                let (_, transaction_proof) = prove_entry(&transactions, index).ok_or_else(unfit)?;
                let (_, receipt_proof) = prove_entry(&raw, index).ok_or_else(unfit)?;
                return Ok(Some(EventProof {
                    header: rlp::encode(&header.inner).into(),
                    transaction_index: index as u64,
                    transaction: transactions.get(index).ok_or_else(unfit)?.clone(),
                    transaction_proof,
                    receipt: raw.get(index).ok_or_else(unfit)?.clone().into(),
                    receipt_proof,
                    log_index: log_index as u64,
                }));
            }
        }
        Ok(None)
    }
}
