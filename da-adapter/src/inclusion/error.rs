//! Why an inclusion proof does not hold.

use alloy::primitives::{Address, B256};
use millrace_l1::EventProofError;
use millrace_proto::{BatchDecodeError, DaKind};

/// Why an inclusion proof does not hold: the first thing that was found.
#[derive(Debug, thiserror::Error)]
pub enum InclusionProofError {
    /// Another form of proof.
    #[error(
        "the proof has version {found}, and this build reads version {known}: use a build of that version"
    )]
    Version {
        /// The proof's.
        found: u64,
        /// What this build reads.
        known: u64,
    },
    /// For another L1.
    #[error("the proof is for L1 chain {found}, and the L1 that was asked for is chain {expected}")]
    L1Chain {
        /// The proof's.
        found: u64,
        /// The verifier's.
        expected: u64,
    },
    /// For another rollup.
    #[error(
        "the proof is for the rollup contract {found}, and that of the rollup that was asked for is {expected}"
    )]
    Rollup {
        /// The proof's.
        found: Address,
        /// The verifier's.
        expected: Address,
    },
    /// The record of the batch is not bound to an L1 block's hash.
    #[error("the record of the batch: {0}")]
    Posted(#[source] EventProofError),
    /// The event that was proved records no batch.
    #[error("the event that is to be the batch's record is another one")]
    NotPosted,
    /// The bytes are not those that L1 recorded.
    #[error("the batch's bytes have the digest {found}, and L1 recorded {recorded}")]
    Digest {
        /// Of the proof's bytes.
        found: B256,
        /// What L1 recorded.
        recorded: B256,
    },
    /// More bytes than a batch may have.
    #[error("{size} bytes are more than the {limit} that a batch may have")]
    TooLarge {
        /// How many they are.
        size: usize,
        /// The most.
        limit: usize,
    },
    /// The bytes are not what the blobs or the calldata of the posting transaction hold, or the record's pointer is none.
    #[error("the batch's bytes are not what L1 recorded for {}: {problem}", kind.as_str())]
    Da {
        /// Where they are to be.
        kind: DaKind,
        /// What does not fit.
        problem: String,
    },
    /// The bytes are no batch.
    #[error("the batch does not decode: {0}")]
    Undecodable(#[from] BatchDecodeError),
    /// Of another chain.
    #[error("the batch is for chain {found}, the proof for chain {expected}")]
    ChainId {
        /// The batch's.
        found: u64,
        /// The proof's.
        expected: u64,
    },
    /// The record and the bytes disagree: everybody skips such a batch.
    #[error("the batch's {field} is {found} in its bytes and {recorded} on L1")]
    Outline {
        /// What they disagree about.
        field: &'static str,
        /// In the bytes.
        found: u64,
        /// On L1.
        recorded: u64,
    },
    /// A header is none, or not the next one.
    #[error("header {position} of the proof {problem}")]
    Headers {
        /// Its position, from 0.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The headers do not lead to the block that the batch names as its last.
    #[error("the headers lead to block {found}, and the batch ends with {named}")]
    LastBlock {
        /// Hash of the last header.
        found: B256,
        /// What the batch says.
        named: B256,
    },
    /// The transaction has another hash.
    #[error("the transaction has the hash {found}, and the proof is to be for {expected}")]
    TransactionHash {
        /// Of its bytes.
        found: B256,
        /// The proof's.
        expected: B256,
    },
    /// The block does not have the transaction at that index.
    #[error("the transaction is not what the block's transactions root leads to: {0}")]
    Transaction(String),
    /// The batch does not hold the transaction, and it does not come from L1's queue either.
    #[error("block {block} of the batch does not hold the transaction")]
    NotInBatch {
        /// The block.
        block: u64,
    },
    /// The place in the block and the place in the batch cannot both be.
    #[error(
        "the transaction is number {position} of the batch's block and number {index} of the block itself, which cannot be"
    )]
    Index {
        /// Among the signed transactions that the batch has of the block, from 0.
        position: u64,
        /// In the block, from 0.
        index: u64,
    },
    /// The record of the commitment is not bound to an L1 block's hash.
    #[error("the record of the commitment: {0}")]
    Committed(#[source] EventProofError),
    /// The event that was proved records no commitment.
    #[error("the event that is to be the commitment's record is another one")]
    NotCommitted,
    /// The commitment is to something else.
    #[error("the commitment has another {0} than the batch")]
    Commitment(&'static str),
}
