//! The heads: forward only, unless L1 takes back what blocks are made of; and never one above the one before.

use std::time::Duration;

use alloy::eips::BlockNumHash;
use millrace_proto::{ChainHeads, SealedHeader, Stage, num_hash};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::Timeline;
use crate::log::SettledBlocks;

/// The heads at one moment.
#[derive(Debug, Clone)]
pub(crate) struct HeadsView {
    /// The last sealed block.
    pub(crate) latest: SealedHeader,
    /// How far the chain is settled; never above `latest`.
    pub(crate) settled: SettledBlocks,
    /// The last posted block.
    pub(crate) safe: BlockNumHash,
    /// The last final block.
    pub(crate) finalized: BlockNumHash,
    /// The highest block that was taken back.
    unwound_from: u64,
}

impl HeadsView {
    /// As the service trait has them.
    pub(crate) fn chain_heads(&self) -> ChainHeads {
        ChainHeads { latest: num_hash(&self.latest), safe: self.safe, finalized: self.finalized }
    }

    /// The stage that a block's transactions have reached.
    pub(crate) const fn stage_of(&self, block: u64) -> Stage {
        stage_of(self.settled, block)
    }
}

/// The stage that a sealed block's transactions have reached.
pub(crate) const fn stage_of(settled: SettledBlocks, block: u64) -> Stage {
    if block <= settled.finalized {
        Stage::Finalized
    } else if block <= settled.committed {
        Stage::Committed
    } else if block <= settled.posted {
        Stage::Posted
    } else {
        Stage::Sequenced
    }
}

/// The heads, and when they moved.
#[derive(Debug)]
pub(crate) struct Heads {
    view: RwLock<HeadsView>,
    settled: watch::Sender<SettledBlocks>,
    /// How often blocks were taken back.
    unwound: watch::Sender<u64>,
    timeline: Mutex<Timeline>,
}

impl Heads {
    /// The heads at a start. `genesis` stands for safe and finalized until they are known to be further.
    pub(crate) fn new(latest: SealedHeader, genesis: BlockNumHash) -> Self {
        let mut timeline = Timeline::default();
        timeline.start(latest.number, SettledBlocks::default());
        let settled = SettledBlocks::default();
        let view =
            HeadsView { latest, settled, safe: genesis, finalized: genesis, unwound_from: 0 };
        Self {
            view: RwLock::new(view),
            settled: watch::channel(settled).0,
            unwound: watch::channel(0).0,
            timeline: Mutex::new(timeline),
        }
    }

    /// The heads now.
    pub(crate) fn now(&self) -> HeadsView {
        self.view.read().clone()
    }

    /// Follows settlement.
    pub(crate) fn follow_settled(&self) -> watch::Receiver<SettledBlocks> {
        self.settled.subscribe()
    }

    /// When a block reached a stage, if this process saw it.
    pub(crate) fn reached(&self, stage: Stage, block: u64) -> Option<Duration> {
        self.timeline.lock().reached(stage, block)
    }

    /// A block was sealed.
    pub(crate) fn sealed(&self, header: SealedHeader, at: Duration) {
        self.timeline.lock().mark(Stage::Sequenced, header.number, at);
        self.view.write().latest = header;
    }

    /// The blocks after `header` were taken back: all that was said of them is.
    pub(crate) fn unwound(&self, header: SealedHeader) {
        let to = num_hash(&header);
        self.timeline.lock().unwind(to.number);
        let settled = {
            let mut view = self.view.write();
            self.unwound.send_modify(|unwound| *unwound += 1);
            view.unwound_from = view.unwound_from.max(view.latest.number);
            view.latest = header;
            let settled = &mut view.settled;
            settled.posted = settled.posted.min(to.number);
            settled.committed = settled.committed.min(to.number);
            let settled = *settled;
            if view.safe.number > to.number {
                view.safe = to;
            }
            settled
        };
        self.settled.send_replace(settled);
    }

    /// The highest block that was taken back.
    pub(crate) fn unwound_from(&self) -> u64 {
        self.view.read().unwound_from
    }

    /// How often blocks were taken back.
    pub(crate) fn unwound_times(&self) -> u64 {
        *self.unwound.borrow()
    }

    /// Follows how often blocks were taken back.
    pub(crate) fn follow_unwound(&self) -> watch::Receiver<u64> {
        self.unwound.subscribe()
    }

    /// How far the chain is settled when it is said to be settled up to `claimed`: forward only, none above the one before.
    pub(crate) fn advance(&self, claimed: SettledBlocks) -> SettledBlocks {
        let view = self.view.read();
        let now = view.settled;
        let posted = claimed.posted.min(view.latest.number).max(now.posted);
        let committed = claimed.committed.min(posted).max(now.committed);
        let finalized = claimed.finalized.min(committed).max(now.finalized);
        SettledBlocks { posted, committed, finalized }
    }

    /// The chain is settled up to here; `safe` and `finalized` name the same blocks with their hashes. `false` if blocks were taken back since that had happened
    /// `unwound` times: what was found before says nothing of the others then.
    pub(crate) fn settle(
        &self,
        settled: SettledBlocks,
        safe: BlockNumHash,
        finalized: BlockNumHash,
        when: SettledWhen,
        unwound: u64,
    ) -> bool {
        let mut view = self.view.write();
        if self.unwound_times() != unwound {
            return false;
        }
        match when {
            SettledWhen::Earlier => {
                self.timeline.lock().start(view.latest.number, settled);
            }
            SettledWhen::At(at) => {
                let mut timeline = self.timeline.lock();
                timeline.mark(Stage::Posted, settled.posted, at);
                timeline.mark(Stage::Committed, settled.committed, at);
                timeline.mark(Stage::Finalized, settled.finalized, at);
            }
        }
        (view.settled, view.safe, view.finalized) = (settled, safe, finalized);
        drop(view);
        self.settled.send_replace(settled);
        true
    }
}

/// When the chain got settled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SettledWhen {
    /// Before this process looked.
    Earlier,
    /// Since the Unix epoch.
    At(Duration),
}
