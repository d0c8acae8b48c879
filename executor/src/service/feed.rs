//! Sealed blocks from a cursor on.

use std::sync::Arc;

use futures::stream;
use millrace_proto::{BlockSelector, BoxStream, ExecutedBlock, ExecutorError, SealedHeader};
use tokio::sync::watch;

use super::handle::blocking;
use crate::store::Store;

/// A subscriber: where it is, and what it reads from. It holds no blocks, so a slow one costs nothing.
pub(super) struct Follower {
    pub(super) store: Arc<Store>,
    pub(super) head: watch::Receiver<SealedHeader>,
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
        while self.head.borrow_and_update().number < self.next {
            if self.head.changed().await.is_err() {
                return Ok(None);
            }
        }
        let at = BlockSelector::Number(self.next);
        let store = self.store.clone();
        let block = blocking(move || Ok(store.block(at)?)).await?;
        self.next += 1;
        block.ok_or(ExecutorError::UnknownBlock(at)).map(Some)
    }
}
