//! What is derived from L1, on a chain that the sequencer's feed extends too.

use std::sync::Arc;

use alloy::primitives::B256;
use millrace_executor::Replayer;
use millrace_proto::{
    DerivedBlock, DerivedStretch, ExecutedBlock, ExecutorError, Replay, ReplayError, SealedHeader,
};
use tracing::warn;

use super::Turn;

/// A replayer that finds blocks which the feed brought before, and takes back those that L1 has otherwise.
#[derive(Debug)]
pub(super) struct Derived {
    inner: Replayer,
    turn: Turn,
}

impl Derived {
    pub(super) const fn new(inner: Replayer, turn: Turn) -> Self {
        Self { inner, turn }
    }
}

impl Replay for Derived {
    /// Not while the feed takes blocks back.
    fn head(&self) -> SealedHeader {
        let _turn = self.turn.blocking_lock();
        self.inner.head()
    }

    /// The feed may have brought a block under this number since the caller looked.
    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError> {
        let _turn = self.turn.blocking_lock();
        if block.number <= self.inner.head().number {
            if let Some(executed) = self.inner.block(block.number)?
                && block.is_all_in(&executed)
            {
                return Ok(executed);
            }
            warn!(target: "millrace::follow", block = block.number, "L1 has another block than the sequencer's feed; taking that back");
            self.inner.unwind(block.number.saturating_sub(1))?;
        }
        let head = self.inner.head();
        if block.number != head.number + 1 {
            // Never the batch's fault.
            return Err(ReplayError::Executor(ExecutorError::NotHead {
                head_number: head.number,
                head_hash: head.hash(),
                problem: format!("block {} is to follow it", block.number),
            }));
        }
        self.inner.replay(block)
    }

    fn apply(&mut self, stretch: DerivedStretch) -> Result<(), ReplayError> {
        let _turn = self.turn.blocking_lock();
        self.inner.apply(stretch)
    }

    fn unwind(&mut self, number: u64) -> Result<(), ReplayError> {
        let _turn = self.turn.blocking_lock();
        self.inner.unwind(number)
    }

    fn applied(&self, number: u64) -> Result<Option<B256>, ReplayError> {
        self.inner.applied(number)
    }

    fn header(&self, number: u64) -> Result<Option<SealedHeader>, ReplayError> {
        self.inner.header(number)
    }

    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError> {
        self.inner.block(number)
    }
}
