//! A small rollup to test with: blocks are real (headers, transactions, hashes), execution is a hash over the transactions.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod chain;
mod executor;
mod posting;
mod reader;

pub(crate) use self::{
    chain::{CHAIN_ID, MESSENGER, POISON, TestChain, TestReplay, transfer},
    executor::TestExecutor,
    posting::{accumulator, deposit, l1_hash, l1_ref, post},
    reader::TestReader,
};
