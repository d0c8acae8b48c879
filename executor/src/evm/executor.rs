//! The sequential block executor.

use std::{fmt, sync::Arc};

use alloy::{
    consensus::{Transaction, TransactionEnvelope},
    eips::{eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS},
};
use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{Receipt, RecoveredTx, RejectReason, TxDeposit, TxEnvelope, TxOutcome};
use revm::{
    ExecuteEvm, MainBuilder, SystemCallEvm,
    context::{
        Cfg,
        result::{EVMError, ExecutionResult},
    },
    handler::{Handler, MainnetContext},
    primitives::hardfork::SpecId,
};

use super::{
    BlockOutput, BlockPlan, CodeCache, EvmEnv, ExecutionError, StateReadError, StateReader,
    block_state::BlockState,
    handler::{BlockEvm, DepositHandler, TxHandler},
    reject::reject_reason,
    requests,
    tx::{deposit_env, tx_env},
};

/// Executes the transactions of one block, one after the other.
///
/// After an error the block is of no use any more: drop it.
pub struct BlockExecutor<R: StateReader> {
    env: EvmEnv,
    evm: BlockEvm<R>,
    handler: TxHandler<R>,
    transactions: Vec<Arc<RecoveredTx>>,
    receipts: Vec<Receipt>,
    gas_used: u64,
    blob_gas_used: u64,
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
        let attributes = plan.attributes();
        if block.env.cancun {
            block.system_call(BEACON_ROOTS_ADDRESS, attributes.parent_beacon_block_root)?;
        }
        if block.env.prague {
            block.system_call(HISTORY_STORAGE_ADDRESS, attributes.parent_hash)?;
        }
        Ok(block)
    }

    /// Opens a block without a plan, and without the system calls at its start: for state tests, and for blocks whose
    /// header is given.
    pub fn with_env(env: EvmEnv, reader: R, codes: Arc<CodeCache>) -> Self {
        Self {
            evm: build_evm(&env, reader, codes),
            handler: TxHandler::new(env.rollup),
            env,
            transactions: Vec::new(),
            receipts: Vec::new(),
            gas_used: 0,
            blob_gas_used: 0,
        }
    }

    /// The block's environment.
    pub const fn env(&self) -> &EvmEnv {
        &self.env
    }

    /// Gas used so far.
    pub const fn gas_used(&self) -> u64 {
        self.gas_used
    }

    /// Executes the next transaction.
    ///
    /// # Errors
    /// [`ExecutionError::NotIncludable`] for a deposit after an ordinary transaction; otherwise when the state cannot be read.
    pub fn execute(&mut self, tx: &Arc<RecoveredTx>) -> Result<TxOutcome, ExecutionError> {
        if let Some(deposit) = tx.tx().as_deposit() {
            return self.execute_deposit(tx, deposit);
        }
        if self.env.rollup && matches!(tx.tx(), TxEnvelope::Eip4844(_)) {
            let ty = tx.tx().tx_type().into();
            return Ok(TxOutcome::Invalid(RejectReason::UnsupportedType { ty }));
        }
        let blob_gas = tx.tx().blob_gas_used().unwrap_or(0);
        if !self.has_room(tx.tx().gas_limit(), blob_gas) {
            return Ok(TxOutcome::NoRoom);
        }
        self.evm.ctx.tx = tx_env(tx);
        match self.handler.run(&mut self.evm) {
            Ok(result) => {
                self.commit()?;
                self.blob_gas_used += blob_gas;
                Ok(self.include(tx, result.is_success(), result.tx_gas_used(), result.into_logs()))
            }
            Err(EVMError::Transaction(invalid)) => {
                self.discard();
                Ok(TxOutcome::Invalid(reject_reason(invalid, &self.evm.ctx.tx, &self.env)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the block.
    ///
    /// # Errors
    /// When the state cannot be read, or a system call at the block's end fails.
    pub fn finish(mut self) -> Result<BlockOutput, ExecutionError> {
        let requests = requests::collect(&mut self)?;
        let diff = self.evm.ctx.journaled_state.database.into_diff()?;
        Ok(BlockOutput::new(
            self.transactions,
            self.receipts,
            diff,
            self.gas_used,
            self.blob_gas_used,
            requests,
        ))
    }

    /// Whether a transaction with these limits fits into the rest of the block. One that would not fit into an empty
    /// block either is left to validation, which says why.
    fn has_room(&self, gas_limit: u64, blob_gas: u64) -> bool {
        let most = self.env.block.gas_limit;
        let never_fits = gas_limit > most.min(self.env.cfg.tx_gas_limit_cap());
        let gas_fits = never_fits || gas_limit <= most.saturating_sub(self.gas_used);
        let most_blob = self.env.blob_params.map_or(0, |params| params.max_blob_gas_per_block());
        let blobs_fit = blob_gas > most_blob || self.blob_gas_used + blob_gas <= most_blob;
        gas_fits && blobs_fit
    }

    fn execute_deposit(
        &mut self,
        tx: &Arc<RecoveredTx>,
        deposit: &TxDeposit,
    ) -> Result<TxOutcome, ExecutionError> {
        if !self.env.rollup {
            let ty = tx.tx().tx_type().into();
            return Ok(TxOutcome::Invalid(RejectReason::UnsupportedType { ty }));
        }
        if self.transactions.last().is_some_and(|last| !last.tx().is_deposit()) {
            let detail = "a deposit after another transaction of the block".to_owned();
            let reason = RejectReason::Invalid { detail };
            return Err(ExecutionError::NotIncludable { hash: tx.hash(), reason });
        }
        let mint = U256::from(deposit.mint);
        self.evm.ctx.tx = deposit_env(deposit);
        match DepositHandler::new(mint).run(&mut self.evm) {
            Ok(result) => {
                self.commit()?;
                Ok(self.include(tx, result.is_success(), result.tx_gas_used(), result.into_logs()))
            }
            // Only the gas limit can be too low for the call to start: all of it is used then.
            Err(EVMError::Transaction(_)) => {
                self.discard();
                self.evm.ctx.journaled_state.database.mint_and_bump(deposit.from, mint)?;
                Ok(self.include(tx, false, deposit.gas_limit, Vec::new()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn include(
        &mut self,
        tx: &Arc<RecoveredTx>,
        success: bool,
        gas_used: u64,
        logs: Vec<alloy_primitives::Log>,
    ) -> TxOutcome {
        self.gas_used = self.gas_used.saturating_add(gas_used);
        let receipt = Receipt {
            tx_type: tx.tx().tx_type(),
            success,
            cumulative_gas_used: self.gas_used,
            logs,
        };
        let index = self.transactions.len() as u64;
        self.transactions.push(tx.clone());
        self.receipts.push(receipt.clone());
        TxOutcome::Included { index, gas_used, receipt }
    }

    /// Calls a system contract with one word, where it exists. Its gas counts nowhere.
    fn system_call(&mut self, contract: Address, word: B256) -> Result<(), ExecutionError> {
        self.system_call_with(contract, Bytes::copy_from_slice(word.as_slice())).map(drop)
    }

    /// Calls a system contract; `None` if it does not exist. The output is empty if the call fails.
    pub(super) fn system_call_with(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<ExecutionResult>, ExecutionError> {
        if !self.evm.ctx.journaled_state.database.has_code(contract)? {
            return Ok(None);
        }
        let result = self.evm.system_call_one(contract, input)?;
        self.commit()?;
        Ok(Some(result))
    }

    pub(super) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    fn commit(&mut self) -> Result<(), StateReadError> {
        let state = self.evm.finalize();
        self.evm.ctx.journaled_state.database.commit(state)
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
    build_context(env, reader, codes).build_mainnet()
}

/// The context that such an EVM runs in.
pub(super) fn build_context<R: StateReader>(
    env: &EvmEnv,
    reader: R,
    codes: Arc<CodeCache>,
) -> MainnetContext<BlockState<R>> {
    let spec = env.cfg.spec;
    let state = BlockState::new(reader, codes, spec.is_enabled_in(SpecId::SPURIOUS_DRAGON));
    MainnetContext::new(state, spec).with_cfg(env.cfg.clone()).with_block(env.block.clone())
}

impl<R: StateReader> fmt::Debug for BlockExecutor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockExecutor")
            .field("number", &self.env.block.number)
            .field("transactions", &self.transactions.len())
            .field("gas_used", &self.gas_used)
            .finish_non_exhaustive()
    }
}
