//! Taking what is overdue in L1's queue before anything else.
//!
//! The contract takes no batch that leaves out an overdue entry. When posting has stood still for longer than the sequencing window, no batch of the blocks that wait may
//! reach the entry, since too many others come before it. Such blocks can never be posted: they are taken back, and others in their place begin with what is overdue.

use millrace_proto::{QueueMark, RefusedBlocks, Standing};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{Builder, adopt::PATIENCE};
use crate::SequencerRunError;

/// What blocks take before anything else.
#[derive(Debug)]
pub(super) struct Owed {
    /// So many entries of the queue, from its first one.
    due: u64,
    since: Instant,
}

impl Owed {
    fn now(due: u64) -> Self {
        Self { due, since: Instant::now() }
    }
}

impl Builder {
    /// Takes blocks back that L1 takes no more, unless those that are here begin with what is overdue.
    pub(super) async fn take_overdue(
        &mut self,
        refused: RefusedBlocks,
    ) -> Result<(), SequencerRunError> {
        let RefusedBlocks { after, last, due } = refused;
        let Some(feed) = self.deposits.clone() else { return Ok(()) };
        let settled = self.shared.heads.now().safe.number.max(self.shared.derived.judged());
        let is_here = self.own(last.number).await?.is_some_and(|header| header.seal() == last.hash);
        if !is_here || after >= last.number || after < settled {
            debug!(target: "millrace::sequencer", after, settled, last = last.number, hash = %last.hash, "the DA adapter speaks of blocks that are not here any more, or are on L1");
            return Ok(());
        }
        let Some(stays) = self.own(after).await? else { return Ok(()) };
        let taken = QueueMark::of(&stays).unwrap_or_default();
        if self.takes_first(after, taken.end, due).await? {
            if self.queue.end < due {
                self.owed.get_or_insert_with(|| Owed::now(due));
            }
            debug!(target: "millrace::sequencer", after, due, "the blocks that L1 refuses begin with what is overdue: a batch has to hold more of them");
            return Ok(());
        }
        // Without L1 there would be nothing to put in their place.
        if !matches!(self.busy(feed.standing(taken)).await?, Ok(Standing::Whole)) {
            return Ok(());
        }
        let (from, first) = (self.head.number, after + 1);
        error!(target: "millrace::sequencer", from, first, due, "L2 reorg: posting has stood still for longer than the sequencing window, and L1 takes these blocks no more, as they leave out what is overdue in its queue; blocks take that first now, and all transactions are sequenced again behind it");
        self.replace(stays, &[]).await?;
        self.owed = Some(Owed::now(due));
        Ok(())
    }

    /// Whether the blocks after one, which has taken `taken` entries, take entries and nothing else until they have taken `due`.
    async fn takes_first(
        &mut self,
        after: u64,
        mut taken: u64,
        due: u64,
    ) -> Result<bool, SequencerRunError> {
        for number in after + 1..=self.head.number {
            let block = self.block(number).await?;
            let end = QueueMark::of(&block.header).unwrap_or_default().end;
            if end >= due {
                return Ok(true);
            }
            if end == taken || !block.signed().is_empty() {
                return Ok(false);
            }
            taken = end;
        }
        // The open block, if there is one, is judged when it is sealed.
        Ok(true)
    }

    /// Whether the open block has to leave room for what is overdue.
    pub(super) fn owes(&self) -> bool {
        let taken = self.open.as_ref().map_or(self.queue, |open| open.block.opened.queued.mark);
        self.owed.as_ref().is_some_and(|owed| taken.end < owed.due)
    }

    /// Whether the next block waits for entries that are overdue, and that the queue's reader does not have yet.
    pub(super) fn waits_for_overdue(&mut self) -> bool {
        let Some(owed) = &self.owed else { return false };
        if self.queue.end >= owed.due {
            self.owed = None;
            return false;
        }
        if owed.since.elapsed() >= PATIENCE {
            warn!(target: "millrace::sequencer", due = owed.due, taken = self.queue.end, "L1 does not show what is overdue in its queue; sequencing goes on without it, in blocks that L1 does not take");
            self.owed = None;
            return false;
        }
        self.deposits.as_ref().is_some_and(|deposits| !deposits.has_some())
    }
}
