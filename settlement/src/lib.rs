//! Derives Millrace's chain from L1, verifies it, and commits its roots.
//!
//! ```text
//!            L1 events ──────────> watcher ──> store (RocksDB) <────────────────┐
//!                                                │                              │
//!  DA ── bytes ──> verifier: derive ─ execute ─ compare with the sequencer ─> outcomes
//!                                                │                              │
//!            L1 <── commitBatch ──── committer <─┘        status, finality <────┘
//! ```
//!
//! * [`Derivation`]: the rules by which posted batches become blocks; pure and total.
//! * [`SettlementService`]: the service. Every part can stop at any time and goes on from what the store and L1 say.
//! * [`verify_chain`]: the same rules over the whole of L1, without a service.

mod attestations;
mod committer;
mod config;
mod derivation;
mod error;
mod execution;
mod finality;
mod halt;
mod metrics;
mod retry;
mod service;
mod shared;
mod store;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
mod verifier;
mod verify;
mod watcher;

pub use self::{
    attestations::VerifierPeer,
    config::SettlementConfig,
    derivation::{
        Derivation, DerivationHead, DeriveError, DerivedBatch, DerivedContent, QueuedDeposits,
        SkipReason, batch_hash,
    },
    error::{SettlementOpenError, SettlementRunError},
    execution::{ExecutionError, ReplayWorkerGone},
    halt::HaltReason,
    service::{Duty, SettlementDeps, SettlementHandle, SettlementService, SettlementTask},
    store::StoreError,
    verify::{
        Difference, L1Check, SkippedBatch, VerifyError, VerifyInput, VerifyProgress, VerifyReport,
        VerifyTarget, verify_chain,
    },
};
