//! Executing a case again and again, every way in turn.

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::eips::eip7928::BlockAccessList;
use millrace_executor::{
    AccessListError, BlockExecutor, CodeCache, ExecutionError, ListedExecutor, MemoryState,
    ParallelExecutor, ParallelStats, StateReadError, WorkProfile, WorkerPool,
};
use millrace_proto::{RecoveredTx, TxOutcome};

use super::{Allocated, AllocationMeter, allocation::counted};
use crate::{BareOutcome, BareRevm, Block, Ground};

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
    /// How the same work is done right after a block alike, with what was learnt from that.
    pub again: Vec<(usize, ParallelStats)>,
    /// The same with the block's access list given; nothing under rules that have no use for one.
    pub listed: Vec<(usize, Duration)>,
    /// What bounds any number of threads.
    pub work: WorkProfile,
    /// What was allocated, if that was counted.
    pub memory: Option<Memory>,
}

/// What each way allocates for a block.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The bare revm loop.
    pub bare: Allocated,
    /// Our executor in order.
    pub in_order: Allocated,
    /// Our parallel executor, by its number of threads.
    pub parallel: Vec<(usize, ParallelMemory)>,
}

/// What the parallel executor allocates for a block.
#[derive(Debug, Clone, Copy)]
pub struct ParallelMemory {
    /// On threads that keep memory and code from blocks before, as in service.
    pub warm: Allocated,
    /// On threads that have executed nothing yet: with all that they will keep.
    pub first: Allocated,
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
    /// A block could not be executed by its access list.
    #[error(transparent)]
    List(#[from] AccessListError),
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

/// How long a case is measured at least, unless it would take more than [`MOST_RUNS`].
const ENOUGH: Duration = Duration::from_secs(2);

/// How often a case is executed every way at most, unless more is asked for.
const MOST_RUNS: usize = 101;

/// Executes a case at least `runs` times every way in turn, after one time that is not counted; then once more each way for what it
/// allocates, if there is a meter. A short case is executed more often, up to a hundred and one times, until all its runs have taken
/// two seconds.
///
/// What is timed: from the transactions, their senders recovered, to their outcomes and the changed state in memory. Roots, the
/// state diff, and freeing what a run leaves are not. All code has been analysed before.
///
/// # Errors
/// When the block cannot be executed, or two ways differ in the gas used.
pub fn measure(
    case: &Case,
    threads: &[NonZeroUsize],
    runs: usize,
    meter: Option<&dyn AllocationMeter>,
) -> Result<Figures, RunError> {
    let subject = Subject::new(&case.block);
    let pools = threads.iter().map(|threads| pool(*threads)).collect::<Result<Vec<_>, _>>()?;
    let mut bare_times = Vec::new();
    let mut in_order_times = Vec::new();
    let mut parallel_times = vec![(Vec::new(), ParallelStats::default()); pools.len()];
    let mut listed_times = vec![Vec::new(); pools.len()];
    let list = subject.list()?;
    let mut gas = 0;
    let check = |way: &str, got: u64, expected: u64| {
        let (case, way) = (case.name.clone(), way.to_owned());
        if got == expected { Ok(()) } else { Err(RunError::Gas { case, way, got, expected }) }
    };
    let began = Instant::now();
    for round in 0.. {
        let enough = began.elapsed() >= ENOUGH || round > MOST_RUNS;
        if round > runs && enough {
            break;
        }
        let counts = round > 0;
        let started = Instant::now();
        let outcome = subject.bare()?;
        record(&mut bare_times, started, counts);
        gas = outcome.gas_used();
        drop(outcome);

        let started = Instant::now();
        let (block, outcomes) = subject.in_order()?;
        record(&mut in_order_times, started, counts);
        check("our executor in order", block.gas_used(), gas)?;
        drop((outcomes, block));

        for (pool, (times, stats)) in pools.iter().zip(&mut parallel_times) {
            pool.forget();
            let started = Instant::now();
            let (block, outcomes) = subject.in_parallel(pool)?;
            record(times, started, counts);
            check("our parallel executor", block.gas_used(), gas)?;
            *stats = block.stats();
            drop((outcomes, block));
        }

        for (pool, times) in pools.iter().zip(&mut listed_times) {
            let started = Instant::now();
            let (block, outcomes) = match subject.by_list(&list, pool) {
                Err(AccessListError::Unsupported) => continue,
                done => done?,
            };
            record(times, started, counts);
            check("our executor by access lists", block.gas_used(), gas)?;
            drop((outcomes, block));
        }
    }
    let mut again = Vec::new();
    for pool in &pools {
        let (block, _) = subject.in_parallel(pool)?;
        again.push((pool.threads(), block.stats()));
    }
    let memory = meter.map(|meter| subject.memory(meter, &pools)).transpose()?;
    let alone = pool(NonZeroUsize::MIN)?;
    let mut works = Vec::new();
    for _ in 0..runs {
        alone.forget();
        works.push(subject.open(&alone).profile(&subject.shared)?);
    }
    works.sort_by_key(|work| work.critical);
    let parallel = pools.iter().zip(parallel_times);
    Ok(Figures {
        name: case.name.clone(),
        kind: case.kind,
        transactions: subject.shared.len(),
        gas,
        work: works.get(works.len() / 2).copied().unwrap_or_default(),
        again,
        memory,
        bare: median(bare_times),
        in_order: median(in_order_times),
        parallel: parallel
            .map(|(pool, (times, stats))| (pool.threads(), median(times), stats))
            .collect(),
        listed: (pools.iter().zip(listed_times))
            .filter(|(_, times)| !times.is_empty())
            .map(|(pool, times)| (pool.threads(), median(times)))
            .collect(),
    })
}

/// A block, ready to be executed every way.
struct Subject<'a> {
    block: &'a Block,
    bare: BareRevm,
    codes: Arc<CodeCache>,
    shared: Arc<[Arc<RecoveredTx>]>,
}

impl<'a> Subject<'a> {
    fn new(block: &'a Block) -> Self {
        // The bare loop has all code at hand, so ours has room for it.
        let bytes = block.state.codes().map(|(_, code)| code.len()).sum();
        Self {
            block,
            bare: BareRevm::new(block.state.clone()),
            codes: Arc::new(CodeCache::with_limit(bytes)),
            shared: block.transactions.clone().into(),
        }
    }

