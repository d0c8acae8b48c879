//! What the sequencer takes from L1.

use std::fmt;

use alloy::primitives::Address;
use async_trait::async_trait;

use crate::types::QueueEntry;

/// The L1 contract's queue of deposits and forced transactions, as far as L1 has confirmed it.
#[async_trait]
pub trait L1Inbox: fmt::Debug + Send + Sync + 'static {
    /// The L1 contract that holds the queue.
    fn rollup(&self) -> Address;

    /// Confirmed entries from an index on, in order, without gaps, at most `max`. Empty if there are none yet.
    async fn entries(&self, from: u64, max: usize) -> Result<Vec<QueueEntry>, L1InboxError>;
}

/// Why L1 did not answer. Always worth a retry; sequencing goes on meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("L1 inbox: {0}")]
pub struct L1InboxError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
