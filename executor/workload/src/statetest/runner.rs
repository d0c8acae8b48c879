//! Files of state tests, run.

use std::{fmt, io, num::NonZeroUsize, path::Path, sync::Arc};

use millrace_executor::{CodeCache, ParallelStats, WorkerPool};

use super::{
    alone::{self, CaseProblem},
    file::{self, Group, StateTestError},
    stacked::{Arrangement, Stack, StackProblem},
};
use crate::execution::Ground;

/// Runs files of state tests on pools of given sizes.
#[derive(Debug)]
pub struct StateTests {
    pools: Vec<Pool>,
}

/// How a pool is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// How many threads execute.
    pub count: usize,
    /// They give way at random.
    pub disturbed: bool,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) pool: Arc<WorkerPool>,
    pub(super) threads: Threads,
}

/// The results of a file.
#[derive(Debug, Default)]
pub struct FileReport {
    /// One a case.
    pub cases: Vec<CaseReport>,
    /// One a block of all cases of a test under a fork.
    pub stacks: Vec<StackReport>,
}

/// The result of a case.
#[derive(Debug)]
pub struct CaseReport {
    /// Test, fork and indexes: `name/Cancun/d0g0v0`.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
}

/// How a case went.
#[derive(Debug)]
pub enum Verdict {
    /// All is as it must be.
    Passed,
    /// Something is not.
    Failed(Box<CaseProblem>),
    /// Not run, for this reason.
    Skipped(&'static str),
}

/// The result of a block of all cases of a test.
#[derive(Debug)]
pub struct StackReport {
    /// Test, fork and arrangement: `name/Cancun/one-sender`.
    pub name: String,
    /// How many transactions were tried.
    pub tried: usize,
    /// How many of them the block includes.
    pub included: usize,
    /// How they were executed, over all pools of more than one thread.
    pub stats: ParallelStats,
    /// What is wrong; empty when executing on threads always gave the same as in order.
    pub problems: Vec<Arc<StackProblem>>,
}

impl StateTests {
    /// Pools of these sizes, and for each with more than one thread another whose threads give way at random.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: &[NonZeroUsize], seed: u64) -> io::Result<Self> {
        let mut pools = Vec::new();
        for count in threads {
            let pool = Arc::new(WorkerPool::new(*count)?);
            pools.push(Pool { pool, threads: Threads { count: count.get(), disturbed: false } });
        }
        for count in threads.iter().filter(|count| count.get() > 1) {
            let pool = Arc::new(WorkerPool::disturbed(*count, seed)?);
            pools.push(Pool { pool, threads: Threads { count: count.get(), disturbed: true } });
        }
        Ok(Self { pools })
    }

    /// Runs every case of a file alone, and all of each test and fork in one block.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn run(&self, path: &Path) -> Result<FileReport, StateTestError> {
        let mut report = FileReport::default();
        for group in file::read(path)? {
            self.group(&group, &mut report);
        }
        Ok(report)
    }

    fn group(&self, group: &Group, report: &mut FileReport) {
        let Group { test, fork, .. } = group;
        let skip = |reason| (group.cases.iter()).map(move |_| Verdict::Skipped(reason));
        let verdicts: Vec<_> = match (&group.env, skipped(group)) {
            (_, Some(reason)) => skip(reason).collect(),
            (None, None) => skip("the fork is not known").collect(),
            (Some(env), None) => {
                let codes = Arc::<CodeCache>::default();
                let ground = Ground { env: env.clone(), state: group.state.clone(), codes };
                let stacks = self.stacks(group, &ground);
                let wrong = stacks.iter().flat_map(|stack| &stack.problems).next().cloned();
                report.stacks.extend(stacks);
                let verdict = |case| match alone::run(&ground, group, case, &self.pools) {
                    Err(problem) => Verdict::Failed(Box::new(problem)),
                    Ok(()) => match &wrong {
                        Some(wrong) => Verdict::Failed(CaseProblem::Stacked(wrong.clone()).into()),
                        None => Verdict::Passed,
                    },
                };
                group.cases.iter().map(verdict).collect()
            }
        };
        for (case, verdict) in group.cases.iter().zip(verdicts) {
            let name = format!("{test}/{fork}/{}", case.name);
            report.cases.push(CaseReport { name, verdict });
        }
    }

    fn stacks(&self, group: &Group, ground: &Ground) -> Vec<StackReport> {
        let stack = |arrangement: Arrangement| {
            let name = format!("{}/{}/{}", group.test, group.fork, arrangement.name());
            let mut report = StackReport {
                name,
                tried: 0,
                included: 0,
                stats: ParallelStats::default(),
                problems: Vec::new(),
            };
            match Stack::build(group, ground, arrangement) {
                Ok(Some(stack)) => {
                    (report.tried, report.included) = (stack.tried(), stack.included());
                    let StackReport { stats, problems, .. } = &mut report;
                    for pool in &self.pools {
                        let mut unused = ParallelStats::default();
                        let stats = if pool.threads.count > 1 { &mut *stats } else { &mut unused };
                        problems.extend(stack.check(pool, stats).err().map(Arc::new));
                    }
                }
                Ok(None) => return None,
                Err(problem) => report.problems.push(Arc::new(problem)),
            }
            Some(report)
        };
        Arrangement::ALL.into_iter().filter_map(stack).collect()
    }
}

/// Why reference clients do not run a group.
fn skipped(group: &Group) -> Option<&'static str> {
    if group.fork == "Constantinople" {
        return Some("Constantinople without Petersburg was never live");
    }
    if group.test == "createBlobhashTx" {
        return Some("a blob transaction that creates a contract cannot be built");
    }
    None
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disturbed = if self.disturbed { ", disturbed" } else { "" };
        write!(f, "{} threads{disturbed}", self.count)
    }
}
