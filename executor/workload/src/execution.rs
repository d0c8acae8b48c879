//! One block executed: in order, on threads, and how the two differ.

use std::sync::Arc;

use alloy::eips::eip7928::BlockAccessList;
use alloy_primitives::Address;
use millrace_executor::{
    AccessListError, BlockExecutor, BlockOutput, CodeCache, EvmEnv, ExecutionError, ListedExecutor,
    MemoryState, ParallelExecutor, ParallelStats, WorkerPool,
};
use millrace_proto::{AccountDiff, RecoveredTx, StateDiff, TxOutcome};

use crate::Block;

/// What executing a block gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// An outcome a transaction.
    pub outcomes: Vec<TxOutcome>,
    /// The block.
    pub output: BlockOutput,
}

/// A block to execute on, again and again.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Rules and block fields.
    pub env: EvmEnv,
    /// The state before.
    pub state: Arc<MemoryState>,
    /// Analysed code.
    pub codes: Arc<CodeCache>,
}

/// Where two executions of the same transactions part.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Difference {
    /// A transaction ends in another way.
    #[error("transaction {index} should be {expected:?}, and is {got:?}")]
    Outcome {
        /// Its index in what was executed.
        index: usize,
        /// As the first execution has it; `None`: not at all.
        expected: Option<Box<TxOutcome>>,
        /// As the second has it.
        got: Option<Box<TxOutcome>>,
    },
    /// An account changes in another way.
    #[error("account {address} should change so: {expected:?}, and does so: {got:?}")]
    Account {
        /// Which.
        address: Address,
        /// As the first execution has it; `None`: it does not change.
        expected: Option<Box<AccountDiff>>,
        /// As the second has it.
        got: Option<Box<AccountDiff>>,
    },
    /// A part of the block is another.
    #[error("the block's {0} differ")]
    Part(&'static str),
}

impl Ground {
    /// Of a block, with no code analysed yet.
    pub fn of(block: &Block) -> Self {
        Self { env: block.env.clone(), state: block.state.clone(), codes: Arc::default() }
    }

    /// Executes one transaction after the other.
    ///
    /// # Errors
    /// When execution itself fails.
    pub fn in_order(&self, transactions: &[Arc<RecoveredTx>]) -> Result<Execution, ExecutionError> {
        let mut block =
            BlockExecutor::with_env(self.env.clone(), self.state.clone(), self.codes.clone());
        let outcomes = transactions.iter().map(|tx| block.execute(tx)).collect::<Result<_, _>>()?;
        Ok(Execution { outcomes, output: block.finish()? })
    }

    /// Executes on the threads of a pool, the transactions handed over in the given stretches.
    ///
    /// # Errors
    /// When execution itself fails.
    pub fn in_parallel(
        &self,
        stretches: &[Arc<[Arc<RecoveredTx>]>],
        pool: &Arc<WorkerPool>,
    ) -> Result<(Execution, ParallelStats), ExecutionError> {
        let mut block = ParallelExecutor::with_env(
            self.env.clone(),
            self.state.clone(),
            self.codes.clone(),
            pool.clone(),
        );
        let mut outcomes = Vec::new();
        for stretch in stretches {
            outcomes.extend(block.execute(stretch.clone())?);
        }
        let stats = block.stats();
        Ok((Execution { outcomes, output: block.finish()? }, stats))
    }

    /// The same, and takes what each stretch changed, from the `first` of them on. Gives what they changed together, or the account in which one does not follow the
    /// one before.
    ///
    /// # Errors
    /// When execution itself fails.
    pub fn in_frames(
        &self,
        stretches: &[Arc<[Arc<RecoveredTx>]>],
        first: usize,
        pool: &Arc<WorkerPool>,
    ) -> Result<(Execution, Result<StateDiff, Address>), ExecutionError> {
        let mut block = ParallelExecutor::with_env(
            self.env.clone(),
            self.state.clone(),
            self.codes.clone(),
            pool.clone(),
        );
        let (mut outcomes, mut total) = (Vec::new(), Ok(StateDiff::default()));
        for (number, stretch) in stretches.iter().enumerate() {
            outcomes.extend(block.execute(stretch.clone())?);
            if number >= first {
                let diff = block.changes()?;
                total = total.and_then(|mut total| total.extend(diff).map(|()| total));
            }
        }
        let last = block.changes()?;
        let output = block.finish()?;
        let total = total.and_then(|mut total| total.extend(last).map(|()| total.net()));
        Ok((Execution { outcomes, output }, total))
    }

