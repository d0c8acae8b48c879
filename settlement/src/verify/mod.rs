//! Rebuilding the chain from L1 alone, and checking everything that L1 holds of it.
//!
//! ```text
//!  L1 events, block by block ─┬ deposit ───> queue, accumulator
//!                             ├ batch ─────> hash chain ─ bytes from DA ─ derive ─ execute ─> claims
//!                             └ commitment ─> compare with what executing the batch gave
//!  the contract's storage ──────> compare with what the events add up to: counters and chained hashes, by the L1 block's state root
//! ```

mod counters;
mod error;
mod events;
mod run;
#[cfg(test)]
mod tests;

pub use self::{
    error::{Difference, VerifyError},
    run::{VerifyInput, VerifyTarget, verify_chain},
};

use alloy::eips::BlockNumHash;
use millrace_proto::BatchPoint;

/// How far verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The L1 block reached.
    pub l1_block: u64,
    /// The first L1 block of the chain.
    pub l1_start: u64,
    /// The L1 block at which verification ends.
    pub l1_target: u64,
    /// The last L2 block verified.
    pub block: u64,
    /// Batches seen, skipped ones included.
    pub batches: u64,
    /// L2 transactions executed.
    pub transactions: u64,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// L2 blocks executed and found right.
    pub blocks: u64,
    /// Transactions in them, deposits included.
    pub transactions: u64,
    /// Posted batches, skipped ones included.
    pub batches: u64,
    /// Commitments that stand and are right.
    pub commitments: u64,
    /// Deposits queued on L1.
    pub deposits: u64,
    /// Posted batches that derivation skips.
    pub skipped: Vec<SkippedBatch>,
    /// The derived chain's head.
    pub head: BlockNumHash,
    /// The last finalized batch.
    pub finalized: Option<BatchPoint>,
    /// The last L1 block that was read. Everything else follows from its hash, if [`Self::l1_checked`] says so.
    pub l1_head: BlockNumHash,
    /// How what the L1 node says was checked.
    pub l1_checked: L1Check,
    /// Other L1 nodes that have that block; none has another one.
    pub l1_agreed: usize,
}

/// How what an L1 node says is bound to one L1 block's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L1Check {
    /// What all events add up to is what the contract's storage holds, by the block's state root (EIP-1186).
    Proof,
    /// Every block since the contract's deployment was read, each the parent of the next: events are those of its receipts.
    Receipts,
    /// It is believed.
    None,
}

impl L1Check {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Receipts => "receipts",
            Self::None => "none",
        }
    }
}

/// A posted batch that derivation skips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedBatch {
    /// Its number.
    pub number: u64,
    /// Why.
    pub reason: String,
}