    fn bare(&self) -> Result<BareOutcome, StateReadError> {
        self.bare.run(&self.block.env, &self.block.transactions)
    }

    fn in_order(&self) -> Result<(InOrder, Vec<TxOutcome>), ExecutionError> {
        let Block { env, state, transactions } = self.block;
        let mut block = BlockExecutor::with_env(env.clone(), state.clone(), self.codes.clone());
        let mut outcomes = Vec::with_capacity(transactions.len());
        for tx in transactions {
            outcomes.push(block.execute(tx)?);
        }
        Ok((block, outcomes))
    }

    fn in_parallel(
        &self,
        pool: &Arc<WorkerPool>,
    ) -> Result<(ParallelExecutor, Vec<TxOutcome>), ExecutionError> {
        let mut block = self.open(pool);
        let outcomes = block.execute(self.shared.clone())?;
        Ok((block, outcomes))
    }

    /// The block's access list, by executing it in order.
    fn list(&self) -> Result<Arc<BlockAccessList>, ExecutionError> {
        let Block { env, state, transactions } = self.block;
        let (env, state, codes) = (env.clone(), state.clone(), self.codes.clone());
        let block = Ground { env, state, codes }.with_list(true).in_order(transactions)?;
        Ok(Arc::new(block.output.access_list.unwrap_or_default()))
    }

    fn by_list(
        &self,
        list: &Arc<BlockAccessList>,
        pool: &Arc<WorkerPool>,
    ) -> Result<(ListedExecutor, Vec<TxOutcome>), AccessListError> {
        let Block { env, state, .. } = self.block;
        let mut block = ListedExecutor::with_env(
            env.clone(),
            state.clone(),
            self.codes.clone(),
            pool.clone(),
            self.shared.clone(),
            list.clone(),
        )?;
        let outcomes = block.execute()?;
        Ok((block, outcomes))
    }

    fn open(&self, pool: &Arc<WorkerPool>) -> ParallelExecutor {
        let Block { env, state, .. } = self.block;
        ParallelExecutor::with_env(env.clone(), state.clone(), self.codes.clone(), pool.clone())
    }

    /// What each way allocates; `pools` have executed the block before.
    fn memory(
        &self,
        meter: &dyn AllocationMeter,
        pools: &[Arc<WorkerPool>],
    ) -> Result<Memory, RunError> {
        let bare = counted(meter, || self.bare())?;
        let in_order = counted(meter, || self.in_order())?;
        let mut parallel = Vec::new();
        for used in pools {
            let warm = counted(meter, || self.in_parallel(used))?;
            let threads = NonZeroUsize::new(used.threads()).unwrap_or(NonZeroUsize::MIN);
            let new = pool(threads)?;
            let first = counted(meter, || self.in_parallel(&new))?;
            parallel.push((threads.get(), ParallelMemory { warm, first }));
        }
        Ok(Memory { bare, in_order, parallel })
    }
}

type InOrder = BlockExecutor<Arc<MemoryState>>;

fn pool(threads: NonZeroUsize) -> Result<Arc<WorkerPool>, RunError> {
    WorkerPool::new(threads).map(Arc::new).map_err(RunError::Thread)
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
