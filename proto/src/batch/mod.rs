//! The batch codec: pure, bounded and total. `docs/batch-format.md` specifies the bytes.
//!
//! ```text
//!  blocks ─> columns (one a field, over all transactions) ─> zstd ┐
//!         └> signatures (r ‖ s, which do not compress) ───────────┴> header ‖ frame ‖ signatures
//! ```
//!
//! A batch holds all that L1 does not: block boundaries, timestamps, how many deposits each block
//! consumed, and the signed transactions. Deposits come from L1's queue, senders from the
//! signatures, and everything else from executing.

mod addresses;
mod decode;
mod decoded;
mod dictionary;
mod diffs;
mod encode;
mod error;
mod frame;
mod from_blocks;
mod header;
mod inputs;
mod limits;
mod numbers;
mod reader;
mod transactions;
mod writer;

use alloy::primitives::{B256, Bytes, keccak256};

pub use self::{
    decoded::{BatchOutline, BlockMark, DecodedBatch},
    dictionary::BatchDictionary,
    diffs::{AccountNames, DiffBatch, KeyHints, NameError, NamedDelta},
    error::{BatchColumn, BatchDecodeError, BatchEncodeError},
    limits::{BatchLimits, MAX_BLOCK_TX_BYTES},
};
use crate::types::TxEnvelope;

/// A stretch of the chain, as it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The rollup's EIP-155 chain id. Every transaction that names a chain names this one.
    pub chain_id: u64,
    /// Number of the first block, from 1.
    pub first_block: u64,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Deposits that the chain consumed before the first block.
    pub deposits_start: u64,
    /// Hash of the last block: what the batcher claims, for readers to compare.
    pub last_block_hash: B256,
    /// The blocks in order; at least one.
    pub blocks: Vec<BatchBlock>,
}

/// A block of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchBlock {
    /// Unix seconds; never less than the block's before it.
    pub timestamp: u64,
    /// Deposits that the chain has consumed through this block; never less than before it.
    pub deposits_end: u64,
    /// The signed transactions in order. The block's deposits, which come before them, are not
    /// held.
    pub transactions: Vec<TxEnvelope>,
}

impl Batch {
    /// Number of the last block.
    pub fn last_block(&self) -> u64 {
        self.first_block.saturating_add(self.blocks.len() as u64).saturating_sub(1)
    }

    /// Deposits that the chain has consumed through the last block.
    pub fn deposits_end(&self) -> u64 {
        self.blocks.last().map_or(self.deposits_start, |block| block.deposits_end)
    }

    /// How many signed transactions the batch holds.
    pub fn transaction_count(&self) -> usize {
        self.blocks.iter().map(|block| block.transactions.len()).sum()
    }

    /// The batch's bytes. The same batch gives the same bytes at the same `level` (zstd's, 1 to
    /// 22), with the same zstd.
    ///
    /// # Errors
    /// When a field breaks the rules stated on it, or the batch is over [`BatchLimits::default`].
    pub fn encode(&self, level: i32) -> Result<Bytes, BatchEncodeError> {
        self.encode_with(level, BatchDictionary::current())
    }

    /// [`Batch::encode`] with a dictionary that is being tried.
    ///
    /// # Errors
    /// As [`Batch::encode`].
    pub fn encode_with(
        &self,
        level: i32,
        dictionary: &BatchDictionary,
    ) -> Result<Bytes, BatchEncodeError> {
        encode::encode(self, level, dictionary)
    }

    /// What is compressed: the columns, one after another. Dictionaries are made of this.
    ///
    /// # Errors
    /// As [`Batch::encode`].
    pub fn columns(&self) -> Result<Vec<u8>, BatchEncodeError> {
        encode::Columns::of(self)?.join()
    }

    /// Reads a batch. Total: any bytes give a batch or an error, the same everywhere, within memory
    /// that is a small multiple of the limits. Signatures are not checked.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch within the limits.
    pub fn decode(encoded: &[u8], limits: &BatchLimits) -> Result<Self, BatchDecodeError> {
        decode::decode(encoded, None, limits)
    }

    /// [`Batch::decode`] with a dictionary that is being tried beside those that all know.
    ///
    /// # Errors
    /// As [`Batch::decode`].
    pub fn decode_with(
        encoded: &[u8],
        dictionary: &BatchDictionary,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        decode::decode(encoded, Some(dictionary), limits)
    }
}

/// What identifies an encoded batch on L1: `keccak256` of its bytes.
pub fn batch_digest(encoded: &[u8]) -> B256 {
    keccak256(encoded)
}
