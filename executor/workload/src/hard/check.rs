//! Blocks executed in order and on threads, and compared.

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::eips::{
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, eip7928::BlockAccessList,
};
use alloy_primitives::Address;
use millrace_executor::{AccessListError, ExecutionError, ParallelStats, WorkerPool};
use millrace_proto::RecoveredTx;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    Block,
    execution::{Difference, Execution, Ground},
    hard::tamper::tamper,
};

type Outcome = Result<Execution, ExecutionError>;

/// Checks blocks on pools of several sizes, whose threads give way at random.
#[derive(Debug)]
pub struct HardChecker {
    pools: Vec<Arc<WorkerPool>>,
}

/// How a block fails.
#[derive(Debug, thiserror::Error)]
pub enum HardProblem {
    /// Two executions that both succeed, and differ.
    #[error(transparent)]
    Difference(#[from] Difference),
    /// One of them fails, or both in other ways.
    #[error("execution in order: {expected}; on threads: {got}")]
    Execution {
        /// In order.
        expected: String,
        /// On threads.
        got: String,
    },
    /// The block is not executed by its own access list.
    #[error("by its access list: {0}")]
    List(String),
    /// Its stretches do not change what it changes.
    #[error("stretch by stretch: {0}")]
    Frames(String),
    /// The block is executed by an access list that is not its own.
    #[error("an access list with {0} is taken for the block's")]
    ListTaken(&'static str),
}

/// A block that is not executed as in order.
#[derive(Debug, thiserror::Error)]
#[error("on {threads} threads, {}: {problem}", if *.whole { "whole" } else { "in pieces" })]
pub struct HardFailure {
    /// On how many threads.
    pub threads: usize,
    /// The transactions were handed over all at once.
    pub whole: bool,
    /// What is wrong.
    #[source]
    pub problem: HardProblem,
}

impl HardChecker {
    /// How often a smaller block is tried before it counts as right: most failures depend on how threads meet.
    const TRIES: u64 = 20;

    /// Starts a pool for each number of threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: &[NonZeroUsize], seed: u64) -> io::Result<Self> {
        let start = |threads: &NonZeroUsize| WorkerPool::disturbed(*threads, seed).map(Arc::new);
        Ok(Self { pools: threads.iter().map(start).collect::<io::Result<_>>()? })
    }

    /// Executes a block in order, and on every pool as a whole and in pieces, which follow from `seed`.
    ///
    /// # Errors
    /// When an execution on threads does not give what that in order gives.
    pub fn check(&self, block: &Block, seed: u64) -> Result<ParallelStats, Box<HardFailure>> {
        let without = Ground::of(block);
        let with = without.clone().with_list(true);
        let listed = with.in_order(&block.transactions);
        let expected = without.in_order(&block.transactions);
        let mut random = StdRng::seed_from_u64(seed);
        let mut all = ParallelStats::default();
        for pool in &self.pools {
            let threads = pool.threads();
            if let Ok(listed) = &listed {
                by_list(&with, listed, pool, &mut random).map_err(|problem| HardFailure {
                    threads,
                    whole: true,
                    problem,
                })?;
            }
            in_frames(&without, &expected, &block.transactions, pool, &mut random)
                .map_err(|problem| HardFailure { threads, whole: false, problem })?;
            for whole in [true, false] {
                let (ground, expected) =
                    if whole { (&with, &listed) } else { (&without, &expected) };
                let seed = (!whole).then(|| random.random());
                let (result, stats) = on_threads(ground, &block.transactions, pool, seed);
                if let Some(problem) = problem(expected, &result) {
                    return Err(Box::new(HardFailure { threads, whole, problem }));
                }
                if pool.threads() > 1 {
                    all.plain += stats.plain;
                    all.held += stats.held;
                    all.failed += stats.failed;
                    all.inline += stats.inline;
                }
            }
        }
        Ok(all)
    }

    /// Leaves transactions out as long as the block fails on that number of threads, for at most `time`.
    ///
    /// Gives the indexes of those that are left, and how they fail; all of them and nothing if the block does not fail again.
    pub fn shrink(
        &self,
        block: &Block,
        failure: &HardFailure,
        time: Duration,
    ) -> (Vec<usize>, Option<HardProblem>) {
        let until = Instant::now() + time;
        let mut kept: Vec<usize> = (0..block.transactions.len()).collect();
        let Some(pool) = self.pools.iter().find(|pool| pool.threads() == failure.threads) else {
            return (kept, None);
        };
        let ground = Ground::of(block);
        let fails = |kept: &[usize]| {
            let transactions: Vec<_> =
                kept.iter().map(|index| block.transactions[*index].clone()).collect();
            let expected = ground.in_order(&transactions);
            (0..Self::TRIES).take_while(|_| Instant::now() < until).find_map(|attempt| {
                let seed = (!failure.whole && attempt > 0).then_some(attempt);
                problem(&expected, &on_threads(&ground, &transactions, pool, seed).0)
            })
        };
        let mut last = fails(&kept);
        let mut size = if last.is_some() { kept.len() / 2 } else { 0 };
        while size > 0 && Instant::now() < until {
            let mut start = 0;
            while start < kept.len() && Instant::now() < until {
                let mut fewer = kept.clone();
                fewer.drain(start..(start + size).min(kept.len()));
                if let Some(problem) = fails(&fewer) {
                    (kept, last) = (fewer, Some(problem));
                } else {
                    start += size;
                }
            }
            size /= 2;
        }
        (kept, last)
    }
}

/// Executes by the access list, and by one that is not the block's.
fn by_list(
    ground: &Ground,
    execution: &Execution,
    pool: &Arc<WorkerPool>,
    random: &mut StdRng,
) -> Result<(), HardProblem> {
    let transactions: Arc<[_]> = execution.output.transactions.as_slice().into();
    let list = Arc::new(execution.output.access_list.clone().unwrap_or_default());
    let expected = execution.clone().included();
    match ground.by_list(transactions.clone(), list.clone(), pool) {
        Err(AccessListError::Unsupported) => return Ok(()),
        Err(error) => return Err(HardProblem::List(error.to_string())),
        Ok(got) => {
            expected.difference(&got).map_or(Ok(()), |found| Err(HardProblem::from(found)))?;
        }
    }
    let mut other = BlockAccessList::clone(&list);
    let what = tamper(&mut other, transactions.len() as u64 + 1, random);
    if other == *list {
        return Ok(());
    }
    match ground.by_list(transactions, Arc::new(other), pool) {
        Ok(_) => Err(HardProblem::ListTaken(what)),
        Err(AccessListError::Execution(error)) => Err(HardProblem::List(error.to_string())),
        Err(_) => Ok(()),
    }
}

/// Executes in pieces, and takes what each of them changed.
fn in_frames(
    ground: &Ground,
    expected: &Outcome,
    transactions: &[Arc<RecoveredTx>],
    pool: &Arc<WorkerPool>,
    random: &mut StdRng,
) -> Result<(), HardProblem> {
    let stretches = pieces(transactions, random);
    let first = random.random_range(0..=stretches.len());
    let (Ok(expected), Ok((got, changed))) = (expected, ground.in_frames(&stretches, first, pool))
    else {
        // That both fail alike is compared elsewhere.
        return Ok(());
    };
    if let Some(found) = expected.difference(&got) {
        return Err(found.into());
    }
    match changed {
        Err(address) => {
            Err(HardProblem::Frames(format!("account {address} is not as it was left")))
        }
        Ok(changed) => {
            let mut rest = expected.output.diff.since(&changed);
            // What the protocol does at a block's end is in no stretch.
            rest.accounts.retain(|address, _| !CALLED_AT_END.contains(address));
            match rest.accounts.is_empty() {
                true => Ok(()),
                false => {
                    Err(HardProblem::Frames(format!("what the block changes beside: {rest:?}")))
                }
            }
        }
    }
}

/// The contracts of requests to the consensus layer.
const CALLED_AT_END: [Address; 2] =
    [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS];

fn pieces(transactions: &[Arc<RecoveredTx>], random: &mut StdRng) -> Vec<Arc<[Arc<RecoveredTx>]>> {
    let mut pieces: Vec<Arc<[_]>> = Vec::new();
    let mut rest = transactions;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(random.random_range(1..=24).min(rest.len()));
        pieces.push(piece.into());
        rest = more;
    }
    pieces
}

/// Executes in pieces that follow from `seed`, or as a whole.
fn on_threads(
    ground: &Ground,
    transactions: &[Arc<RecoveredTx>],
    pool: &Arc<WorkerPool>,
    seed: Option<u64>,
) -> (Outcome, ParallelStats) {
    let stretches = match seed {
        Some(seed) => pieces(transactions, &mut StdRng::seed_from_u64(seed)),
        None => vec![transactions.into()],
    };
    match ground.in_parallel(&stretches, pool) {
        Ok((execution, stats)) => (Ok(execution), stats),
        Err(error) => (Err(error), ParallelStats::default()),
    }
}

fn problem(expected: &Outcome, got: &Outcome) -> Option<HardProblem> {
    let text = |outcome: &Outcome| match outcome {
        Ok(_) => "succeeds".to_owned(),
        Err(error) => error.to_string(),
    };
    match (expected, got) {
        (Ok(expected), Ok(got)) => expected.difference(got).map(HardProblem::from),
        (expected, got) => {
            let (expected, got) = (text(expected), text(got));
            (expected != got).then_some(HardProblem::Execution { expected, got })
        }
    }
}
