//! L2-to-L1 messages and the Merkle root that a commitment carries for them.

use alloy::{
    primitives::{Address, B256, address, keccak256},
    sol,
};

use alloy::sol_types::SolEvent;

use crate::types::Receipt;

/// The L2 predeploy that records messages to L1.
pub const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");

sol! {
    /// A message to L1; `id` commits to all of it.
    event MessageSent(uint64 indexed nonce, address indexed sender, address indexed target, uint256 value, uint64 gasLimit, bytes data, bytes32 id);
}

/// Where the predeploy records that a message was sent: the entry of its id in the mapping in slot 0.
pub fn message_slot(id: B256) -> B256 {
    keccak256([id, B256::ZERO].concat())
}

/// Where the predeploy counts the messages.
pub const MESSAGE_COUNT_SLOT: B256 = B256::with_last_byte(1);

/// The ids of the messages that the receipts record, in order.
pub fn message_ids<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> Vec<B256> {
    receipts
        .into_iter()
        .flat_map(|receipt| &receipt.logs)
        .filter(|log| log.address == MESSAGE_PASSER)
        .filter_map(|log| MessageSent::decode_log(log).ok().map(|event| event.id))
        .collect()
}

/// The Merkle root over message ids: pairs are hashed in sorted order (as OpenZeppelin's `MerkleProof` expects), a node without
/// a partner moves up as it is, leaves are hashed once more so that no node can pose as a leaf. Zero for no messages.
pub fn message_root(ids: &[B256]) -> B256 {
    let mut level: Vec<B256> = ids.iter().map(keccak256).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => {
                    let (low, high) = if a <= b { (a, b) } else { (b, a) };
                    keccak256([low.as_slice(), high.as_slice()].concat())
                }
                rest => rest[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}
