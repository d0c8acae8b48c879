//! Execution of one block on revm.
//!
//! ```text
//!  BlockPlan (parent + attributes, checked) ──> EvmEnv
//!                                                 │
//!  StateReader ──> BlockState (overlay) ──> BlockExecutor: open, execute ..., finish         the plain path, in order
//!  (the store, │                                  │
//!   memory)    └─> parallel::Memory ──────> ParallelExecutor: the same, on several threads     BlockBuilder: parallel,
//!                                                 │                                            in order after a panic
//!                                   BlockOutput (receipts, state diff, gas) ──> BlockPlan::seal (header)
//! ```
//!
//! The plain path is the verifier's, and the oracle in tests; both paths give the same, byte for byte.
//!
//! Nothing here knows of the store: state comes in through [`StateReader`] and leaves as a
//! [`StateDiff`](millrace_proto::StateDiff).

mod access_list;
mod block_state;
mod builder;
mod call;
mod code_cache;
mod diff;
mod env;
mod error;
mod executor;
mod forced;
mod handler;
mod hashes;
mod memory;
mod moved;
mod output;
mod parallel;
mod plan;
mod reader;
mod reject;
mod system;
mod tally;
mod traced;
mod transfers;
mod tx;

pub(crate) use self::{
    block_state::{Assumed, BlockState},
    call::{CallExecutor, collect_access_list},
    moved::MovedPrecompiles,
    traced::{TracedBlock, TracedContext},
    transfers::TransferLogs,
    tx::tx_env,
};
pub use self::{
    builder::BlockBuilder,
    code_cache::CodeCache,
    env::EvmEnv,
    error::ExecutionError,
    executor::BlockExecutor,
    forced::ForcedCount,
    memory::MemoryState,
    output::{BlockOutput, ListTries},
    parallel::{
        AccessListError, ListedExecutor, ParallelExecutor, ParallelStats, SharedReader,
        WorkProfile, WorkerPool,
    },
    plan::{BlockPlan, BlockRoots, PlanError},
    reader::{StateReadError, StateReader},
};