    /// Executes a block of which the access list is known.
    ///
    /// # Errors
    /// When the list is not that of the block.
    pub fn by_list(
        &self,
        transactions: Arc<[Arc<RecoveredTx>]>,
        list: Arc<BlockAccessList>,
        pool: &Arc<WorkerPool>,
    ) -> Result<Execution, AccessListError> {
        let (env, state, codes) = (self.env.clone(), self.state.clone(), self.codes.clone());
        let mut block =
            ListedExecutor::with_env(env, state, codes, pool.clone(), transactions, list)?;
        Ok(Execution { outcomes: block.execute()?, output: block.finish()? })
    }

    /// The same, where blocks are executed with their access list or without.
    #[must_use]
    pub fn with_list(mut self, list: bool) -> Self {
        self.env = self.env.with_access_list(list);
        self
    }
}

impl Execution {
    /// Without what is not in the block.
    #[must_use]
    pub fn included(mut self) -> Self {
        self.outcomes.retain(|outcome| matches!(outcome, TxOutcome::Included { .. }));
        self
    }

    /// Without the access list.
    #[must_use]
    pub fn without_list(mut self) -> Self {
        self.output.access_list = None;
        self
    }

    /// Where `other` parts from this one, if anywhere.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        if self == other {
            return None;
        }
        let count = self.outcomes.len().max(other.outcomes.len());
        for index in 0..count {
            let (expected, got) = (self.outcomes.get(index), other.outcomes.get(index));
            if expected != got {
                let boxed = |outcome: Option<&TxOutcome>| outcome.cloned().map(Box::new);
                let (expected, got) = (boxed(expected), boxed(got));
                return Some(Difference::Outcome { index, expected, got });
            }
        }
        let (a, b) = (&self.output, &other.output);
        if let Some(difference) = diff_difference(&a.diff, &b.diff) {
            return Some(difference);
        }
        let parts = [
            ("new codes", a.diff.code != b.diff.code),
            ("transactions", a.transactions != b.transactions),
            ("receipts", a.receipts != b.receipts),
            ("gas counts", a.gas_used != b.gas_used),
            ("blob gas counts", a.blob_gas_used != b.blob_gas_used),
            ("logs blooms", a.logs_bloom != b.logs_bloom),
            ("receipts roots", a.receipts_root() != b.receipts_root()),
            ("requests", a.requests != b.requests),
            ("access lists", a.access_list != b.access_list),
        ];
        let part = parts.into_iter().find_map(|(part, differs)| differs.then_some(part));
        Some(Difference::Part(part.unwrap_or("outputs")))
    }
}

fn diff_difference(a: &StateDiff, b: &StateDiff) -> Option<Difference> {
    a.accounts.keys().chain(b.accounts.keys()).find_map(|address| {
        let (expected, got) = (a.accounts.get(address), b.accounts.get(address));
        let boxed = |account: Option<&AccountDiff>| account.cloned().map(Box::new);
        (expected != got).then(|| Difference::Account {
            address: *address,
            expected: boxed(expected),
            got: boxed(got),
        })
    })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use millrace_executor::MemoryState;
    use revm::{context::BlockEnv, primitives::hardfork::SpecId};

    use super::*;

    #[test]
    fn every_part_of_an_execution_counts() {
        let env = EvmEnv::ethereum(SpecId::CANCUN, 1, BlockEnv::default());
        let state = Arc::new(MemoryState::default());
        let ground = Ground { env, state, codes: Arc::default() };
        let execution = ground.in_order(&[]).expect("an empty block executes");
        assert_eq!(execution.difference(&execution), None);

        let mut other = execution.clone();
        other.outcomes.push(TxOutcome::NoRoom);
        assert!(matches!(
            execution.difference(&other),
            Some(Difference::Outcome { index: 0, expected: None, got: Some(_) })
        ));
        let mut other = execution.clone();
        let changed = AccountDiff {
            storage: [(
                Default::default(),
                millrace_proto::SlotDiff { before: U256::ZERO, after: U256::ONE },
            )]
            .into(),
            ..AccountDiff::default()
        };
        other.output.diff.accounts.insert(Address::ZERO, changed);
        assert!(matches!(
            execution.difference(&other),
            Some(Difference::Account { address: Address::ZERO, expected: None, .. })
        ));
        let mut other = execution.clone();
        other.output.gas_used += 1;
        assert_eq!(execution.difference(&other), Some(Difference::Part("gas counts")));
    }
}
