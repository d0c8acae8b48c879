//! Following L1's head through reorgs.

mod read;

use std::{collections::VecDeque, time::Duration};

use alloy::{eips::BlockNumHash, rpc::types::Header};
use tracing::warn;

use self::read::{Reading, Stretch};
use crate::{
    L1Block, L1Client, L1Error, RollupContract, RollupEvent, RollupState, metrics::FollowerMetrics,
    rollup::EventSet,
};

/// Blocks that the follower remembers one by one: reorgs up to this depth are unwound exactly, deeper ones further than
/// needed.
const REMEMBERED: usize = 256;

/// What happened on L1 since the last update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L1Update {
    /// If a reorg took blocks that earlier updates covered: the last block that still stands. Forget everything that came
    /// from later blocks, and then apply `events`.
    pub reverted_to: Option<BlockNumHash>,
    /// The contract's new events, in L1's order.
    pub events: Vec<RollupEvent>,
    /// The block up to which events are now delivered: the cursor to persist and to resume from.
    pub head: L1Block,
    /// L1's latest block as the node showed it; beyond `head` while catching up.
    pub latest: L1Block,
    /// L1's newest finalized block, if there is one.
    pub finalized: Option<L1Block>,
    /// What the contract holds at `head`, proved: what all events up to there have to add up to. With the first update that reaches L1's head, or reaches it again after catching up in
    /// ranges, as the node may have left out the last events of a range. `None` with others, and where no node proves it: what is read is checked block by
    /// block then.
    pub state: Option<RollupState>,
}

/// Follows the rollup contract's events at L1's head by polling. It never misses an event and never delivers one twice,
/// except that a reorg takes events back and may deliver the same ones again from other blocks.
///
/// ```text
///  remembered   .. ─ a ─ b ─ c          the node's head: e'
///                     └─ b'─ c'─ d'─ e'
///  update       reverted_to a, events of b' c' d' e', head e'
/// ```
#[derive(Debug)]
pub struct L1Follower {
    contract: RollupContract,
    set: EventSet,
    /// Blocks that the follower keeps behind the node's head.
    lag: u64,
    /// Where everything starts; never reverted.
    origin: BlockNumHash,
    /// The last blocks whose events were delivered, ascending, the newest one last. Never empty: `origin` if nothing else.
    points: VecDeque<BlockNumHash>,
    /// Set from the moment at which a reorg is seen to the update that reports it.
    reverted_to: Option<BlockNumHash>,
    finalized: Option<L1Block>,
    /// How to catch up, once that is known.
    reading: Option<Reading>,
    /// Whether the events delivered have not been compared with what the contract holds.
    unproven: bool,
    /// The block up to which they have, or were read block by block; or from which on they are read here.
    compared: u64,
    /// Proofs in a row that no node gave.
    no_proofs: u32,
    metrics: FollowerMetrics,
}

impl L1Follower {
    /// A follower that has seen nothing: the first update starts at the contract's deployment.
    pub async fn from_start(contract: RollupContract) -> Result<Self, L1Error> {
        Self::resume(contract, []).await
    }

    /// A follower that continues after the newest of `points`: blocks whose events the caller has applied, ascending, the
    /// last one being [`L1Update::head`] of the last applied update. One is enough as long as L1 did not reorg it away
    /// meanwhile; if it did, the first update reverts to the newest point that still stands, or to the block before the
    /// contract's deployment. [`Self::points`] returns what to persist.
    pub async fn resume(
        contract: RollupContract,
        points: impl IntoIterator<Item = BlockNumHash>,
    ) -> Result<Self, L1Error> {
        Self::with(contract, points, EventSet::All, 0).await
    }

