//! Transactions and calls executed under an inspector: what was executed before, again, and what was not, for once.

use std::{cell::RefCell, fmt, mem, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{Header, RecoveredTx, RejectReason, SharedReceipt, TxDeposit, TxOutcome};
use revm::{
    Database, DatabaseRef, ExecuteEvm, Inspector, MainBuilder, SystemCallEvm,
    bytecode::Bytecode,
    context::{
        BlockEnv, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, OutOfGasError, ResultAndState, ResultGas},
    },
    handler::{EthPrecompiles, Handler, MainnetContext, PrecompileProvider},
    inspector::InspectorHandler,
    interpreter::InterpreterResult,
    state::{Account, AccountInfo as EvmAccount, EvmState},
};

use super::{
    BlockOutput, CodeCache, EvmEnv, ExecutionError, StateReadError, StateReader,
    block_state::{BlockState, minted, to_evm},
    executor::{build_context, context_on, reuse},
    handler::{BlockEvmError, DepositHandler, EvmOf, TxHandler},
    reject::reject_reason,
    system::{self, SystemCalls},
    tally::Tally,
    tx::{deposit_env, tx_env},
};

/// The context that an inspector of such a block sees.
pub(crate) type TracedContext<R> = MainnetContext<BlockState<R>>;

/// A block whose transactions are executed one after the other, under the inspector or not. What they change takes effect with
/// [`Self::commit`].
pub(crate) struct TracedBlock<R: StateReader, I, P = EthPrecompiles> {
    env: EvmEnv,
    evm: EvmOf<TracedContext<R>, P, I>,
    tally: Tally,
}

impl<R: StateReader, I: Inspector<TracedContext<R>>> TracedBlock<R, I> {
    /// Opens a sealed block again. `reader` gives the state after its parent.
    ///
    /// # Errors
    /// When the system calls at the block's start cannot be made.
    pub(crate) fn reopen(
        env: EvmEnv,
        header: &Header,
        reader: R,
        codes: Arc<CodeCache>,
        inspector: I,
    ) -> Result<Self, ExecutionError> {
        let mut block = Self::with_env(env, reader, codes, inspector);
        system::at_start(&mut block, header.into())?;
        Ok(block)
    }

    /// A block without the system calls at its start.
    pub(crate) fn with_env(env: EvmEnv, reader: R, codes: Arc<CodeCache>, inspector: I) -> Self {
        let evm = build_context(&env, reader, codes).build_mainnet_with_inspector(inspector);
        Self { env, evm, tally: Tally::default() }
    }
}

