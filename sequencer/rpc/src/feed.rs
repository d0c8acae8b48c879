//! Sealed blocks as they come, and those that are taken back, for all subscriptions together.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::StreamExt;
use millrace_proto::{
    BlockSelector, ErrorChain, ExecutedBlock, Executor, ExecutorError, Outage, PastOutage,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::filters::FilterRegistry;

/// How long to wait before asking a failed executor again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Blocks that are remembered, to be reported should they be taken back.
const REMEMBERED: usize = 1024;
/// Memory that they may take, about; the last block is remembered whatever its size.
const REMEMBERED_BYTES: usize = 64 << 20;

/// What becomes of blocks.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// One was sealed.
    Sealed(Arc<ExecutedBlock>),
    /// Some were taken back. The newest comes first.
    Removed(Arc<[Arc<ExecutedBlock>]>),
}

/// Sends each change once to each subscriber; one that lags too far is told so instead.
#[derive(Debug, Clone)]
pub(crate) struct BlockFeed(broadcast::Sender<Change>);

/// Where the feed is.
#[derive(Debug)]
struct Position {
    /// The block that has to come next.
    next: u64,
    /// The last blocks before it.
    last: VecDeque<Arc<ExecutedBlock>>,
    bytes: usize,
}

impl Position {
    fn joins(&self, block: &ExecutedBlock) -> bool {
        block.number() == self.next
            && self.last.back().is_none_or(|last| last.hash() == block.header.parent_hash)
    }

    fn push(&mut self, block: Arc<ExecutedBlock>) {
        self.next = block.number() + 1;
        self.bytes += block.memory();
        self.last.push_back(block);
        while self.last.len() > 1
            && (self.last.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES)
            && let Some(oldest) = self.last.pop_front()
        {
            self.bytes -= oldest.memory();
        }
    }

    fn pop(&mut self) -> Option<Arc<ExecutedBlock>> {
        let block = self.last.pop_back()?;
        self.next = block.number();
        self.bytes -= block.memory();
        Some(block)
    }
}

impl BlockFeed {
    /// Keeps `capacity` changes for subscribers that lag.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(broadcast::Sender::new(capacity.max(1)))
    }

    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }

    /// Follows the executor from block `next` on, until `stop`.
    pub(crate) async fn run(
        self,
        executor: Arc<dyn Executor>,
        filters: Arc<FilterRegistry>,
        next: u64,
        stop: CancellationToken,
    ) {
        let mut outage = Outage::new();
        let mut at = Position { next, last: VecDeque::new(), bytes: 0 };
        let follow = async {
            loop {
                match self.follow(&*executor, &filters, &mut at, &mut outage).await {
                    // Blocks were taken back.
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        let (error, next) = (ErrorChain::new(&error), at.next);
                        if outage.failed() {
                            warn!(target: "millrace::rpc", %error, next, "block feed interrupted; subscriptions wait");
                        } else {
                            debug!(target: "millrace::rpc", %error, next, "block feed still interrupted");
                        }
                    }
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Follows one stream. `true` if it has to go on with another at once, as blocks were taken back.
    async fn follow(
        &self,
        executor: &dyn Executor,
        filters: &FilterRegistry,
        at: &mut Position,
        outage: &mut Outage,
    ) -> Result<bool, ExecutorError> {
        // While nobody listened, blocks may have been taken back.
        let head = executor.head().await?.number;
        self.go_back(executor, filters, at, head).await?;
        if head + 1 < at.next {
            // An executor that has lost blocks gets them again.
            return Ok(false);
        }
        let mut blocks = executor.subscribe(at.next).await?;
        if let Some(PastOutage { failures, lasted }) = outage.over() {
            info!(target: "millrace::rpc", failures, ?lasted, next = at.next, "the block feed goes on");
        }
        while let Some(block) = blocks.next().await {
            let block = block?;
            if !at.joins(&block) {
                self.go_back(executor, filters, at, block.number()).await?;
                // Further back than is remembered.
                if block.number() < at.next {
                    filters.unwind(&[], block.number());
                    at.last.clear();
                    (at.next, at.bytes) = (block.number(), 0);
                }
                return Ok(true);
            }
            at.push(block.clone());
            filters.seen(at.next);
            // An error only says that nobody subscribes.
            let _ = self.0.send(Change::Sealed(block));
        }
        Ok(false)
    }

    /// Goes back to before the first block up to number `to` that the executor has otherwise, if there is one.
    async fn go_back(
        &self,
        executor: &dyn Executor,
        filters: &FilterRegistry,
        at: &mut Position,
        to: u64,
    ) -> Result<(), ExecutorError> {
        let mut stands = at.last.len();
        for (index, last) in at.last.iter().enumerate().rev() {
            if last.number() > to {
                continue;
            }
            let there = executor.header(BlockSelector::Number(last.number())).await?;
            if there.is_some_and(|header| header.seal() == last.hash()) {
                break;
            }
            stands = index;
        }
        let removed: Arc<[_]> = (stands..at.last.len()).filter_map(|_| at.pop()).collect();
        if !removed.is_empty() {
            filters.unwind(&removed, at.next);
            warn!(target: "millrace::rpc", blocks = removed.len(), next = at.next, "L2 reorg: subscribers are told of the blocks that were taken back");
            let _ = self.0.send(Change::Removed(removed));
        }
        Ok(())
    }
}
