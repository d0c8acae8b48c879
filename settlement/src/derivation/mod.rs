//! Derivation: from a posted batch, its bytes and the deposits to blocks. Pure, and total: whatever L1 and DA hold, it
//! ends in blocks or in a reason to skip the batch, and in the same one for everyone.
//!
//! ```text
//!  PostedBatch ─ join ─> does it continue the chain? ─ read bytes ─ derive ─> DerivedBatch
//!                  └────────────── no: skip ──────────────────────────┘
//! ```

mod derive;
mod hash;
mod reason;
#[cfg(test)]
mod tests;

pub(crate) use self::derive::PreparedBatch;
pub use self::{
    derive::{Derivation, DerivationHead, DerivedBatch, DerivedContent, QueuedDeposits},
    hash::batch_hash,
    reason::{DeriveError, SkipReason},
};
