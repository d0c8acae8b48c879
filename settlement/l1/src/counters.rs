//! What the rollup contract has counted, at one L1 block.

use alloy::eips::BlockNumberOrTag;

use crate::{L1Error, Rollup, RollupContract};

/// The contract's own counters. The events up to the block have to add up to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupCounters {
    /// Batches posted, which is also the number of the last one.
    pub batches: u64,
    /// Deposits queued.
    pub deposits: u64,
    /// The last batch whose commitment stands; 0 if there is none.
    pub committed_batch: u64,
    /// The last L2 block that a commitment covers; 0 if there is none.
    pub committed_block: u64,
}

impl RollupContract {
    /// The counters after an L1 block, whose state the node has to have still. A reorg meanwhile can mix two chains: the
    /// caller makes sure that the block stands.
    pub async fn counters_at(&self, block: u64) -> Result<RollupCounters, L1Error> {
        let (client, at) = (self.client(), BlockNumberOrTag::Number(block));
        let to = self.address();
        Ok(RollupCounters {
            batches: self.batch_count_at(block).await?,
            deposits: client.call_at(to, &Rollup::depositCountCall {}, at).await?,
            committed_batch: client.call_at(to, &Rollup::lastCommittedBatchCall {}, at).await?,
            committed_block: client.call_at(to, &Rollup::lastCommittedBlockCall {}, at).await?,
        })
    }

    /// Asks whether the contract is there now; what is known of it may be remembered.
    pub(crate) async fn check_deployed(&self) -> Result<(), L1Error> {
        self.client().call(self.address(), &Rollup::deployedAtCall {}).await.map(drop)
    }
}
