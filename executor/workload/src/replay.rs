//! Blocks of Ethereum mainnet, executed in order and on threads: what they must give, and how long each way takes.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bloom, KECCAK256_EMPTY};
use millrace_executor::{
    AccessListError, CodeCache, ExecutionError, MemoryState, ParallelStats, StateReadError,
    StateReader, WorkerPool,
};
use millrace_proto::TxOutcome;

use crate::{
    Fixture,
    execution::{Difference, Execution, Ground},
};

/// What a block does not give as it must.
#[derive(Debug, thiserror::Error)]
pub enum ReplayProblem {
    /// The block uses other gas.
    #[error("gas used is {got}, must be {expected}")]
    Gas {
        /// As on mainnet.
        expected: u64,
        /// As executed.
        got: u64,
    },
    /// A transaction of the block is left out.
    #[error("transaction {index} is left out: {outcome:?}")]
    LeftOut {
        /// Its index.
        index: usize,
        /// Why.
        outcome: Box<TxOutcome>,
    },
    /// A transaction uses other gas or ends in another way.
    #[error("transaction {index} gives (gas, success) {got:?}, must give {expected:?}")]
    Result {
        /// Its index.
        index: usize,
        /// As on mainnet.
        expected: Option<(u64, bool)>,
        /// As executed.
        got: (u64, bool),
    },
    /// The receipts are others.
    #[error("receipts root is {got}, must be {expected}")]
    ReceiptsRoot {
        /// As on mainnet.
        expected: B256,
        /// As executed.
        got: B256,
    },
    /// The logs are others.
    #[error("the logs bloom is not the header's")]
    LogsBloom {
        /// As on mainnet.
        expected: Box<Bloom>,
        /// As executed.
        got: Box<Bloom>,
    },
    /// The state after the block is another.
    #[error("account {address} is another after the block than it must be")]
    State {
        /// The first account that differs.
        address: Address,
    },
    /// Executing on threads gives something else than executing in order.
    #[error("on {threads} threads: {difference}")]
    Parallel {
        /// How many.
        threads: usize,
        /// What.
        difference: Box<Difference>,
    },
    /// Execution fails.
    #[error("execution fails: {0}")]
    Execution(#[from] ExecutionError),
    /// The block is not executed by its access list.
    #[error("by its access list: {0}")]
    List(#[from] AccessListError),
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    Read(#[from] StateReadError),
}

/// A block's results.
#[derive(Debug)]
pub struct Replayed {
    /// What is wrong; empty when all holds.
    pub problems: Vec<ReplayProblem>,
    /// Median time of executing in order, from opening the block to its output.
    pub sequential: Duration,
    /// The same on threads.
    pub parallel: Duration,
    /// The same on threads, with the block's access list given; zero under rules that have no use for one.
    pub listed: Duration,
    /// How the transactions were executed on threads, in the last run.
    pub stats: ParallelStats,
}

/// Replays blocks.
#[derive(Debug)]
pub struct FixtureReplay {
    pool: Arc<WorkerPool>,
    runs: NonZeroUsize,
    codes: Arc<CodeCache>,
}

impl FixtureReplay {
    /// Replays on this pool, each block as often as said, every run checked.
    pub fn new(pool: Arc<WorkerPool>, runs: NonZeroUsize) -> Self {
        Self { pool, runs, codes: Arc::default() }
    }

    /// Replays a block.
    pub fn run(&self, block: &Fixture) -> Replayed {
        let mut replayed = Replayed {
            problems: Vec::new(),
            sequential: Duration::ZERO,
            parallel: Duration::ZERO,
            listed: Duration::ZERO,
            stats: ParallelStats::default(),
        };
        if let Err(problem) = self.try_run(block, &mut replayed) {
            replayed.problems.push(problem);
        }
        replayed
    }

    fn try_run(&self, block: &Fixture, replayed: &mut Replayed) -> Result<(), ReplayProblem> {
        let ground = Ground {
            env: block.env.clone(),
            state: block.state.clone(),
            codes: self.codes.clone(),
        };
        let stretch = [Arc::from(block.transactions.as_slice())];
        let different = |difference| {
            let (threads, difference) = (self.pool.threads(), Box::new(difference));
            ReplayProblem::Parallel { threads, difference }
        };
        // Not timed: it fills the code cache for all.
        let with_list = ground.clone().with_list(true);
        let listed_oracle = with_list.in_order(&block.transactions)?;
        replayed.problems.extend(check(block, &listed_oracle)?);
        let (same, _) = with_list.in_parallel(&stretch, &self.pool)?;
        listed_oracle.difference(&same).map_or(Ok(()), |found| Err(different(found)))?;
        let oracle = listed_oracle.clone().without_list();
        let list = Arc::new(listed_oracle.output.access_list.unwrap_or_default());

        let (mut sequential, mut parallel, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.runs.get() {
            let start = Instant::now();
            let in_order = ground.in_order(&block.transactions)?;
            sequential.push(start.elapsed());
            drop(in_order);
            self.pool.forget();
            let start = Instant::now();
            let (execution, stats) = ground.in_parallel(&stretch, &self.pool)?;
            parallel.push(start.elapsed());
            replayed.stats = stats;
            oracle.difference(&execution).map_or(Ok(()), |found| Err(different(found)))?;
            let start = Instant::now();
            let execution = match ground.by_list(stretch[0].clone(), list.clone(), &self.pool) {
                Err(AccessListError::Unsupported) => continue,
                execution => execution?,
            };
            listed.push(start.elapsed());
            oracle.difference(&execution).map_or(Ok(()), |found| Err(different(found)))?;
        }
        replayed.listed = median(listed);
        replayed.sequential = median(sequential);
        replayed.parallel = median(parallel);
        Ok(())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Everything that the file says of the block's execution.
fn check(block: &Fixture, execution: &Execution) -> Result<Vec<ReplayProblem>, StateReadError> {
    let mut problems = Vec::new();
    for (index, outcome) in execution.outcomes.iter().enumerate() {
        let TxOutcome::Included { gas_used, receipt, .. } = outcome else {
            let outcome = Box::new(outcome.clone());
            problems.push(ReplayProblem::LeftOut { index, outcome });
            continue;
        };
        let (expected, got) = (block.results.get(index).copied(), (*gas_used, receipt.success));
        if expected != Some(got) {
            problems.push(ReplayProblem::Result { index, expected, got });
        }
    }
    let output = &execution.output;
    if output.gas_used != block.gas_used {
        problems.push(ReplayProblem::Gas { expected: block.gas_used, got: output.gas_used });
    }
    if let Some(expected) = block.receipts_root
        && output.receipts_root() != expected
    {
        problems.push(ReplayProblem::ReceiptsRoot { expected, got: output.receipts_root() });
    }
    if output.logs_bloom != block.logs_bloom {
        let (expected, got) = (Box::new(block.logs_bloom), Box::new(output.logs_bloom));
        problems.push(ReplayProblem::LogsBloom { expected, got });
    }
    let mut after = MemoryState::clone(&block.state);
    after.apply(&output.diff);
    let expected = expected_state(block)?;
    let touched = output.diff.accounts.keys().copied();
    let differing = differing(&block.state, &expected, &after, touched)?;
    problems.extend(differing.map(|address| ReplayProblem::State { address }));
    Ok(problems)
}

/// The state before the block with the file's changes.
fn expected_state(block: &Fixture) -> Result<MemoryState, StateReadError> {
    let mut state = MemoryState::clone(&block.state);
    for (address, change) in &block.changes {
        if change.as_ref().is_none_or(|change| change.storage_cleared) {
            for (slot, _) in block.state.slots(*address) {
                state.set_slot(*address, slot, Default::default());
            }
        }
        let Some(change) = change else {
            state.set_account(*address, None);
            continue;
        };
        let mut account = state.account(*address)?.unwrap_or_default();
        account.balance = change.balance.unwrap_or(account.balance);
        account.nonce = change.nonce.map_or(account.nonce, |nonce| nonce.to());
        account.code_hash = change.code_hash.unwrap_or(account.code_hash);
        state.set_account(*address, Some(account));
        for (slot, value) in &change.storage {
            state.set_slot(*address, *slot, *value);
        }
    }
    Ok(state)
}

/// The first account that is not the same in both, its storage and the presence of new code included.
fn differing(
    before: &MemoryState,
    expected: &MemoryState,
    got: &MemoryState,
    touched: impl Iterator<Item = Address>,
) -> Result<Option<Address>, StateReadError> {
    let accounts = expected.accounts().chain(got.accounts()).map(|(address, _)| address);
    let mut addresses: Vec<_> = accounts.chain(touched).collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        let account = got.account(address)?;
        let storage = |state: &MemoryState| {
            let mut slots: Vec<_> = state.slots(address).collect();
            slots.sort_unstable();
            slots
        };
        // A file holds only those codes that the block reads, so the new ones alone must be there.
        let code = account.map(|account| account.code_hash);
        let old = before.account(address)?.map(|account| account.code_hash);
        let has_code = match code.filter(|hash| *hash != KECCAK256_EMPTY && code != old) {
            Some(hash) => got.code(hash)?.is_some(),
            None => true,
        };
        if account != expected.account(address)? || storage(expected) != storage(got) || !has_code {
            return Ok(Some(address));
        }
    }
    Ok(None)
}
