//! References into L1 and the records that the rollup contract keeps.

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, Bytes, Signature, TxHash},
};

/// An L1 transaction and the L1 block that includes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Ref {
    /// The transaction.
    pub tx_hash: TxHash,
    /// The block.
    pub block: BlockNumHash,
}

/// Where a batch's bytes are: the contract's `daKind` byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DaKind {
    /// EIP-4844 blobs of the posting transaction.
    L1Blob = 1,
    /// The posting transaction's call data.
    L1Calldata = 2,
    /// An OP alt-DA server.
    AltDa = 3,
    /// Celestia.
    Celestia = 4,
    /// An object store; the pointer is the object's key.
    ObjectStore = 5,
}

impl DaKind {
    /// The name used in configuration, metrics and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1Blob => "l1_blob",
            Self::L1Calldata => "l1_calldata",
            Self::AltDa => "alt_da",
            Self::Celestia => "celestia",
            Self::ObjectStore => "object_store",
        }
    }
}

impl TryFrom<u8> for DaKind {
    type Error = UnknownDaKind;

    fn try_from(byte: u8) -> Result<Self, UnknownDaKind> {
        Ok(match byte {
            1 => Self::L1Blob,
            2 => Self::L1Calldata,
            3 => Self::AltDa,
            4 => Self::Celestia,
            5 => Self::ObjectStore,
            other => return Err(UnknownDaKind(other)),
        })
    }
}

/// A `daKind` byte that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown DA kind {0}")]
pub struct UnknownDaKind(pub u8);

/// What the contract is told of a batch when it is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// From 1, without gaps.
    pub number: u64,
    /// First L2 block.
    pub first_block: u64,
    /// Last L2 block.
    pub last_block: u64,
    /// Deposits that the chain has consumed through the last block.
    pub deposits_end: u64,
    /// The deposit queue's accumulator at `deposits_end`.
    pub deposits_hash: B256,
    /// `keccak256` of the encoded batch.
    pub digest: B256,
    /// Where the bytes are.
    pub da_kind: DaKind,
}

/// A batch as the contract recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedBatch {
    /// What was posted.
    pub header: BatchHeader,
    /// The contract's chained hash of it.
    pub batch_hash: B256,
    /// Versioned hashes of the blobs, for `l1_blob`.
    pub blob_hashes: Vec<B256>,
    /// The backend's pointer, for the other kinds.
    pub da_pointer: Bytes,
    /// The posting transaction.
    pub l1: L1Ref,
    /// The including L1 block's timestamp, Unix seconds.
    pub l1_timestamp: u64,
}

/// A commitment as the contract recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// The batch.
    pub batch: u64,
    /// The batch whose commitment came directly before, 0 if this is the first one.
    pub previous: u64,
    /// The contract's hash of the batch.
    pub batch_hash: B256,
    /// First L2 block.
    pub first_block: u64,
    /// Last L2 block.
    pub last_block: u64,
    /// Its hash.
    pub last_block_hash: B256,
    /// State root after it.
    pub state_root: B256,
    /// Root over the batch's L2-to-L1 messages.
    pub message_root: B256,
    /// L1 time of the commitment, Unix seconds.
    pub committed_at: u64,
    /// L1 time from which on the contract lets nobody revert it, Unix seconds.
    pub final_at: u64,
    /// The committing transaction.
    pub l1: L1Ref,
}

/// What executing a batch gave: what is committed, and what verifiers sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOutcome {
    /// The batch.
    pub batch: u64,
    /// The contract's hash of the batch.
    pub batch_hash: B256,
    /// First L2 block.
    pub first_block: u64,
    /// Last L2 block.
    pub last_block: u64,
    /// Its hash.
    pub last_block_hash: B256,
    /// State root after it.
    pub state_root: B256,
    /// Root over the batch's L2-to-L1 messages.
    pub message_root: B256,
}

/// A verifier's signature below what it has come to (EIP-712, as the contract `Attestation` has it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    /// What it has come to.
    pub outcome: BatchOutcome,
    /// How many times commitments had been reverted when it signed: after one more, the signature does not count any more.
    pub reverts: u32,
    /// Its signature.
    pub signature: Signature,
}
