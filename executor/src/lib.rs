//! The executor: builds Ethereum blocks on revm, keeps chain and state in RocksDB, and answers for both.
//!
//! ```text
//!   open_block, execute, seal                       call, estimate, logs, proofs, accounts ...
//!            │                                                  │
//!   service: one worker thread ── evm: BlockBuilder             │ (readers: any thread)
//!            │                         │ StateDiff              │
//!            │                    store: root, commit ──────────┴── store: StateView of any kept block
//!            └── head (watch) ── subscribe: blocks from a cursor, then as they are sealed
//! ```
//!
//! One code base serves the rollup and the embedded dev L1: what differs is data in the
//! [`ChainSpec`](millrace_proto::ChainSpec). [`Replayer`] runs derived blocks through the sequential path over a store
//! of its own.

mod chain;
mod delta;
mod evm;
mod replay;
mod service;
mod state;
mod store;
mod trie;
mod warm;

pub use self::{
    delta::{DeltaError, apply_delta},
    evm::{
        AccessListError, BlockBuilder, BlockExecutor, BlockOutput, BlockPlan, BlockRoots,
        CodeCache, EvmEnv, ExecutionError, ForcedCount, ListTries, ListedExecutor, MemoryState,
        ParallelExecutor, ParallelStats, PlanError, SharedReader, StateReadError, StateReader,
        WorkProfile, WorkerPool,
    },
    replay::Replayer,
    service::{CallConfig, ExecutionConfig, ExecutorConfig, ExecutorHandle, ExecutorService},
    state::genesis_header,
    store::{StoreConfig, StoreError},
    trie::TrieError,
};
