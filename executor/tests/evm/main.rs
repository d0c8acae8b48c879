//! The block executors, on states in memory: each block in order and on several threads.

#[path = "../support/mod.rs"]
mod support;

mod access_list;
mod chain;
mod deposits;
mod destroy;
mod fees;
mod oracle;
mod parallel;
mod system;
mod transactions;
