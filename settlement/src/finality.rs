//! Which commitments are final: those that L1 has finalized, and which the contract called final at L1's finalized block.

use millrace_proto::Commitment;

use crate::store::{L1Point, Outcome, Store, StoreError};

/// Whether a commitment is final, judged at L1's last finalized block.
///
/// From `final_at` on the contract lets nobody revert it; as that second lies at or before a block that L1 itself cannot take
/// back, neither can a reorg.
pub(crate) fn is_final(commitment: &Commitment, finalized: L1Point) -> bool {
    commitment.l1.block.number <= finalized.block.number
        && commitment.final_at <= finalized.timestamp
}

/// Moves the finalized marker to the newest final commitment that verification has found right.
pub(crate) fn advance(store: &Store) -> Result<(), StoreError> {
    let Some(finalized) = store.l1_finalized()? else { return Ok(()) };
    let marker = store.finalized()?.map_or(0, |point| point.batch);
    let verified = store.last_outcome()?;
    for commitment in store.commitments_down(Some(verified)) {
        let commitment = commitment?;
        if commitment.batch <= marker {
            break;
        }
        if is_final(&commitment, finalized)
            && let Some(Outcome::Verified(verified)) = store.outcome(commitment.batch)?
            && verified.difference(&commitment).is_none()
        {
            return store.set_finalized(&commitment);
        }
    }
    Ok(())
}