    pub(crate) async fn with(
        contract: RollupContract,
        points: impl IntoIterator<Item = BlockNumHash>,
        set: EventSet,
        lag: u64,
    ) -> Result<Self, L1Error> {
        // So that no other node is asked that is of another chain.
        contract.client().chain_id().await?;
        contract.check_deployed().await?;
        let origin = contract.start().await?;
        let mut known = VecDeque::from([origin]);
        for point in points {
            if known.back().is_some_and(|last| point.number > last.number) {
                known.push_back(point);
            }
        }
        let unproven = contract.client().options().check_blocks;
        let compared = known.back().map_or(origin.number, |point| point.number);
        Ok(Self {
            contract,
            set,
            lag,
            origin,
            points: known,
            reverted_to: None,
            finalized: None,
            reading: None,
            unproven,
            compared,
            no_proofs: 0,
            metrics: FollowerMetrics::new(set.as_str()),
        })
    }

    /// The block up to which events are delivered.
    pub fn cursor(&self) -> BlockNumHash {
        self.points.back().copied().unwrap_or(self.origin)
    }

    /// The remembered blocks, ascending; the last one is the cursor.
    pub fn points(&self) -> impl Iterator<Item = BlockNumHash> + '_ {
        self.points.iter().copied()
    }

    /// Goes back to the newest remembered block at or before `number`, or to the start, as if a reorg had taken what came
    /// after: the next update reverts to it, and delivers again what the node has from there on. For a caller that finds
    /// that the node has left something out.
    pub fn rewind(&mut self, number: u64) {
        self.unproven = self.client().options().check_blocks;
        self.compared = self.compared.min(number);
        while self.points.len() > 1 && self.cursor().number > number {
            self.points.pop_back();
        }
        self.reverted_to = Some(self.cursor());
    }

    /// Waits for the next update. Failed looks at L1 are logged, counted and repeated for as long as it takes.
    ///
    /// Cancel safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Only what no retry mends, such as an event that cannot be decoded; see [`L1Error::class`].
    pub async fn next(&mut self) -> Result<L1Update, L1Error> {
        let poll = self.client().options().poll_interval;
        let mut failures: u32 = 0;
        loop {
            match self.poll().await {
                Ok(Some(update)) => return Ok(update),
                Ok(None) => {
                    failures = 0;
                    tokio::time::sleep(poll).await;
                }
                Err(error) if error.is_retryable() => {
                    self.metrics.failed();
                    failures = failures.saturating_add(1);
                    let pause = poll.saturating_mul(failures.min(8)).min(Duration::from_secs(30));
                    warn!(target: "millrace::l1", %error, failures, ?pause, "cannot follow L1; trying again");
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One look at L1: the next update, or `None` if nothing has changed. An update covers a bounded number of blocks, so
    /// catching up takes several.
    ///
    /// Cancel safe, and safe to repeat after an error.
    pub async fn poll(&mut self) -> Result<Option<L1Update>, L1Error> {
        let newest = self.client().latest_header().await?;
        let latest = L1Block::from(&newest);
        self.metrics.head(latest.number);
        if latest.number < self.origin.number {
            return Err(L1Error::Replaced(format!(
                "its head is block {}, and everything starts after block {}",
                latest.number, self.origin.number
            )));
        }
        let finalized = self.client().finalized().await?;
        let Some(header) = self.target(newest).await? else { return Ok(None) };
        let target = L1Block::from(&header);

        if !self.stands(&target).await? {
            self.unwind(&target).await?;
        }
        let tip = self.cursor();
        let Stretch { events, blocks, in_ranges } = if target.number > tip.number {
            self.advance(tip, &header).await?
        } else {
            Stretch::default()
        };

        let moved = !blocks.is_empty() || self.reverted_to.is_some();
        if !moved && finalized == self.finalized {
            return Ok(None);
        }
        let head = match blocks.last() {
            Some(block) => *block,
            None => self.reread(tip).await?,
        };
        let unproven = self.unproven || (in_ranges && self.reading == Some(Reading::Proved));
        let at_target = head.hash == target.hash;
        let compare = unproven && at_target && target.number > self.origin.number;
        let state = if compare { self.contract.proven_state(&header).await? } else { None };
        // A follower that keeps behind the head has compared each stretch with the head, and what is left out at its end shows with the next event.
        let has_to_be = self.reading == Some(Reading::Proved) && self.lag == 0;
        if compare && state.is_none() && has_to_be {
            return Err(self.not_proved(head.number));
        }
        // Nothing is awaited from here on: the update is either delivered whole, or not at all.
        for block in blocks {
            self.remember(block.id());
        }
        self.unproven = unproven && !at_target;
        if at_target {
            self.compared = head.number;
            (self.no_proofs, self.reading) = (0, None);
        }
        self.finalized = finalized;
        self.metrics.followed(head.number);
        let reverted_to = self.reverted_to.take();
        Ok(Some(L1Update { reverted_to, events, head, latest, finalized, state }))
    }

    fn client(&self) -> &L1Client {
        self.contract.client()
    }

    /// The block to go for: the head less the lag. `None` before there is one past the origin.
    async fn target(&self, latest: Header) -> Result<Option<Header>, L1Error> {
        if self.lag == 0 {
            return Ok(Some(latest));
        }
        let Some(number) = latest.number.checked_sub(self.lag).filter(|n| *n >= self.origin.number)
        else {
            return Ok(None);
        };
        let header = self.client().header(number.into()).await?;
        Ok(Some(header.ok_or_else(|| L1Error::BlockMissing(number.to_string()))?))
    }

    /// Whether the cursor is still on the chain that ends in `target`.
    async fn stands(&self, target: &L1Block) -> Result<bool, L1Error> {
        let tip = self.cursor();
        if target.hash == tip.hash || target.parent_hash == tip.hash {
            return Ok(true);
        }
        if target.number <= tip.number {
            if self.points.contains(&target.id()) {
                // A node that lags behind, or a chain that was rolled back and has not grown since: its next block tells. A
                // development L1 that has started anew has the same first block, but not the contract.
                self.contract.check_deployed().await?;
                self.metrics.stale_head();
                return Ok(true);
            }
            if !self.points.iter().any(|point| point.number == target.number) {
                // Nothing to compare with, as right after a start, but where everything starts. If it is a reorg, the chain
                // will outgrow the cursor.
                self.check_origin().await?;
                self.metrics.stale_head();
                return Err(L1Error::Inconsistent(format!(
                    "the node's head {} lies behind block {}, which it had before",
                    target.number, tip.number
                )));
            }
            return Ok(false);
        }
        match self.client().block(tip.number).await? {
            Some(block) => Ok(block.hash == tip.hash),
            None => Err(L1Error::BlockMissing(tip.number.to_string())),
        }
    }

    /// Goes back to the newest remembered block that is on the node's chain.
    async fn unwind(&mut self, target: &L1Block) -> Result<(), L1Error> {
        self.contract.check_deployed().await?;
        let tip = self.cursor();
        let mut ancestor = None;
        for point in self.points.iter().rev().filter(|point| point.number < target.number) {
            let block = self.client().block(point.number).await?;
            if block.is_some_and(|block| block.hash == point.hash) {
                ancestor = Some(*point);
                break;
            }
        }
        let Some(ancestor) = ancestor else {
            // Only a chain that does not hold the contract's deployment gets here.
            self.check_origin().await?;
            return Err(L1Error::Inconsistent("blocks come and go".to_owned()));
        };
        while self.points.back().is_some_and(|point| point.number > ancestor.number) {
            self.points.pop_back();
        }
        self.compared = self.compared.min(ancestor.number);
        let depth = tip.number - ancestor.number;
        self.metrics.reorg(depth);
        warn!(target: "millrace::l1", depth, ancestor = ancestor.number, was = %tip.hash, "L1 reorg");
        self.reverted_to = Some(ancestor);
        Ok(())
    }

    /// Makes sure that L1 still has the block in which everything starts.
    async fn check_origin(&self) -> Result<(), L1Error> {
        let BlockNumHash { number, hash } = self.origin;
        match self.client().block(number).await? {
            Some(block) if block.hash == hash => Ok(()),
            Some(block) => {
                Err(L1Error::Replaced(format!("block {number} is {}, and was {hash}", block.hash)))
            }
            None => Err(L1Error::BlockMissing(number.to_string())),
        }
    }

    fn remember(&mut self, point: BlockNumHash) {
        self.points.push_back(point);
        // The oldest one is the origin, which stays.
        while self.points.len() > REMEMBERED {
            self.points.remove(1);
        }
    }
}