impl<R, I, P> TracedBlock<R, I, P>
where
    R: StateReader,
    I: Inspector<TracedContext<R>>,
    P: PrecompileProvider<TracedContext<R>, Output = InterpreterResult>,
{
    /// A new block after what `state` holds. The system calls at its start are made, as its header says.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn open(
        env: EvmEnv,
        header: &Header,
        state: BlockState<R>,
        inspector: I,
        precompiles: P,
    ) -> Result<Self, ExecutionError> {
        let evm = context_on(&env, state)
            .build_mainnet_with_inspector(inspector)
            .with_precompiles(precompiles);
        let mut block = Self { env, evm, tally: Tally::default() };
        system::at_start(&mut block, header.into())?;
        Ok(block)
    }

    /// Makes the system calls at the block's end, and gives what it holds; what it changed is told relative to the state that the first
    /// block on this state began with.
    ///
    /// # Errors
    /// When they cannot be made, or the state cannot be read.
    pub(crate) fn close(&mut self) -> Result<BlockOutput, ExecutionError> {
        let requests = system::at_end(self)?;
        let diff = self.evm.ctx.journaled_state.database.diff()?;
        Ok(BlockOutput::new(mem::take(&mut self.tally), diff, requests, None))
    }

    /// Gas used so far.
    pub(crate) const fn gas_used(&self) -> u64 {
        self.tally.gas_used
    }

    /// The state as it is now.
    pub(crate) const fn state(&mut self) -> &mut BlockState<R> {
        &mut self.evm.ctx.journaled_state.database
    }

    pub(crate) const fn inspector(&mut self) -> &mut I {
        &mut self.evm.inspector
    }

    /// Executes a transaction of the block.
    ///
    /// # Errors
    /// [`ExecutionError::NotIncludable`] if it is not valid here; otherwise when the state cannot be read, or the inspector stopped it.
    pub(crate) fn execute(
        &mut self,
        tx: &RecoveredTx,
        inspected: bool,
    ) -> Result<ResultAndState, ExecutionError> {
        if let Some(deposit) = tx.tx().as_deposit() {
            return self.execute_deposit(deposit, inspected);
        }
        let result = self.run(tx_env(tx), inspected)?;
        result.map_err(|reason| ExecutionError::NotIncludable { hash: tx.hash(), reason })
    }

    /// Executes a transaction or a call that need not be valid.
    ///
    /// # Errors
    /// When the state cannot be read, or the inspector stopped it.
    pub(crate) fn run(
        &mut self,
        tx: TxEnv,
        inspected: bool,
    ) -> Result<Result<ResultAndState, RejectReason>, ExecutionError> {
        self.evm.ctx.tx = tx;
        let mut handler = TxHandler::new(self.env.rollup);
        let result = match inspected {
            true => handler.inspect_run(&mut self.evm),
            false => handler.run(&mut self.evm),
        };
        match self.finish(result) {
            Ok(result) => Ok(Ok(result)),
            Err(EVMError::Transaction(invalid)) => {
                Ok(Err(reject_reason(invalid, &self.evm.ctx.tx, &self.env)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn execute_deposit(
        &mut self,
        deposit: &TxDeposit,
        inspected: bool,
    ) -> Result<ResultAndState, ExecutionError> {
        self.evm.ctx.tx = deposit_env(deposit);
        let mint = U256::from(deposit.mint);
        let mut handler = DepositHandler::new(mint);
        let result = match inspected {
            true => handler.inspect_run(&mut self.evm),
            false => handler.run(&mut self.evm),
        };
        match self.finish(result) {
            Ok(result) => Ok(result),
            // Its gas limit is too low for the call to start.
            Err(EVMError::Transaction(_)) => self.unstarted(deposit, mint),
            Err(error) => Err(error.into()),
        }
    }

    /// All of its gas is used, and what was locked on L1 is minted.
    fn unstarted(
        &mut self,
        deposit: &TxDeposit,
        mint: U256,
    ) -> Result<ResultAndState, ExecutionError> {
        let database = &mut self.evm.ctx.journaled_state.database;
        let before = database.info(deposit.from)?.unwrap_or_default();
        let mut account = Account::from(to_evm(before));
        account.info = to_evm(minted(before, mint));
        account.mark_touch();
        let gas = ResultGas::default().with_total_gas_spent(deposit.gas_limit);
        let reason = HaltReason::OutOfGas(OutOfGasError::Basic);
        let result = ExecutionResult::Halt { reason, gas, logs: Vec::new() };
        Ok(ResultAndState::new(result, EvmState::from_iter([(deposit.from, account)])))
    }

    fn finish(
        &mut self,
        result: Result<ExecutionResult, BlockEvmError>,
    ) -> Result<ResultAndState, BlockEvmError> {
        let state = self.evm.finalize();
        Ok(ResultAndState::new(result?, state))
    }

    /// Writes through what a transaction changed, and counts its gas. Gives the receipt that it has in the block.
    pub(crate) fn commit(
        &mut self,
        tx: &Arc<RecoveredTx>,
        executed: ResultAndState,
    ) -> Result<Option<SharedReceipt>, ExecutionError> {
        let ResultAndState { result, state } = executed;
        self.write(state)?;
        let (success, gas_used) = (result.is_success(), result.tx_gas_used());
        Ok(match self.tally.include(tx, success, gas_used, result.into_logs()) {
            TxOutcome::Included { receipt, .. } => Some(receipt),
            TxOutcome::Invalid(_) | TxOutcome::NoRoom => None,
        })
    }

    fn write(&mut self, mut state: EvmState) -> Result<(), StateReadError> {
        self.evm.ctx.journaled_state.database.commit(&mut state)?;
        reuse(&mut self.evm.ctx.journaled_state, state);
        Ok(())
    }

    /// The inspector, and the state before what was executed last and not committed.
    pub(crate) const fn inspected(&mut self) -> (&mut I, &BlockEnv, &TxEnv, Before<'_, R>) {
        let context = &mut self.evm.ctx;
        let before = Before(RefCell::new(&mut context.journaled_state.database));
        (&mut self.evm.inspector, &context.block, &context.tx, before)
    }

    /// The state as it is now, and the inspector.
    pub(crate) fn into_parts(self) -> (BlockState<R>, I) {
        (self.evm.ctx.journaled_state.database, self.evm.inspector)
    }
}

/// The state before a transaction.
pub(crate) struct Before<'a, R>(RefCell<&'a mut BlockState<R>>);

impl<R: StateReader> DatabaseRef for Before<'_, R> {
    type Error = StateReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<EvmAccount>, StateReadError> {
        self.0.borrow_mut().basic(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateReadError> {
        self.0.borrow_mut().code_by_hash(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        Database::storage(&mut **self.0.borrow_mut(), address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateReadError> {
        Database::block_hash(&mut **self.0.borrow_mut(), number)
    }
}

impl<R, I, P> SystemCalls for TracedBlock<R, I, P>
where
    R: StateReader,
    I: Inspector<TracedContext<R>>,
    P: PrecompileProvider<TracedContext<R>, Output = InterpreterResult>,
{
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
        let state = self.evm.finalize();
        self.write(state)?;
        Ok(Some(result))
    }
}

impl<R: StateReader, I, P> fmt::Debug for TracedBlock<R, I, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedBlock")
            .field("number", &self.env.block.number)
            .field("transactions", &self.tally.transactions.len())
            .finish_non_exhaustive()
    }
}
