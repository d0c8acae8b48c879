//! Reading the blocks between the cursor and the target.

use alloy::{eips::BlockNumHash, rpc::types::Header};
use tracing::{info, warn};

use super::L1Follower;
use crate::{L1Block, L1Error, RollupEvent};

/// Up to this distance from the head blocks are read one by one, by hash; further away in ranges.
const BY_HASH: u64 = 32;
/// Proofs in a row that no node gave, after which none is waited for.
const NO_PROOFS: u32 = 5;

/// How events are read that are further back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// In ranges, unchecked.
    Ranges,
    /// In ranges; they have to add up to what the contract's storage holds at the head.
    Proved,
    /// Block by block, as no node proves what the storage holds; for as long as that is so.
    Blocks,
    /// Block by block up to the head, as proofs have ended.
    Refused,
}

/// What was read on the way to the head.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) events: Vec<RollupEvent>,
    /// The blocks to remember, ascending.
    pub(super) blocks: Vec<L1Block>,
    /// Whether events may be missing that only the contract's counters tell of.
    pub(super) in_ranges: bool,
}

impl L1Follower {
    /// Reads on from `tip` towards `target`.
    pub(super) async fn advance(
        &mut self,
        tip: BlockNumHash,
        target: &Header,
    ) -> Result<Stretch, L1Error> {
        if target.number - tip.number <= BY_HASH {
            return self.advance_by_hash(tip, target).await;
        }
        let range = self.client().options().log_range.max(1);
        let last = (target.number - BY_HASH).min(tip.number.saturating_add(range));
        let stretch = match self.reading(target).await? {
            Reading::Blocks | Reading::Refused => self.advance_by_block(tip, last).await?,
            Reading::Ranges => self.advance_in_range(tip, last).await?,
            Reading::Proved => {
                let stretch = self.advance_in_range(tip, last).await?;
                // What the contract holds of them now: some nodes prove no older state, and the chains of hashes only grow.
                let newest = self.client().latest_header().await?;
                if self.contract.check_ends(&stretch.events, &newest).await? {
                    self.no_proofs = 0;
                    stretch
                } else {
                    return Err(self.not_proved(newest.number));
                }
            }
        };
        let (of, events) = (target.number, stretch.events.len());
        info!(target: "millrace::l1", to = last, of, events, "catching up with L1");
        Ok(stretch)
    }

    /// How to read the next stretch of what is further back. Once blocks were read one by one, it is asked again whether they still have to be.
    async fn reading(&mut self, target: &Header) -> Result<Reading, L1Error> {
        if let Some(reading) = self.reading.filter(|reading| *reading != Reading::Blocks) {
            return Ok(reading);
        }
        let reading = if !self.client().options().check_blocks {
            Reading::Ranges
        } else if self.proves(target).await? {
            Reading::Proved
        } else {
            if self.reading.is_none() {
                warn!(target: "millrace::l1", block = target.number, "no L1 node proves the contract's state (eth_getProof); catching up block by block, which takes longer");
            }
            Reading::Blocks
        };
        self.reading = Some(reading);
        Ok(reading)
    }

    /// Whether a node proves what the contract holds at the target, or, where that is not the newest block, at that.
    async fn proves(&self, target: &Header) -> Result<bool, L1Error> {
        if self.contract.proven_state(target).await?.is_some() {
            return Ok(true);
        }
        let newest = self.client().latest_header().await?;
        Ok(newest.hash != target.hash && self.contract.proven_state(&newest).await?.is_some())
    }

    /// What was read in ranges cannot be compared. After some tries it is read again block by block, up to the head.
    pub(super) fn not_proved(&mut self, block: u64) -> L1Error {
        self.no_proofs += 1;
        if self.no_proofs >= NO_PROOFS {
            warn!(target: "millrace::l1", block, from = self.compared, "no L1 node proves the contract's state any more (eth_getProof); reading block by block what was not compared with it");
            self.no_proofs = 0;
            self.rewind(self.compared);
            self.reading = Some(Reading::Refused);
        }
        L1Error::NoProof(block)
    }

    /// Walks back from the target over parent hashes, so that all blocks are of one chain, and reads each one's events by
    /// its hash.
    async fn advance_by_hash(
        &self,
        tip: BlockNumHash,
        target: &Header,
    ) -> Result<Stretch, L1Error> {
        let mut lowest = L1Block::from(target);
        let mut headers = vec![target.clone()];
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
        let blocks = headers.iter().map(L1Block::from).collect();
        Ok(Stretch { events, blocks, in_ranges: false })
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
    async fn advance_in_range(&self, tip: BlockNumHash, last: u64) -> Result<Stretch, L1Error> {
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
        Ok(Stretch { events, blocks: vec![end], in_ranges: true })
    }

    /// Reads the same block by block.
    async fn advance_by_block(&self, tip: BlockNumHash, last: u64) -> Result<Stretch, L1Error> {
        let (from, parent) = (tip.number + 1, Some(tip.hash));
        let (events, end) = self.contract.events_by_block_of(self.set, parent, from, last).await?;
        Ok(Stretch { events, blocks: vec![end], in_ranges: false })
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
