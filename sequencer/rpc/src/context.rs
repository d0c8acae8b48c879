//! What all methods share: the services, and how a block is named.

use std::{sync::Arc, time::Duration};

use alloy::eips::{BlockId, BlockNumberOrTag};
use millrace_proto::{BlockSelector, ChainSpec, Executor, ExecutorError, TxPool};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::RpcConfig, error::CallError, feed::BlockFeed, fees::FeeOracle, filters::FilterRegistry,
    metrics::RpcMetrics, pending::PendingHashes,
};

/// How often the open block is looked for again where the executor has lost it.
const READS_AGAIN: usize = 40;
/// Between two looks.
const READ_PAUSE: Duration = Duration::from_millis(25);

/// What all methods share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) pool: Arc<dyn TxPool>,
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) config: RpcConfig,
    pub(crate) fees: FeeOracle,
    pub(crate) filters: Arc<FilterRegistry>,
    /// What comes into the open block, while filters ask for it.
    pub(crate) pending: Arc<PendingHashes>,
    pub(crate) feed: BlockFeed,
    /// One permit a log search that may run.
    pub(crate) log_searches: Semaphore,
    /// One permit a call that may wait for a transaction's block.
    pub(crate) sync_waits: Semaphore,
    /// One permit a listing of the pool that may be made.
    pub(crate) pool_listings: Semaphore,
    /// Cancelled when the server stops.
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: Arc<RpcMetrics>,
}

impl Context {
    /// Reads at the block that a parameter names. `pending` is the open block, as far as it is preconfirmed; the latest where none is open, or nobody here is told of it.
    pub(crate) async fn read<T, F>(
        &self,
        id: Option<BlockId>,
        read: impl Fn(BlockSelector) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, ExecutorError>>,
    {
        if !id.is_some_and(|id| id.is_pending()) {
            return Ok(read(self.select(id).await?).await?);
        }
        let mut tries = 0;
        loop {
            let at = match self.pool.open_point().await? {
                Some(point) => BlockSelector::Open(point),
                None => BlockSelector::Latest,
            };
            match read(at).await {
                // The executor has lost the open block, and gets it again.
                Err(ExecutorError::BuildDiscarded) if tries < READS_AGAIN => tries += 1,
                result => return Ok(result?),
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// The sealed block that a parameter names; the latest where it is left out, and for what is pending.
    pub(crate) async fn select(&self, id: Option<BlockId>) -> Result<BlockSelector, CallError> {
        match id {
            None => Ok(BlockSelector::Latest),
            Some(BlockId::Hash(hash)) => Ok(BlockSelector::Hash(hash.block_hash)),
            Some(BlockId::Number(tag)) => self.select_tag(tag).await,
        }
    }

    /// The block that a number or a tag names.
    pub(crate) async fn select_tag(
        &self,
        tag: BlockNumberOrTag,
    ) -> Result<BlockSelector, CallError> {
        Ok(match tag {
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => BlockSelector::Latest,
            BlockNumberOrTag::Earliest => BlockSelector::Number(0),
            BlockNumberOrTag::Number(number) => BlockSelector::Number(number),
            BlockNumberOrTag::Safe => BlockSelector::Number(self.pool.heads().await?.safe.number),
            BlockNumberOrTag::Finalized => {
                BlockSelector::Number(self.pool.heads().await?.finalized.number)
            }
        })
    }

    /// The number that a number or a tag stands for, given the head's.
    pub(crate) async fn number(&self, tag: BlockNumberOrTag, head: u64) -> Result<u64, CallError> {
        Ok(match self.select_tag(tag).await? {
            BlockSelector::Number(number) => number,
            BlockSelector::Latest | BlockSelector::Hash(_) | BlockSelector::Open(_) => head,
        })
    }
}
