//! Why following L1 breaks off, and what an operator is told.

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_l1::L1Error;

use crate::store::ApplyError;

/// Why following L1 broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    L1(#[from] L1Error),
    /// L1 has gone back behind what it had called final.
    #[error(
        "L1 has lost block {} ({}), which it had called final (it has {} now): this is another L1, or a broken L1 node",
        known.number, known.hash, found.map_or("none".to_owned(), |hash| hash.to_string())
    )]
    FinalizedGone { known: BlockNumHash, found: Option<B256> },
}

/// Events that did not fit what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The L1 block through which everything fits: what comes later is read again.
    pub(super) fits_through: u64,
    /// The L1 block up to which they went: once records reach it, what was missing is found.
    pub(super) head: u64,
    /// How often in a row.
    times: u32,
}

impl Misfit {
    /// One more, after an earlier one that is not mended.
    pub(super) fn again(before: Option<Self>, fits_through: u64, head: u64) -> Self {
        Self {
            fits_through,
            head: before.map_or(head, |before| before.head.max(head)),
            times: before.map_or(1, |before| before.times.saturating_add(1)),
        }
    }
}

impl FollowError {
    /// Why following L1 stands still until somebody looks; `None` if the next try may go on. All are tried again.
    pub(super) fn stands_still(&self, misfit: Option<&Misfit>) -> Option<String> {
        match self {
            Self::L1(error) if error.is_retryable() => None,
            Self::L1(error) => Some(format!("cannot follow L1: {error}")),
            Self::FinalizedGone { .. } => {
                Some(format!("{self}. Check the L1 URL and the contract's address"))
            }
            // A node that left something out once may have it now.
            Self::Apply(error) => misfit.filter(|misfit| misfit.times > 1).map(|misfit| {
                format!(
                    "{error}; reading again from L1 block {} did not help. Use another L1 node",
                    misfit.fits_through
                )
            }),
        }
    }
}
