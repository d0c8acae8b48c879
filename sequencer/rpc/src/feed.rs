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
/// Transactions in them, at most; the last block is remembered whatever its size.
const REMEMBERED_TRANSACTIONS: usize = 65_536;

/// What becomes of a block.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// It was sealed.
    Sealed(Arc<ExecutedBlock>),
    /// It was taken back. The newest comes first.
    Removed(Arc<ExecutedBlock>),
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
    transactions: usize,
}

impl Position {
    fn joins(&self, block: &ExecutedBlock) -> bool {
        block.number() == self.next
            && self.last.back().is_none_or(|last| last.hash() == block.header.parent_hash)
    }

    fn push(&mut self, block: Arc<ExecutedBlock>) {
        self.next = block.number() + 1;
        self.transactions += block.transactions.len();
        self.last.push_back(block);
        while self.last.len() > 1
            && (self.last.len() > REMEMBERED || self.transactions > REMEMBERED_TRANSACTIONS)
            && let Some(oldest) = self.last.pop_front()
        {
            self.transactions -= oldest.transactions.len();
        }
    }

    fn pop(&mut self) -> Option<Arc<ExecutedBlock>> {
        let block = self.last.pop_back()?;
        self.next = block.number();
        self.transactions -= block.transactions.len();
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
        let mut at = Position { next, last: VecDeque::new(), transactions: 0 };
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

    /// Follows one stream. `true` if it has to go on with another, as blocks were taken back.
    async fn follow(
        &self,
        executor: &dyn Executor,
        filters: &FilterRegistry,
        at: &mut Position,
        outage: &mut Outage,
    ) -> Result<bool, ExecutorError> {
        let mut blocks = executor.subscribe(at.next).await?;
        if let Some(PastOutage { failures, lasted }) = outage.over() {
            info!(target: "millrace::rpc", failures, ?lasted, next = at.next, "the block feed goes on");
        }
        while let Some(block) = blocks.next().await {
            let block = block?;
            if !at.joins(&block) {
                self.go_back(executor, filters, at, block.number()).await?;
                return Ok(true);
            }
            at.push(block.clone());
            // An error only says that nobody subscribes.
            let _ = self.0.send(Change::Sealed(block));
        }
        Ok(false)
    }

    /// Goes back to the last block that the executor's chain still has. `came` is the block that did not join.
    async fn go_back(
        &self,
        executor: &dyn Executor,
        filters: &FilterRegistry,
        at: &mut Position,
        came: u64,
    ) -> Result<(), ExecutorError> {
        while let Some(last) = at.last.back() {
            let there = executor.header(BlockSelector::Number(last.number())).await?;
            if there.is_some_and(|header| header.seal() == last.hash()) {
                break;
            }
            if let Some(block) = at.pop() {
                filters.unwind(&block);
                let _ = self.0.send(Change::Removed(block));
            }
        }
        // Further back than is remembered.
        if at.last.is_empty() && came < at.next {
            filters.go_back_to(came);
            at.next = came;
        }
        warn!(target: "millrace::rpc", next = at.next, "L2 reorg: the block feed goes on further back");
        Ok(())
    }
}
