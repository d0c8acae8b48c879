//! Execution of one block on several threads, with the result of executing in order.
//!
//! ```text
//!  transactions ──> Stretch ── ahead ──> Lane (an EVM a thread) ── reads ──> Memory: committed values, and those of
//!                     │                    │ Run: reads, writes              runs that are not committed; below it the
//!                     │                    └── published ──────────────────> state before the block
//!                     └── in order ──> Front: does the run hold? commit it : run it again here
//!                                        │
//!                                 Tally (receipts, gas), Memory ──> StateDiff
//! ```
//!
//! Runs ahead of the front are guesses. The front takes each in its turn, compares what it saw with what is there now,
//! value by value, and commits it or runs the transaction anew; so a block is right whatever the guesses were, and no transaction is
//! executed more than twice. Guesses are good because payments are differences (the beneficiary's, recipients',
//! senders' fees), senders' nonces are known up front, and what a run wrote is seen by the runs after it.

mod accesses;
mod changes;
mod contended;
mod diff;
mod executor;
mod fetch;
mod front;
mod gauge;
mod hints;
mod lane;
mod lane_cache;
mod listed;
mod memory;
mod notes;
mod plain;
mod pool;
mod precompiles;
mod profile;
mod run;
mod schedule;
mod signal;
mod state;
mod stats;
mod stretch;
mod sync;
mod view;

pub use self::{
    executor::ParallelExecutor,
    listed::{AccessListError, ListedExecutor},
    pool::WorkerPool,
    profile::WorkProfile,
    stats::ParallelStats,
    view::SharedReader,
};
