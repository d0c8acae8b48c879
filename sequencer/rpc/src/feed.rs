//! Sealed blocks as they come, for all subscriptions together.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use millrace_proto::{ErrorChain, ExecutedBlock, Executor, ExecutorError, Outage, PastOutage};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long to wait before asking a failed executor again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Sends each sealed block once to each subscriber; one that lags too far is told so instead.
#[derive(Debug, Clone)]
pub(crate) struct BlockFeed(broadcast::Sender<Arc<ExecutedBlock>>);

impl BlockFeed {
    /// Keeps `capacity` blocks for subscribers that lag.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(broadcast::Sender::new(capacity.max(1)))
    }

    /// Blocks sealed from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<ExecutedBlock>> {
        self.0.subscribe()
    }

    /// Follows the executor from block `next` on, until `stop`.
    pub(crate) async fn run(
        self,
        executor: Arc<dyn Executor>,
        mut next: u64,
        stop: CancellationToken,
    ) {
        let mut outage = Outage::new();
        let follow = async {
            loop {
                if let Err(error) = self.follow(&*executor, &mut next, &mut outage).await {
                    let error = ErrorChain::new(&error);
                    if outage.failed() {
                        warn!(target: "millrace::rpc", %error, next, "block feed interrupted; subscriptions wait");
                    } else {
                        debug!(target: "millrace::rpc", %error, next, "block feed still interrupted");
                    }
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    async fn follow(
        &self,
        executor: &dyn Executor,
        next: &mut u64,
        outage: &mut Outage,
    ) -> Result<(), ExecutorError> {
        let mut blocks = executor.subscribe(*next).await?;
        if let Some(PastOutage { failures, lasted }) = outage.over() {
            info!(target: "millrace::rpc", failures, ?lasted, next, "the block feed goes on");
        }
        while let Some(block) = blocks.next().await {
            let block = block?;
            *next = block.number() + 1;
            // An error only says that nobody subscribes.
            let _ = self.0.send(block);
        }
        Ok(())
    }
}
