//! RocksDB tables: blocks, indexes, flat state, trie nodes, history. Every table is described in `docs/db.md`.
//!
//! ```text
//!            root(diff) ─┐                       ┌─ blocks, receipts, indexes
//!  StateDiff ────────────┴─ commit: one batch ───┼─ accounts, storage, code, trie nodes
//!                                                ├─ what was there before, by key and block
//!                                                └─ head
//!  view(block) ── snapshot ── history after the block, or else what is there now
//! ```
//!
//! One batch a block, into the write-ahead log, without an fsync: after a crash the store is at some recent block, with
//! everything of it and nothing of the next one, and the order log brings it forward.

mod block_codec;
pub(crate) mod chain;
pub(crate) mod codec;
mod config;
pub(crate) mod db;
mod diff_codec;
mod disk;
mod error;
mod genesis;
pub(crate) mod keys;
mod metrics;
mod prune;
mod recent;
pub(crate) mod table;
mod unwind;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use self::disk::Store;
pub use self::{config::StoreConfig, error::StoreError};
pub(crate) use crate::state::StateView;

/// The version of the tables' contents. Changes with every change of a key, a value or their meaning.
pub(crate) const SCHEMA_VERSION: u32 = 1;
