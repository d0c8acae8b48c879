//! A block that is executed in parallel, and in order should that fail.

use std::{fmt, sync::Arc};

use millrace_proto::{RecoveredTx, SharedReceipt, StateDiff, TxOutcome};
use tracing::error;

use super::{
    BlockExecutor, BlockOutput, BlockPlan, CodeCache, ExecutionError, ForcedCount, ListTries,
    ParallelExecutor, ParallelStats, SharedReader, WorkerPool,
};

/// Builds one block with the parallel executor. When one of its threads panics, the block is executed again in order as far as it
/// was, and goes on so; a panic there is the caller's.
pub struct BlockBuilder {
    plan: BlockPlan,
    reader: SharedReader,
    codes: Arc<CodeCache>,
    execution: Execution,
    forced: ForcedCount,
    /// What outcomes were given for: the same again when the execution starts anew.
    included: Vec<Arc<RecoveredTx>>,
    noted: Noted,
    lists: ListTries,
}

enum Execution {
    Parallel(Box<ParallelExecutor>),
    InOrder(Box<BlockExecutor<SharedReader>>),
}

/// Whether changes are noted.
#[derive(Default)]
enum Noted {
    #[default]
    Not,
    /// By the parallel executor, which knows what it told.
    InParallel,
    /// What was told of a block that is executed in order.
    Told(Box<StateDiff>),
}

impl BlockBuilder {
    /// Opens a planned block on top of the state that `reader` gives, which must be that after the block's parent.
    ///
    /// # Errors
    /// When the system calls at the block's start cannot be made.
    pub fn open(
        plan: BlockPlan,
        reader: SharedReader,
        codes: Arc<CodeCache>,
        pool: Arc<WorkerPool>,
    ) -> Result<Self, ExecutionError> {
        let parallel = ParallelExecutor::open(&plan, reader.clone(), codes.clone(), pool)?;
        let execution = Execution::Parallel(Box::new(parallel));
        let forced = plan.forced();
        let (included, noted, lists) = (Vec::new(), Noted::default(), ListTries::default());
        Ok(Self { plan, reader, codes, execution, forced, included, noted, lists })
    }

    /// What is built.
    pub const fn plan(&self) -> &BlockPlan {
        &self.plan
    }

    /// The transactions that are in the block so far, and their receipts.
    pub fn held(&self) -> (&[Arc<RecoveredTx>], &[SharedReceipt]) {
        match &self.execution {
            Execution::Parallel(parallel) => parallel.held(),
            Execution::InOrder(executor) => executor.held(),
        }
    }

    /// How the work was done so far; `None` if it is done in order after a panic.
    pub fn stats(&self) -> Option<ParallelStats> {
        match &self.execution {
            Execution::Parallel(parallel) => Some(parallel.stats()),
            Execution::InOrder(_) => None,
        }
    }

    /// Executes the next transactions: an outcome for each, in order.
    ///
    /// # Errors
    /// As [`BlockExecutor::execute`].
    pub fn execute(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
    ) -> Result<Vec<TxOutcome>, ExecutionError> {
        let transactions: Arc<[_]> = transactions.into();
        let outcomes = match &mut self.execution {
            Execution::Parallel(parallel) => match parallel.execute(transactions.clone()) {
                Err(ExecutionError::Panicked) => {
                    let number = self.plan.attributes().number;
                    error!(target: "millrace::executor", number, "a thread panicked; the block is executed in order");
                    let executor = self.start_in_order()?;
                    if let Noted::InParallel = self.noted {
                        // As far as it was told.
                        self.noted = Noted::Told(Box::new(executor.diff()?));
                    }
                    self.execution = Execution::InOrder(Box::new(executor));
                    self.lists = ListTries::default();
                    return self.execute(transactions.to_vec());
                }
                outcomes => outcomes?,
            },
            Execution::InOrder(executor) => {
                transactions.iter().map(|tx| executor.execute(tx)).collect::<Result<_, _>>()?
            }
        };
        for (tx, outcome) in transactions.iter().zip(&outcomes) {
            self.forced.note(tx, outcome);
        }
        let included = (transactions.iter().zip(&outcomes))
            .filter(|(_, outcome)| matches!(outcome, TxOutcome::Included { .. }));
        self.included.extend(included.map(|(tx, _)| tx.clone()));
        Ok(outcomes)
    }

    /// What the block changed since this was asked last, or since it was opened; asked after each stretch of transactions, what that stretch changed. What changes is
    /// noted from the first time on; before that, it costs nothing.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn changes(&mut self) -> Result<StateDiff, ExecutionError> {
        match &mut self.execution {
            Execution::Parallel(parallel) => {
                self.noted = Noted::InParallel;
                parallel.changes()
            }
            Execution::InOrder(executor) => {
                let diff = executor.diff()?;
                let changes = match &self.noted {
                    Noted::Told(told) => diff.since(told),
                    Noted::Not | Noted::InParallel => diff.clone(),
                };
                self.noted = Noted::Told(Box::new(diff));
                Ok(changes)
            }
        }
    }

    /// Does what can be done already of the roots of transactions and receipts, so that less is left when the block is closed.
    pub fn hash_ahead(&mut self) {
        let tally = match &mut self.execution {
            Execution::Parallel(parallel) => parallel.tally(),
            Execution::InOrder(executor) => Some(executor.tally()),
        };
        if let Some(tally) = tally {
            self.lists.grow(tally);
        }
    }

    /// Closes the block.
    ///
    /// # Errors
    /// When the state cannot be read, or a system call at the block's end fails.
    pub fn finish(self) -> Result<(BlockPlan, BlockOutput, ListTries), ExecutionError> {
        let mut output = match self.execution {
            Execution::Parallel(parallel) => parallel.finish()?,
            Execution::InOrder(executor) => executor.finish()?,
        };
        output.forced = self.forced.included();
        Ok((self.plan, output, self.lists))
    }

    fn start_in_order(&self) -> Result<BlockExecutor<SharedReader>, ExecutionError> {
        let mut executor =
            BlockExecutor::open(&self.plan, self.reader.clone(), self.codes.clone())?;
        for tx in &self.included {
            if !matches!(executor.execute(tx)?, TxOutcome::Included { .. }) {
                // Its outcome was given, so that the block cannot go on without it.
                return Err(ExecutionError::Panicked);
            }
        }
        Ok(executor)
    }
}

impl fmt::Debug for BlockBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockBuilder")
            .field("number", &self.plan.attributes().number)
            .field("included", &self.included.len())
            .finish_non_exhaustive()
    }
}
