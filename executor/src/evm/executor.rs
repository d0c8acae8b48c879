//! The sequential block executor.

use std::{fmt, sync::Arc};

use alloy::eips::eip7928::BlockAccessList;
use alloy_primitives::{Address, Bytes, U256};
use millrace_proto::{RecoveredTx, SharedReceipt, StateDiff, TxDeposit, TxOutcome};
use revm::{
    Database, ExecuteEvm, MainBuilder, SystemCallEvm,
    context::{
        Journal,
        result::{EVMError, ExecutionResult},
    },
    handler::{Handler, MainnetContext},
    state::EvmState,
};

use super::{
    BlockOutput, BlockPlan, CodeCache, EvmEnv, ExecutionError, StateReadError, StateReader,
    access_list::AccessListBuilder,
    block_state::BlockState,
    handler::{BlockEvm, DepositHandler, TxHandler},
    hashes::keep_hashes,
    reject::reject_reason,
    system::{self, SystemCalls},
    tally::{Entry, Tally},
    tx::{deposit_env, tx_env},
};

/// Executes the transactions of one block, one after the other.
///
/// After an error the block is of no use any more: drop it.
pub struct BlockExecutor<R: StateReader> {
    env: EvmEnv,
    evm: BlockEvm<R>,
    handler: TxHandler<BlockState<R>>,
    tally: Tally,
    /// `None` unless it is asked for.
    accesses: Option<Box<AccessListBuilder>>,
}

impl<R: StateReader> BlockExecutor<R> {
    /// Opens a planned block on top of the state that `reader` gives, which must be that after the block's parent.
    ///
    /// # Errors
    /// When the system calls at the block's start (EIP-2935, EIP-4788) cannot be made.
    pub fn open(
        plan: &BlockPlan,
        reader: R,
        codes: Arc<CodeCache>,
    ) -> Result<Self, ExecutionError> {
        let mut block = Self::with_env(plan.env().clone(), reader, codes);
        system::at_start(&mut block, plan.into())?;
        Ok(block)
    }

    /// Opens a block without a plan, and without the system calls at its start: for state tests, and for blocks whose
    /// header is given.
    pub fn with_env(env: EvmEnv, reader: R, codes: Arc<CodeCache>) -> Self {
        Self {
            evm: build_evm(&env, reader, codes),
            handler: TxHandler::new(env.rollup),
            accesses: env.access_list.then(Box::default),
            env,
            tally: Tally::default(),
        }
    }

    /// Goes on with a block that holds transactions already.
    pub(super) fn resume(env: EvmEnv, reader: R, codes: Arc<CodeCache>, tally: Tally) -> Self {
        Self { tally, ..Self::with_env(env, reader, codes) }
    }

    /// What it holds, and its access list if that was asked for.
    pub(super) fn into_parts(self) -> (Tally, Option<BlockAccessList>) {
        (self.tally, self.accesses.map(|accesses| accesses.finish()))
    }

    /// The block's environment.
    pub const fn env(&self) -> &EvmEnv {
        &self.env
    }

    /// Gas used so far.
    pub const fn gas_used(&self) -> u64 {
        self.tally.gas_used
    }

