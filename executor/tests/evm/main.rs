//! The sequential block executor, on states in memory.

#[path = "../support/mod.rs"]
mod support;

mod chain;
mod deposits;
mod destroy;
mod fees;
mod oracle;
mod system;
mod transactions;
