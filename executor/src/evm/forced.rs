//! Which of a block's transactions were forced: queued on L1, so that the block has to hold them if they are valid.

use millrace_proto::{RecoveredTx, TxOutcome};

/// Counts forced transactions as they are executed. They come first behind the deposits; those that are invalid at their place are left
/// out, and the rest follow.
#[derive(Debug, Clone, Copy)]
pub struct ForcedCount {
    /// How many are still to come.
    left: u32,
    included: u32,
}

impl ForcedCount {
    /// So many are to come.
    pub(super) const fn new(candidates: u32) -> Self {
        Self { left: candidates, included: 0 }
    }

    /// Notes what became of the block's next transaction. Tells whether it was a forced one.
    pub fn note(&mut self, tx: &RecoveredTx, outcome: &TxOutcome) -> bool {
        if tx.tx().is_deposit() || self.left == 0 {
            return false;
        }
        self.left -= 1;
        if matches!(outcome, TxOutcome::Included { .. }) {
            self.included += 1;
        }
        true
    }

    /// How many the block holds.
    pub const fn included(&self) -> u32 {
        self.included
    }
}
