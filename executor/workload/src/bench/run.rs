//! Executing a case again and again, every way in turn.

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_executor::{
    BlockExecutor, CodeCache, ExecutionError, ParallelExecutor, ParallelStats, StateReadError,
    WorkProfile, WorkerPool,
};
use millrace_proto::RecoveredTx;

use crate::{BareRevm, Block};

/// A block to measure.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The block.
    pub block: Block,
}

/// Where a block comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Made for measuring.
    Made,
    /// Of Ethereum mainnet.
    Mainnet,
}

/// What measuring a case gave. Times are medians.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The case's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Transactions of the block.
    pub transactions: usize,
    /// Gas that they use.
    pub gas: u64,
    /// The bare revm loop.
    pub bare: Duration,
    /// Our executor in order.
    pub in_order: Duration,
    /// Our parallel executor, by its number of threads.
    pub parallel: Vec<(usize, Duration, ParallelStats)>,
    /// What bounds any number of threads.
    pub work: WorkProfile,
}

/// Why a case could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateReadError),
    /// A block could not be executed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// One way used other gas than another.
    #[error("{case}: {way} used {got} gas, the bare revm loop {expected}")]
    Gas {
        /// The case.
        case: String,
        /// Which way.
        way: String,
        /// What it used.
        got: u64,
        /// What the bare loop used.
        expected: u64,
    },
}

/// Executes a case `runs` times every way in turn, after one time that is not counted.
///
/// What is timed: from the transactions, their senders recovered, to their outcomes and the changed state in memory. Roots, the
/// state diff, and freeing what a run leaves are not. All code has been analysed before.
///
/// # Errors
/// When the block cannot be executed, or two ways differ in the gas used.
pub fn measure(case: &Case, threads: &[NonZeroUsize], runs: usize) -> Result<Figures, RunError> {
    let Block { env, state, transactions } = &case.block;
    let bare = BareRevm::new(state.clone());
    // The bare loop has all code at hand, so ours has room for it.
    let code_bytes = state.codes().map(|(_, code)| code.len()).sum();
    let codes = Arc::new(CodeCache::with_limit(code_bytes));
    let shared: Arc<[Arc<RecoveredTx>]> = transactions.clone().into();
    let pools = (threads.iter())
        .map(|threads| WorkerPool::new(*threads).map(Arc::new).map_err(RunError::Thread))
        .collect::<Result<Vec<_>, _>>()?;
    let mut bare_times = Vec::new();
    let mut in_order_times = Vec::new();
    let mut parallel_times = vec![(Vec::new(), ParallelStats::default()); pools.len()];
    let mut gas = 0;
    let check = |way: &str, got: u64, expected: u64| {
        let (case, way) = (case.name.clone(), way.to_owned());
        if got == expected { Ok(()) } else { Err(RunError::Gas { case, way, got, expected }) }
    };
    for round in 0..=runs {
        let counts = round > 0;
        let started = Instant::now();
        let outcome = bare.run(env, transactions)?;
        record(&mut bare_times, started, counts);
        gas = outcome.gas_used();
        drop(outcome);

        let started = Instant::now();
        let mut block = BlockExecutor::with_env(env.clone(), state.clone(), codes.clone());
        let mut outcomes = Vec::with_capacity(transactions.len());
        for tx in transactions {
            outcomes.push(block.execute(tx)?);
        }
        record(&mut in_order_times, started, counts);
        check("our executor in order", block.gas_used(), gas)?;
        drop((outcomes, block));

        for (pool, (times, stats)) in pools.iter().zip(&mut parallel_times) {
            let started = Instant::now();
            let (codes, pool) = (codes.clone(), pool.clone());
            let mut block =
                ParallelExecutor::with_env(env.clone(), state.clone(), codes, pool.clone());
            let outcomes = block.execute(shared.clone())?;
            record(times, started, counts);
            check("our parallel executor", block.gas_used(), gas)?;
            *stats = block.stats();
            drop(outcomes);
        }
    }
    let alone = Arc::new(WorkerPool::new(NonZeroUsize::MIN).map_err(RunError::Thread)?);
    let mut works = Vec::new();
    for _ in 0..runs {
        let (env, state) = (env.clone(), state.clone());
        let mut block = ParallelExecutor::with_env(env, state, codes.clone(), alone.clone());
        works.push(block.profile(&shared)?);
    }
    works.sort_by_key(|work| work.critical);
    let parallel = pools.iter().zip(parallel_times);
    Ok(Figures {
        name: case.name.clone(),
        kind: case.kind,
        transactions: transactions.len(),
        gas,
        work: works.get(works.len() / 2).copied().unwrap_or_default(),
        bare: median(bare_times),
        in_order: median(in_order_times),
        parallel: parallel
            .map(|(pool, (times, stats))| (pool.threads(), median(times), stats))
            .collect(),
    })
}

fn record(times: &mut Vec<Duration>, started: Instant, counts: bool) {
    let time = started.elapsed();
    if counts {
        times.push(time);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
