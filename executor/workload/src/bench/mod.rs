//! Measuring the executor beside the plain revm loop, in one run.

mod allocation;
mod report;
mod run;

pub use self::{
    allocation::{Allocated, AllocationMeter},
    report::{Machine, Row, Summary, Target, summarize},
    run::{Case, Figures, Kind, Memory, ParallelMemory, RunError, measure},
};
