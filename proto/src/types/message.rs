//! L2-to-L1 messages and the Merkle root that a commitment carries for them.

use alloy::{
    primitives::{Address, B256, Bytes, Log, U256, address, keccak256},
    sol,
    sol_types::{SolEvent, SolValue},
};

use crate::types::Receipt;

/// The L2 predeploy that records messages to L1.
pub const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");

/// The L2 predeploy that makes the counterparts of L1's tokens. As the target of a message, it stands for the bridge on L1.
pub const TOKEN_BRIDGE: Address = address!("4200000000000000000000000000000000000010");

/// The L2 predeploy with the code of those counterparts.
pub const BRIDGED_TOKEN: Address = address!("4200000000000000000000000000000000000012");

sol! {
    /// A message to L1; `id` commits to all of it.
    event MessageSent(uint64 indexed nonce, address indexed sender, address indexed target, uint256 value, uint64 gasLimit, bytes data, bytes32 id);
}

/// A message to L1, as the predeploy's event tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Messages that L2 sent before it.
    pub nonce: u64,
    /// Who sent it on L2.
    pub sender: Address,
    /// Whom L1 calls with it.
    pub target: Address,
    /// Wei that the call brings along.
    pub value: U256,
    /// Gas that the call has on L1, at least.
    pub gas_limit: u64,
    /// Input of the call.
    pub data: Bytes,
}

impl Message {
    /// The message that a log of L2 tells of; `None` for any other log, and for one that the predeploy would not write.
    pub fn of_log(log: &Log) -> Option<Self> {
        if log.address != MESSAGE_PASSER {
            return None;
        }
        let event = MessageSent::decode_log(log).ok()?.data;
        let message = Self {
            nonce: event.nonce,
            sender: event.sender,
            target: event.target,
            value: event.value,
            gas_limit: event.gasLimit,
            data: event.data,
        };
        (message.id() == event.id).then_some(message)
    }

    /// `keccak256(abi.encode(nonce, sender, target, value, gasLimit, data))`, under which both layers keep it.
    pub fn id(&self) -> B256 {
        let Self { nonce, sender, target, value, gas_limit, data } = self;
        keccak256((*nonce, *sender, *target, *value, *gas_limit, data.clone()).abi_encode_params())
    }
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
    let mut level = leaves(ids);
    while level.len() > 1 {
        level = above(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// What proves to the contract that the message at `index` is one of those under their root: its siblings on the way up, from below.
/// `None` if there is no such message.
pub fn message_proof(ids: &[B256], mut index: usize) -> Option<Vec<B256>> {
    let mut level = leaves(ids);
    level.get(index)?;
    let mut proof = Vec::new();
    while level.len() > 1 {
        proof.extend(level.get(index ^ 1));
        level = above(&level);
        index /= 2;
    }
    Some(proof)
}

fn leaves(ids: &[B256]) -> Vec<B256> {
    ids.iter().map(keccak256).collect()
}

fn above(level: &[B256]) -> Vec<B256> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => {
                let (low, high) = if a <= b { (a, b) } else { (b, a) };
                keccak256([low.as_slice(), high.as_slice()].concat())
            }
            rest => rest[0],
        })
        .collect()
}
