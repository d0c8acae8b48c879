//! What all methods share: the services, and how a block is named.

use std::sync::Arc;

use alloy::eips::{BlockId, BlockNumberOrTag};
use millrace_proto::{BlockSelector, ChainSpec, Executor, TxPool};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::RpcConfig, error::CallError, feed::BlockFeed, fees::FeeOracle, filters::FilterRegistry,
    metrics::RpcMetrics, pending::PendingHashes,
};

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
    /// The block that a parameter names; the latest where it is left out. What is pending is not shown before it is sealed.
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
            BlockSelector::Latest | BlockSelector::Hash(_) => head,
        })
    }
}
