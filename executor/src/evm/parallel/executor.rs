//! The parallel block executor.

use std::{fmt, sync::Arc};

use millrace_proto::{RecoveredTx, SharedReceipt, StateDiff, TxOutcome};

use super::{
    ParallelStats, WorkProfile, WorkerPool, diff,
    front::{Front, FrontCalls, Prepared},
    lane::Lane,
    pool, profile,
    schedule::Role,
    stretch::Stretch,
    view::{Shared, SharedReader},
};
use crate::evm::{BlockOutput, BlockPlan, CodeCache, EvmEnv, ExecutionError, system, tally::Tally};

/// Executes the transactions of one block on several threads, with the result of executing one after the other.
///
/// After an error the block is of no use any more: drop it.
pub struct ParallelExecutor {
    shared: Arc<Shared>,
    pool: Arc<WorkerPool>,
    /// The asking thread's.
    lane: Lane,
    /// `None` after an error.
    front: Option<Front>,
}

impl ParallelExecutor {
    /// Opens a planned block on top of the state that `reader` gives, which must be that after the block's parent.
    ///
    /// # Errors
    /// When the system calls at the block's start (EIP-2935, EIP-4788) cannot be made.
    pub fn open(
        plan: &BlockPlan,
        reader: SharedReader,
        codes: Arc<CodeCache>,
        pool: Arc<WorkerPool>,
    ) -> Result<Self, ExecutionError> {
        let mut block = Self::with_env(plan.env().clone(), reader, codes, pool);
        let Self { front, lane, .. } = &mut block;
        let front = front.as_mut().ok_or(ExecutionError::Panicked)?;
        system::at_start(&mut FrontCalls { front, lane }, plan.into())?;
        Ok(block)
    }

    /// Opens a block without a plan, and without the system calls at its start: for state tests, and for blocks whose
    /// header is given.
    pub fn with_env(
        env: EvmEnv,
        reader: SharedReader,
        codes: Arc<CodeCache>,
        pool: Arc<WorkerPool>,
    ) -> Self {
        use revm::primitives::hardfork::SpecId;
        let removes_empty = env.cfg.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        let (memory, precompiles) = (pool.memory(), pool.precompiles());
        let shared = Arc::new(Shared { env, memory, reader, codes, precompiles, removes_empty });
        Self {
            lane: Lane::new(shared.clone(), pool.cache()),
            front: Some(Front::new(shared.clone(), pool.gauge(), pool.hints())),
            pool,
            shared,
        }
    }

    /// The block's environment.
    pub fn env(&self) -> &EvmEnv {
        &self.shared.env
    }

    /// Gas used so far.
    pub fn gas_used(&self) -> u64 {
        self.front.as_ref().map_or(0, |front| front.tally.gas_used)
    }

    /// How the work was done so far.
    pub fn stats(&self) -> ParallelStats {
        self.front.as_ref().map_or_else(ParallelStats::default, |front| front.stats)
    }

    /// Executes the next transactions: an outcome for each, in order.
    ///
    /// # Errors
    /// [`ExecutionError::NotIncludable`] for a deposit after an ordinary transaction; [`ExecutionError::Panicked`] when a thread
    /// panicked, or an earlier call failed; otherwise when the state cannot be read.
    pub fn execute(
        &mut self,
        transactions: Arc<[Arc<RecoveredTx>]>,
    ) -> Result<Vec<TxOutcome>, ExecutionError> {
        let mut front = self.front.take().ok_or(ExecutionError::Panicked)?;
        if self.pool.threads() == 1 || transactions.len() < 2 {
            let mut outcomes = Vec::with_capacity(transactions.len());
            for tx in transactions.iter() {
                outcomes.push(front.step(&mut self.lane, tx, Prepared::Nothing)?.0);
            }
            self.front = Some(front);
            return Ok(outcomes);
        }
        let disturbance = self.pool.disturbance();
        let stretch = Stretch::new(self.shared.clone(), front, transactions, disturbance);
        let stretch = Arc::new(stretch);
        self.pool.post(stretch.clone());
        pool::run_on(&stretch, &mut self.lane, Role::Asks);
        let (front, outcomes) = stretch.finish()?;
        self.front = Some(front);
        Ok(outcomes)
    }

    /// The transactions that are in the block so far, and their receipts; none after an error.
    pub fn held(&self) -> (&[Arc<RecoveredTx>], &[SharedReceipt]) {
        let tally = self.front.as_ref().map(|front| &front.tally);
        tally.map_or((&[], &[]), |tally| (&tally.transactions, &tally.receipts))
    }

    /// The same, to be hashed; nothing after an error.
    pub(in crate::evm) fn tally(&mut self) -> Option<&mut Tally> {
        self.front.as_mut().map(|front| &mut front.tally)
    }

    /// What the block changed since this was asked last, or since it was opened. What changes is noted from the first time on; before that, it costs nothing.
    ///
    /// # Errors
    /// [`ExecutionError::Panicked`] when an earlier call failed; otherwise when the state cannot be read.
    pub fn changes(&mut self) -> Result<StateDiff, ExecutionError> {
        let front = self.front.as_mut().ok_or(ExecutionError::Panicked)?;
        Ok(front.changes()?)
    }

    /// Executes transactions on this thread, and tells how much of them could be executed at the same time.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn profile(
        &mut self,
        transactions: &[Arc<RecoveredTx>],
    ) -> Result<WorkProfile, ExecutionError> {
        let mut front = self.front.take().ok_or(ExecutionError::Panicked)?;
        let profile = profile::profile(&mut front, &mut self.lane, transactions)?;
        self.front = Some(front);
        Ok(profile)
    }

    /// Closes the block.
    ///
    /// # Errors
    /// When the state cannot be read, or a system call at the block's end fails.
    pub fn finish(mut self) -> Result<BlockOutput, ExecutionError> {
        let Self { front, lane, shared, .. } = &mut self;
        let front = front.as_mut().ok_or(ExecutionError::Panicked)?;
        front.turn();
        let requests = system::at_end(&mut FrontCalls { front, lane })?;
        front.settle()?;
        let diff = diff::of(shared)?;
        let access_list = front.access_list()?;
        Ok(BlockOutput::new(std::mem::take(&mut front.tally), diff, requests, access_list))
    }
}

impl Drop for ParallelExecutor {
    fn drop(&mut self) {
        // Without a front a stretch has failed, and a thread may still be at it.
        if let Some(front) = &mut self.front {
            self.pool.keep_gauge(front.gauge);
            self.pool.keep_hints(std::mem::take(&mut front.hints));
            self.pool.reuse(self.shared.memory.clone());
        }
        self.pool.keep_cache(self.lane.take_cache());
        self.pool.release();
    }
}

impl fmt::Debug for ParallelExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelExecutor")
            .field("number", &self.shared.env.block.number)
            .field("threads", &self.pool.threads())
            .field("gas_used", &self.gas_used())
            .finish_non_exhaustive()
    }
}
