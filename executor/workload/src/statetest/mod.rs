//! Ethereum's GeneralStateTests: one transaction on a given state, and the root of the state after it.
//!
//! ```text
//!  file      JSON -> groups (test, fork) of cases
//!  alone     a case in a block of its own: root, logs, refusal; in order and on threads
//!  stacked   a group in one block, where its transactions meet: threads against in order
//!  refusal   the tests' names of what is wrong with a transaction
//! ```

mod alone;
mod file;
mod refusal;
mod runner;
mod stacked;

pub use self::{
    alone::CaseProblem,
    file::{StateTestError, state_test_files},
    runner::{CaseReport, FileReport, StackReport, StateTests, Threads, Verdict},
    stacked::{Arrangement, StackProblem},
};
