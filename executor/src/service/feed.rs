//! Sealed blocks from a cursor on.

use std::sync::Arc;

use futures::stream;
use millrace_proto::{BlockSelector, BoxStream, ExecutedBlock, ExecutorError, SealedHeader};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::handle::blocking;
use crate::{
    chain::Chain,
    store::{Store, StoreError},
};

/// Down to which blocks the chain was taken back, one after the other, since the service started.
#[derive(Debug, Clone, Default)]
pub(super) struct Unwound(Arc<RwLock<Vec<u64>>>);

impl Unwound {
    /// Notes that the blocks after this one are about to be taken back.
    fn push(&self, to: u64) {
        self.0.write().push(to);
    }

    /// How often that has happened.
    pub(super) fn count(&self) -> usize {
        self.0.read().len()
    }

    /// The lowest block that the chain was taken back to since it had happened `seen` times.
    fn lowest_since(&self, seen: &mut usize) -> Option<u64> {
        let all = self.0.read();
        let lowest = all[*seen..].iter().copied().min();
        *seen = all.len();
        lowest
    }
}

/// What subscribers are told of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    head: watch::Sender<SealedHeader>,
    unwound: Unwound,
}

impl Shown {
    pub(super) fn new(head: SealedHeader) -> Self {
        Self { head: watch::Sender::new(head), unwound: Unwound::default() }
    }

    pub(super) fn follow(&self) -> (watch::Receiver<SealedHeader>, Unwound) {
        (self.head.subscribe(), self.unwound.clone())
    }

    /// There is another head.
    pub(crate) fn head(&self, head: SealedHeader) {
        self.head.send_replace(head);
    }

    /// Takes back the blocks after this one, also only some of them if that fails, and tells of it: before the store changes, so that whoever reads a block
    /// after that learns of it, and after, as whoever learned of it in between may have read blocks that were still there.
    pub(crate) fn unwind(&self, chain: &Chain, to: u64) -> Result<(), StoreError> {
        if chain.head().number <= to {
            return Ok(());
        }
        self.unwound.push(to);
        let result = chain.unwind(to);
        self.unwound.push(to);
        self.head(chain.head());
        result
    }
}

/// A subscriber: where it is, and what it reads from. It holds no blocks, so a slow one costs nothing.
pub(super) struct Follower {
    pub(super) store: Arc<Store>,
    pub(super) head: watch::Receiver<SealedHeader>,
    pub(super) unwound: Unwound,
    /// How many times it has seen the chain taken back.
    pub(super) seen: usize,
    pub(super) next: u64,
}

impl Follower {
    /// The stream; it ends when the service stops, or after an error.
    pub(super) fn into_stream(self) -> BoxStream<Arc<ExecutedBlock>, ExecutorError> {
        Box::pin(stream::unfold(Some(self), |follower| async {
            let mut follower = follower?;
            match follower.next_block().await.transpose()? {
                Ok(block) => Some((Ok(block), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next_block(&mut self) -> Result<Option<Arc<ExecutedBlock>>, ExecutorError> {
        loop {
            self.go_back();
            if self.head.borrow_and_update().number < self.next {
                if self.head.changed().await.is_err() {
                    return Ok(None);
                }
                continue;
            }
            let at = BlockSelector::Number(self.next);
            let store = self.store.clone();
            let block = blocking(move || Ok(store.block(at)?)).await?;
            if self.go_back() {
                continue;
            }
            self.next += 1;
            return block.ok_or(ExecutorError::UnknownBlock(at)).map(Some);
        }
    }

    /// Goes back to where the chain was taken back to, and says whether it was.
    fn go_back(&mut self) -> bool {
        let Some(to) = self.unwound.lowest_since(&mut self.seen) else { return false };
        self.next = self.next.min(to + 1);
        true
    }
}
