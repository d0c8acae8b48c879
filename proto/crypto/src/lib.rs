//! Recovers the signers of Ethereum's signatures, and hashes with Keccak-256, eight at a time where the processor can.
//!
//! [`recover_batch`] takes any number of signatures. On processors with AVX-512 IFMA (Intel since Ice Lake, AMD since Zen 4) each of the eight
//! 64-bit lanes of a register works on a signature of its own; elsewhere, and for the few signatures that the lanes' formulas are not made
//! for, libsecp256k1 does. [`keccak256_batch`] does the same for hashes, with AVX-512 or AVX2. What a function gives never depends on
//! the processor.
//!
//! Signatures and messages are public here: the time that something takes depends on them. Do not use this crate where they are secret.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "the lanes are in use where there are instructions for them"
    )
)]
#![allow(
    clippy::needless_range_loop,
    reason = "limbs, columns and lanes are numbers that the formulas calculate with"
)]

mod counters;
mod engine;
mod keccak;
mod lanes;
mod recover;
mod secp;
#[cfg(any(test, feature = "torture"))]
pub mod torture;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

pub use self::{
    counters::{Counters, counters},
    engine::{Engine, HashPath, RecoverPath, engine},
    keccak::keccak256_batch,
    recover::{PublicKey, RecoverError, prepare, recover, recover_batch, recover_keys},
};
