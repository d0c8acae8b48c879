//! Why a posted batch is skipped, and what can be wrong with the view of L1 itself.

use alloy::primitives::{B256, TxHash};

/// Why derivation skips a posted batch. The same for everyone who reads the same L1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The batch does not begin at the block after the derived head.
    #[error("begins at block {first_block}, but the chain goes on at block {expected}")]
    NotContiguous {
        /// The batch's first block.
        first_block: u64,
        /// The block after the derived head.
        expected: u64,
    },
    /// The batch, or a block in it, gives deposits back.
    #[error("ends at deposit {deposits_end}, but the chain has consumed {consumed} already")]
    DepositsBackwards {
        /// What the batch says.
        deposits_end: u64,
        /// Deposits that the chain has consumed.
        consumed: u64,
    },
    /// The DA layer's bytes are those that were posted, and they are no batch.
    #[error("its bytes are no batch: {0}")]
    Unreadable(String),
    /// The bytes are not those that the posted header names.
    #[error("the digest of its bytes is {computed}, not {posted}")]
    Digest {
        /// What the header says.
        posted: B256,
        /// Digest of the bytes.
        computed: B256,
    },
    /// The bytes do not decode.
    #[error("does not decode: {0}")]
    Undecodable(String),
    /// A batch of another chain.
    #[error("is for chain {found}, not {expected}")]
    ChainId {
        /// The batch's chain id.
        found: u64,
        /// This chain's.
        expected: u64,
    },
    /// The posted header and the bytes disagree about a number.
    #[error("{field} is {found} in its bytes and {posted} on L1")]
    Header {
        /// What they disagree about.
        field: &'static str,
        /// In the bytes.
        found: u64,
        /// In the posted header.
        posted: u64,
    },
    /// The batch was built on another chain than the derived one.
    #[error("builds on block {found}, but the chain's head is {expected}")]
    ParentHash {
        /// The parent that the batch names.
        found: B256,
        /// The derived head.
        expected: B256,
    },
    /// The batch begins with another deposit than the chain's next one.
    #[error("begins at deposit {found}, but the chain goes on at deposit {expected}")]
    DepositsStart {
        /// What the batch says.
        found: u64,
        /// The chain's next deposit.
        expected: u64,
    },
    /// The header at the end of a batch of state diffs names another queue than L1 had.
    #[error("its last header names accumulator {found}, and L1's queue has {expected} there")]
    Queue {
        /// What the header says.
        found: B256,
        /// L1's.
        expected: B256,
    },
    /// A block is older than its parent.
    #[error("block {block} has timestamp {timestamp}, before its parent's {parent}")]
    Timestamp {
        /// The block.
        block: u64,
        /// Its timestamp.
        timestamp: u64,
        /// Its parent's.
        parent: u64,
    },
    /// A transaction's signature gives no sender.
    #[error("block {block}: transaction {hash} has an invalid signature")]
    Signature {
        /// The block.
        block: u64,
        /// The transaction.
        hash: TxHash,
    },
    /// The blocks cannot be executed, or lead to another end than the batch claims.
    #[error("does not execute to what it claims: {0}")]
    Execution(String),
}

impl SkipReason {
    /// A short name for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotContiguous { .. } => "not_contiguous",
            Self::DepositsBackwards { .. } => "deposits_backwards",
            Self::Unreadable(_) => "unreadable",
            Self::Digest { .. } => "digest",
            Self::Undecodable(_) => "undecodable",
            Self::ChainId { .. } => "chain_id",
            Self::Header { .. } => "header",
            Self::ParentHash { .. } => "parent_hash",
            Self::DepositsStart { .. } => "deposits_start",
            Self::Queue { .. } => "queue",
            Self::Timestamp { .. } => "timestamp",
            Self::Signature { .. } => "signature",
            Self::Execution(_) => "execution",
        }
    }
}

/// Why a posted batch gave no blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The batch is invalid: everyone skips it, and the chain goes on with the next one that joins.
    #[error("skipped: {0}")]
    Skip(#[from] SkipReason),
    /// The deposits seen are not those that the contract says it holds. The contract accepts no batch over other deposits, so this
    /// says nothing about the batch: the view of L1 is wrong.
    #[error(
        "the deposits read from L1 do not give the contract's accumulator at deposit {deposits_end}: {computed}, not {posted}"
    )]
    Deposits {
        /// Deposits that the accumulator covers.
        deposits_end: u64,
        /// What the contract accepted.
        posted: B256,
        /// Over the deposits read.
        computed: B256,
    },
}
