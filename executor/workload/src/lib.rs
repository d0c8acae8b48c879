//! What the executor is measured and tested with: real blocks, blocks of real contracts, and the plain revm loop beside it.
//!
//! ```text
//!  scenario  blocks made for measuring: transfers, ERC-20, Uniswap; seeded
//!  fixture   Ethereum mainnet blocks with the state before them
//!  hard      blocks that are hard to execute in parallel, and the check that it is done right
//!  statetest Ethereum's state tests, each alone and all of a test in one block
//!  replay    fixtures in order and on threads: results and times
//!  execution a block executed either way, and how the two differ
//!  root      the root of a state in memory
//!  bench     ours beside the plain loop, as rows and against goals
//!  bare      the plainest correct loop over revm: what others are compared with
//! ```

mod bare;
/// Measuring the executor.
pub mod bench;
mod execution;
mod fixture;
mod hard;
mod replay;
mod root;
mod scenario;
mod statetest;

pub use self::{
    bare::{BareOutcome, BareRevm},
    execution::{Difference, Execution, Ground},
    fixture::{Fixture, FixtureError},
    hard::{Coverage, HardBlock, HardChecker, HardFailure, HardProblem},
    replay::{FixtureReplay, ReplayProblem, Replayed},
    root::state_root,
    scenario::{
        ArtifactError, Artifacts, Block, Load, LoadKind, Loaded, Scenario, as_rollup_block,
        scenarios,
    },
    statetest::{
        Arrangement, CaseProblem, CaseReport, FileReport, StackProblem, StackReport,
        StateTestError, StateTests, Threads, Verdict, state_test_files,
    },
};