    /// Executes the next transaction.
    ///
    /// # Errors
    /// [`ExecutionError::NotIncludable`] for a deposit after an ordinary transaction; otherwise when the state cannot be read.
    pub fn execute(&mut self, tx: &Arc<RecoveredTx>) -> Result<TxOutcome, ExecutionError> {
        match self.tally.enter(&self.env, tx)? {
            Entry::Refused(outcome) => return Ok(outcome),
            Entry::Deposit(deposit) => return self.execute_deposit(tx, deposit),
            Entry::Ordinary => {}
        }
        self.turn();
        self.evm.ctx.tx = tx_env(tx);
        match self.handler.run(&mut self.evm) {
            Ok(result) => {
                self.commit(false)?;
                Ok(self.include(tx, result))
            }
            Err(EVMError::Transaction(invalid)) => {
                self.discard();
                Ok(TxOutcome::Invalid(reject_reason(invalid, &self.evm.ctx.tx, &self.env)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The transactions that are in the block so far, and their receipts.
    pub fn held(&self) -> (&[Arc<RecoveredTx>], &[SharedReceipt]) {
        (&self.tally.transactions, &self.tally.receipts)
    }

    /// The same, to be hashed.
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What the block changed so far.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn diff(&self) -> Result<StateDiff, ExecutionError> {
        Ok(self.evm.ctx.journaled_state.database.diff()?)
    }

    /// Closes the block.
    ///
    /// # Errors
    /// When the state cannot be read, or a system call at the block's end fails.
    pub fn finish(mut self) -> Result<BlockOutput, ExecutionError> {
        self.turn();
        let requests = system::at_end(&mut self)?;
        let diff = self.evm.ctx.journaled_state.database.diff()?;
        let access_list = self.accesses.map(|accesses| accesses.finish());
        Ok(BlockOutput::new(self.tally, diff, requests, access_list))
    }

    fn execute_deposit(
        &mut self,
        tx: &Arc<RecoveredTx>,
        deposit: &TxDeposit,
    ) -> Result<TxOutcome, ExecutionError> {
        self.turn();
        let mint = U256::from(deposit.mint);
        self.evm.ctx.tx = deposit_env(deposit);
        match DepositHandler::new(mint).run(&mut self.evm) {
            Ok(result) => {
                self.commit(false)?;
                Ok(self.include(tx, result))
            }
            // Only the gas limit can be too low for the call to start: all of it is used then.
            Err(EVMError::Transaction(_)) => {
                self.discard();
                let database = &mut self.evm.ctx.journaled_state.database;
                let account = database.mint_and_bump(deposit.from, mint)?;
                if let Some(accesses) = &mut self.accesses {
                    accesses.mint_and_bump(deposit.from, account);
                }
                Ok(self.tally.include(tx, false, deposit.gas_limit, Vec::new()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn include(&mut self, tx: &Arc<RecoveredTx>, result: ExecutionResult) -> TxOutcome {
        self.tally.include(tx, result.is_success(), result.tx_gas_used(), result.into_logs())
    }

    /// What is committed now belongs to the transaction after those that are included, or to the block's end.
    fn turn(&mut self) {
        if let Some(accesses) = &mut self.accesses {
            accesses.after(self.tally.transactions.len());
        }
    }

    /// Commits a transaction, or a call of the system.
    fn commit(&mut self, system: bool) -> Result<(), StateReadError> {
        let mut state = self.evm.finalize();
        let database = &mut self.evm.ctx.journaled_state.database;
        if let Some(accesses) = &mut self.accesses {
            accesses.add(&state, database, system)?;
        }
        database.commit(&mut state)?;
        reuse(&mut self.evm.ctx.journaled_state, state);
        Ok(())
    }

    fn discard(&mut self) {
        drop(self.evm.finalize());
    }
}

/// revm's mainnet EVM over the block's state.
pub(super) fn build_evm<R: StateReader>(
    env: &EvmEnv,
    reader: R,
    codes: Arc<CodeCache>,
) -> BlockEvm<R> {
    let mut evm = build_context(env, reader, codes).build_mainnet();
    keep_hashes(&mut evm.instruction);
    evm
}

/// The context that such an EVM runs in.
pub(super) fn build_context<R: StateReader>(
    env: &EvmEnv,
    reader: R,
    codes: Arc<CodeCache>,
) -> MainnetContext<BlockState<R>> {
    context_on(env, BlockState::of(env.cfg.spec, reader, codes))
}

/// The same over a state that has been worked on.
pub(super) fn context_on<R: StateReader>(
    env: &EvmEnv,
    state: BlockState<R>,
) -> MainnetContext<BlockState<R>> {
    MainnetContext::new(state, env.cfg.spec).with_cfg(env.cfg.clone()).with_block(env.block.clone())
}

/// Empties the map of a transaction's accounts and gives it back to the journal for the next transaction, unless it is so large that
/// emptying it again and again costs more than a new one.
pub(super) fn reuse<D: Database>(journal: &mut Journal<D>, mut accounts: EvmState) {
    const MOST: usize = 64;
    if accounts.capacity() <= MOST {
        accounts.clear();
        journal.inner.state = accounts;
    }
}

impl<R: StateReader> SystemCalls for BlockExecutor<R> {
    fn env(&self) -> &EvmEnv {
        &self.env
    }

    fn receipts(&self) -> &[SharedReceipt] {
        &self.tally.receipts
    }

    fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<ExecutionResult>, ExecutionError> {
        if !self.evm.ctx.journaled_state.database.has_code(contract)? {
            return Ok(None);
        }
        let result = self.evm.system_call_one(contract, input)?;
        self.commit(true)?;
        Ok(Some(result))
    }
}

impl<R: StateReader> fmt::Debug for BlockExecutor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockExecutor")
            .field("number", &self.env.block.number)
            .field("transactions", &self.tally.transactions.len())
            .field("gas_used", &self.tally.gas_used)
            .finish_non_exhaustive()
    }
}
