//! Comparing what the events add up to with what the contract has counted: events that an L1 node left out at the end leave no
//! gap that the next one would show. Where its storage is proved, its hashes bind what all events say.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use millrace_l1::{RollupCounters, RollupState, commitment_hash};

use super::{Difference, events::Progress};

/// What the contract holds at the L1 block that is verified to, by that block's state root.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) state: RollupState,
    /// The hashes of the commitments that stand, by batch.
    pub(super) commitments: BTreeMap<u64, B256>,
}

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

    /// The first hash that is not what the contract holds, which the L1 node cannot have changed: it has changed or left out events.
    pub(super) fn compare_held(&self, held: &Held) -> Result<(), Difference> {
        let Held { state, commitments } = held;
        let at = |what: &str| {
            format!(
                "{what} that the contract holds at L1 block {}, and of its events,",
                state.block
            )
        };
        for (what, of, expected, got) in [
            ("batch hash", "the last batch", state.batch_hash, self.batch_hash()),
            ("accumulator", "the queue", state.accumulator, self.accumulator()),
        ] {
            if expected != got {
                return Err(Difference::new(what, at(of), expected, got));
            }
        }
        let read = self.commitments.iter().map(|(batch, told)| (*batch, commitment_hash(told)));
        let read: BTreeMap<u64, B256> = read.collect();
        for batch in commitments.keys().chain(read.keys()) {
            let [expected, got] =
                [commitments, &read].map(|all| all.get(batch).copied().unwrap_or_default());
            if expected != got {
                let of = format!("the commitment of batch {batch}");
                return Err(Difference::new("hash", at(&of), expected, got));
            }
        }
        Ok(())
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
