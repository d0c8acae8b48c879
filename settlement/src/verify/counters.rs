//! Comparing what the events add up to with what the contract has counted: events that an L1 node left out at the end leave no
//! gap that the next one would show.

use millrace_l1::RollupCounters;

use super::{Difference, events::Progress};

impl Progress {
    /// The first total that is not the contract's at an L1 block.
    pub(super) fn compare(
        &self,
        counters: &RollupCounters,
        l1_block: u64,
    ) -> Result<(), Difference> {
        let (committed_batch, committed_block) = self
            .commitments
            .last_key_value()
            .map_or((0, 0), |(batch, commitment)| (*batch, commitment.last_block));
        for (what, counted, read) in [
            ("number of posted batches", counters.batches, self.batches),
            ("number of deposits", counters.deposits, self.deposits),
            ("last committed batch", counters.committed_batch, committed_batch),
            ("last committed block", counters.committed_block, committed_block),
        ] {
            if counted != read {
                let at = format!("the contract at L1 block {l1_block}, and of its events,");
                return Err(Difference::new(what, at, counted, read));
            }
        }
        self.compare_commitments()
    }

    /// The contract takes commitments without gaps.
    fn compare_commitments(&self) -> Result<(), Difference> {
        let mut expected = 1;
        for (batch, commitment) in &self.commitments {
            if commitment.first_block != expected {
                let at = format!("the commitment of batch {batch}, after the one before,");
                return Err(Difference::new("first block", at, expected, commitment.first_block));
            }
            expected = commitment.last_block.saturating_add(1);
        }
        Ok(())
    }
}
