//! Reading the blocks between the cursor and the target.

use alloy::{eips::BlockNumHash, rpc::types::Header};
use tracing::info;

use super::L1Follower;
use crate::{L1Block, L1Error, RollupEvent};

/// Up to this distance from the head blocks are read one by one, by hash; further away in ranges.
const BY_HASH: u64 = 32;

impl L1Follower {
    /// Reads on from `tip` towards `target`. Returns the events and the blocks to remember, ascending.
    pub(super) async fn advance(
        &self,
        tip: BlockNumHash,
        target: Header,
    ) -> Result<(Vec<RollupEvent>, Vec<L1Block>), L1Error> {
        if target.number - tip.number <= BY_HASH {
            self.advance_by_hash(tip, target).await
        } else {
            self.advance_in_range(tip, target.number).await
        }
    }

    /// Walks back from the target over parent hashes, so that all blocks are of one chain, and reads each one's events by
    /// its hash.
    async fn advance_by_hash(
        &self,
        tip: BlockNumHash,
        target: Header,
    ) -> Result<(Vec<RollupEvent>, Vec<L1Block>), L1Error> {
        let mut lowest = L1Block::from(&target);
        let mut headers = vec![target];
        while lowest.number > tip.number + 1 {
            let hash = lowest.parent_hash;
            let parent = self.client().header_by_hash(hash).await?;
            let parent = parent.ok_or_else(|| L1Error::BlockMissing(hash.to_string()))?;
            lowest = L1Block::from(&parent);
            headers.push(parent);
        }
        if lowest.parent_hash != tip.hash {
            return Err(L1Error::Inconsistent(format!(
                "block {} moved while it was read",
                lowest.number
            )));
        }
        headers.reverse();
        let mut events = Vec::new();
        for header in &headers {
            events.extend(self.events_in(header).await?);
        }
        Ok((events, headers.iter().map(L1Block::from).collect()))
    }

    /// The events of one block: what its hash commits to, unless blocks are not checked.
    async fn events_in(&self, header: &Header) -> Result<Vec<RollupEvent>, L1Error> {
        if self.client().options().check_blocks {
            self.contract.proven_events(self.set, header).await
        } else {
            self.contract.events_in(self.set, L1Block::from(header).id()).await
        }
    }

    /// Reads a range that ends before the blocks near the target, and remembers its last block.
    async fn advance_in_range(
        &self,
        tip: BlockNumHash,
        target: u64,
    ) -> Result<(Vec<RollupEvent>, Vec<L1Block>), L1Error> {
        let range = self.client().options().log_range.max(1);
        let last = (target - BY_HASH).min(tip.number.saturating_add(range));
        let end = self.canonical(last).await?;
        let events = self.contract.events_of(self.set, tip.number + 1, last).await?;
        // If neither end has moved, the blocks between them have not moved either while they were read.
        if self.canonical(last).await?.hash != end.hash
            || self.canonical(tip.number).await?.hash != tip.hash
        {
            return Err(L1Error::Inconsistent(format!(
                "the blocks up to {last} moved while they were read"
            )));
        }
        info!(target: "millrace::l1", to = last, of = target, events = events.len(), "catching up with L1");
        Ok((events, vec![end]))
    }

    async fn canonical(&self, number: u64) -> Result<L1Block, L1Error> {
        let block = self.client().block(number).await?;
        block.ok_or_else(|| L1Error::BlockMissing(number.to_string()))
    }

    pub(super) async fn reread(&self, point: BlockNumHash) -> Result<L1Block, L1Error> {
        let block = self.client().block_by_hash(point.hash).await?;
        block.ok_or_else(|| L1Error::BlockMissing(point.hash.to_string()))
    }
}
