//! Inclusion proofs: made by a node that has the chain, checked by anyone who has an L1
//!
//! ```text
//!  executor: block, headers ─┐
//!  settlement: batch, L1 ────┼─> InclusionProver ─> millrace_getInclusionProof ─> prove-inclusion ─> file ─> verify-inclusion <─ L1
//!  DA layer: bytes ──────────┘
//! ```

mod error;
mod prove;
mod prover;
mod rpc;
mod verify;

pub(crate) use self::{
    error::ProveError,
    prove::{ProveInclusionArgs, run as prove},
    prover::InclusionProver,
    rpc::{METHOD, methods},
    verify::{VerifyInclusionArgs, run as verify},
};
