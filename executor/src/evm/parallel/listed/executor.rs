//! The executor of blocks whose access list is known.

use std::{fmt, mem, sync::Arc};

use alloy::eips::{
    eip7685::Requests,
    eip7928::{AccountChanges, BlockAccessList, validate_block_access_list},
};
use alloy_primitives::{B256, U256, keccak256};
use millrace_proto::{AccountDiff, RecoveredTx, SlotDiff, StateDiff, TxOutcome};
use revm::primitives::hardfork::SpecId;

use super::{
    AccessListError,
    check::Marks,
    index::Listed,
    task::{Task, not_includable},
    view::{ListedState, ListedView},
};
use crate::evm::{
    BlockExecutor, BlockOutput, BlockPlan, CodeCache, EvmEnv, ExecutionError, StateReadError,
    StateReader, diff,
    parallel::{WorkerPool, lane_cache::LaneCache, view::SharedReader},
    system,
    tally::{Entry, Tally},
};

/// Executes a whole block whose access list is known (EIP-7928), and checks that the list is that of the block.
///
/// Its transactions are executed in any order, and do not wait for each other.
pub struct ListedExecutor {
    listed: Arc<Listed>,
    env: EvmEnv,
    codes: Arc<CodeCache>,
    pool: Arc<WorkerPool>,
    transactions: Arc<[Arc<RecoveredTx>]>,
    tally: Tally,
    marks: Marks,
    requests: Requests,
    executed: bool,
}

impl ListedExecutor {
    /// Opens a planned block on top of the state that `reader` gives, which must be that after the block's parent.
    ///
    /// # Errors
    /// When the list is malformed, or is not that of the system calls at the block's start (EIP-2935, EIP-4788).
    pub fn open(
        plan: &BlockPlan,
        reader: SharedReader,
        codes: Arc<CodeCache>,
        pool: Arc<WorkerPool>,
        transactions: Arc<[Arc<RecoveredTx>]>,
        list: Arc<BlockAccessList>,
    ) -> Result<Self, AccessListError> {
        let env = plan.env().clone();
        let mut block = Self::with_env(env, reader, codes, pool, transactions, list)?;
        block.system(0, |calls| system::at_start(calls, plan.into()))?;
        Ok(block)
    }

