//! Measuring the executor beside the plain revm loop, in one run.

mod report;
mod run;

pub use self::{
    report::{Machine, Row, Summary, Target, summarize},
    run::{Case, Figures, Kind, RunError, measure},
};
