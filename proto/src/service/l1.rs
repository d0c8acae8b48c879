//! What the sequencer takes from L1.

use std::fmt;

use alloy::primitives::Address;
use async_trait::async_trait;

use crate::types::{QueueEntry, QueueMark};

/// The L1 contract's queue of deposits and forced transactions, as far as L1 has confirmed it.
#[async_trait]
pub trait L1Inbox: fmt::Debug + Send + Sync + 'static {
    /// The L1 contract that holds the queue.
    fn rollup(&self) -> Address;

    /// Confirmed entries behind a mark, in order, without gaps, at most `max`. Empty if there are none yet.
    ///
    /// # Errors
    /// [`L1InboxError::Vanished`] if L1 does not have the entries before the mark any more as they were when they were taken.
    async fn entries(&self, after: QueueMark, max: usize) -> Result<Vec<QueueEntry>, L1InboxError>;

    /// Whether L1 has the entries before a mark, and confirmed, as they were when they were taken.
    ///
    /// # Errors
    /// If L1 does not answer.
    async fn standing(&self, mark: QueueMark) -> Result<Standing, L1InboxError>;
}

/// What L1 has of the entries that a chain has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All of them, as they were.
    Whole,
    /// Others in their place.
    Replaced,
    /// Fewer, at its last confirmed block, whose timestamp this is (Unix seconds): they may come back, or its node lags behind.
    Fewer(u64),
}

/// Why L1 did not give entries. Always worth a retry; sequencing goes on meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum L1InboxError {
    /// It does not answer, or not as it should.
    #[error("L1 inbox: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A reorg took entries that the chain has taken.
    #[error(
        "L1 inbox: a reorg took entries among the first {end} of the queue, which the chain has taken"
    )]
    Vanished {
        /// Entries that the chain has taken.
        end: u64,
        /// The timestamp of L1's last confirmed block (Unix seconds) if it has fewer entries now, so that they may yet come back as they
        /// were; `None` if it has others in their place.
        missing_at: Option<u64>,
    },
}