    /// Opens a block without a plan, and without the system calls at its start.
    ///
    /// # Errors
    /// When the list is malformed, or the block's rules are from before EIP-161.
    pub fn with_env(
        env: EvmEnv,
        reader: SharedReader,
        codes: Arc<CodeCache>,
        pool: Arc<WorkerPool>,
        transactions: Arc<[Arc<RecoveredTx>]>,
        list: Arc<BlockAccessList>,
    ) -> Result<Self, AccessListError> {
        validate_block_access_list(&list, transactions.len())?;
        if !env.cfg.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON) {
            return Err(AccessListError::Unsupported);
        }
        let listed = Listed::new(list, &env, reader, codes.clone());
        Ok(Self {
            marks: Marks::new(&listed),
            listed: Arc::new(listed),
            env,
            codes,
            pool,
            transactions,
            tally: Tally::default(),
            requests: Requests::default(),
            executed: false,
        })
    }

    /// Gas used so far.
    pub const fn gas_used(&self) -> u64 {
        self.tally.gas_used
    }

    /// Executes the block's transactions and what follows them: an outcome for each, in order.
    ///
    /// # Errors
    /// When the list is not that of the block, a transaction cannot be in it, or the state cannot be read.
    pub fn execute(&mut self) -> Result<Vec<TxOutcome>, AccessListError> {
        let (listed, env) = (self.listed.clone(), self.env.clone());
        let task = Task::new(listed, env, self.transactions.clone(), self.pool.disturbance());
        let task = Arc::new(task);
        if self.transactions.len() > 1 {
            self.pool.post(task.clone());
        }
        self.pool.keep_cache(task.work(self.pool.cache()));
        let (executed, marks) = task.finish()?;
        marks.into_iter().for_each(|marks| self.marks.merge(marks));

        let mut outcomes = Vec::with_capacity(executed.len());
        for (tx, executed) in self.transactions.iter().zip(executed) {
            if let Entry::Refused(outcome) = self.tally.enter(&self.env, tx)? {
                return Err(not_includable(tx, outcome));
            }
            let (success, gas_used) = (executed.success, executed.gas_used);
            outcomes.push(self.tally.include(tx, success, gas_used, executed.logs));
        }
        let end = self.transactions.len() as u32 + 1;
        self.requests = self.system(end, system::at_end)?;
        self.marks.complete(&self.listed)?;
        self.executed = true;
        Ok(outcomes)
    }

    /// Closes the block, which was executed.
    ///
    /// # Errors
    /// When it was not executed, or that failed; or the state cannot be read.
    pub fn finish(mut self) -> Result<BlockOutput, AccessListError> {
        if !self.executed {
            return Err(AccessListError::NotExecuted);
        }
        let diff = self.diff()?;
        let tally = mem::take(&mut self.tally);
        let requests = mem::take(&mut self.requests);
        let list = self.env.access_list.then(|| (*self.listed.list).clone());
        Ok(BlockOutput::new(tally, diff, requests, list))
    }

    /// Makes the system's calls at the block's start or end, and checks what they read and change.
    fn system<T>(
        &mut self,
        index: u32,
        calls: impl FnOnce(&mut BlockExecutor<ListedState>) -> Result<T, ExecutionError>,
    ) -> Result<T, AccessListError> {
        let state = ListedState { listed: self.listed.clone(), index };
        let env = self.env.clone().with_access_list(true);
        let tally = mem::take(&mut self.tally);
        let mut block = BlockExecutor::resume(env, state, self.codes.clone(), tally);
        let value = calls(&mut block)?;
        let (tally, list) = block.into_parts();
        self.tally = tally;
        let mut view = ListedView::new(self.listed.clone(), LaneCache::default());
        view.begin(index);
        for account in list.iter().flatten() {
            view.check_changes(account)?;
        }
        self.marks.merge(view.marks);
        Ok(value)
    }

    /// What the block changes, as the list says it.
    fn diff(&self) -> Result<StateDiff, StateReadError> {
        let listed = &*self.listed;
        let mut diff = StateDiff::default();
        for (number, changes) in listed.list.iter().enumerate() {
            if changes.has_changes() {
                let account = self.account_diff(number as u32, changes)?;
                let code = |hash| listed.changed_code(hash).cloned();
                diff::add(&mut diff, changes.address, account, &*listed.reader, code)?;
            }
        }
        Ok(diff)
    }

    fn account_diff(
        &self,
        number: u32,
        changes: &AccountChanges,
    ) -> Result<AccountDiff, StateReadError> {
        let listed = &*self.listed;
        let before = listed.reader.account(changes.address)?;
        let after = listed.account_before(number, u32::MAX)?;
        let mut diff = AccountDiff { before, after, ..AccountDiff::default() };
        for (slot, after) in changes.storage_post_states() {
            let before = match before {
                Some(_) => listed.reader.storage(changes.address, slot)?,
                None => U256::ZERO,
            };
            if before != after {
                diff.storage.insert(B256::from(slot), SlotDiff { before, after });
            }
        }
        Ok(diff)
    }
}

impl ListedView {
    /// Checks what system calls read and change, by the access list that was made of it.
    fn check_changes(&mut self, changes: &AccountChanges) -> Result<(), AccessListError> {
        let address = changes.address;
        let account = self.account(address)?;
        self.marks.see(account);
        for change in &changes.balance_changes {
            self.expect_balance(account, change.post_balance)?;
        }
        for change in &changes.nonce_changes {
            self.expect_nonce(account, change.new_nonce)?;
        }
        for change in &changes.code_changes {
            self.expect_code(account, keccak256(&change.new_code))?;
        }
        for slot in &changes.storage_changes {
            for change in &slot.changes {
                self.check_slot(address, account, slot.slot, change.new_value)?;
            }
        }
        for slot in &changes.storage_reads {
            self.check_read(address, account, *slot)?;
        }
        Ok(())
    }
}

impl Drop for ListedExecutor {
    fn drop(&mut self) {
        self.pool.release();
    }
}

impl fmt::Debug for ListedExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedExecutor")
            .field("number", &self.env.block.number)
            .field("transactions", &self.transactions.len())
            .field("gas_used", &self.gas_used())
            .finish_non_exhaustive()
    }
}
