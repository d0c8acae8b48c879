//! What the log holds.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, TxHash};
use millrace_proto::{QueuedTxs, RecoveredTx, RejectReason};

/// A record of the order log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Accepted, and in no frame yet.
    Pooled {
        /// In order of arrival.
        txs: Vec<Arc<RecoveredTx>>,
        /// When each was accepted ([`AcceptTimes`]).
        accepted_at: AcceptTimes,
    },
    /// A block was opened; its frames follow.
    BlockOpened(BlockOpened),
    /// Transactions that were given to the open block, in order. Those that were in no record before are accepted by this one.
    Frame {
        /// The open block.
        block: u64,
        /// In order.
        txs: Vec<Arc<RecoveredTx>>,
        /// When each was accepted.
        accepted_at: AcceptTimes,
    },
    /// A block was sealed. It holds what it takes of L1's queue, and the transactions of its frames without those that are in `returned` or
    /// were dropped.
    BlockSealed {
        /// The block.
        number: u64,
        /// Its hash.
        hash: B256,
        /// Transactions of its frames that went back to the pool.
        returned: Vec<TxHash>,
        /// When.
        times: BlockTimes,
    },
    /// A block is void: the last one that was opened, sealed or not. Its number is free again.
    BlockUnwound {
        /// The block.
        number: u64,
        /// Its hash, or `None` if it was not sealed.
        hash: Option<B256>,
        /// The signed transactions that it holds, in order, if it was sealed: they wait again, before everything else that waits.
        txs: Vec<Arc<RecoveredTx>>,
        /// When each was accepted.
        accepted_at: AcceptTimes,
    },
    /// Transactions that left the pool for good.
    Dropped {
        /// With their reasons.
        txs: Vec<DroppedTx>,
    },
}

/// When transactions were accepted, since the Unix epoch, in whole milliseconds: in their order, `None` where it is not known, and none at all where nothing is known of any.
pub type AcceptTimes = Vec<Option<Duration>>;

/// What happened when in a block's life until it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockTimes {
    /// When it was sealed, since the Unix epoch, in whole milliseconds; `None` in what an earlier version wrote.
    pub sealed_at: Option<Duration>,
    /// When each of its transactions was accepted, in the block's order.
    pub accepted_at: AcceptTimes,
}

/// Everything that fixes a block besides its transactions and the chain's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOpened {
    /// The parent's number plus one.
    pub number: u64,
    /// The parent.
    pub parent_hash: B256,
    /// Unix seconds, not before the parent's.
    pub timestamp: u64,
    /// What it takes of L1's queue.
    pub queued: QueuedTxs,
}

/// A transaction that was accepted and will not be included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTx {
    /// The transaction.
    pub tx: Arc<RecoveredTx>,
    /// Why.
    pub reason: RejectReason,
    /// When, since the Unix epoch, in whole milliseconds.
    pub at: Duration,
    /// When it was accepted, if that is known.
    pub accepted_at: Option<Duration>,
}

impl Record {
    /// The kind, as metrics and logs name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Pooled { .. } => "pooled",
            Self::BlockOpened(_) => "block_opened",
            Self::Frame { .. } => "frame",
            Self::BlockSealed { .. } => "block_sealed",
            Self::BlockUnwound { .. } => "block_unwound",
            Self::Dropped { .. } => "dropped",
        }
    }
}
