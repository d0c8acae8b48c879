//! A lane: the EVM of one thread.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use millrace_proto::{RecoveredTx, RejectReason, TxDeposit};
use revm::{
    ExecuteEvm, MainBuilder, SystemCallEvm,
    context::{
        Context, Transaction,
        result::{EVMError, ExecutionResult, HaltReason},
    },
    handler::{EvmTr, FrameResult, Handler},
    state::EvmState,
};

use super::{
    fetch::Parties,
    lane_cache::LaneCache,
    notes::{LaneContext, take_notes},
    precompiles::KeptPrecompiles,
    run::{Ran, Run},
    view::{Shared, TxView},
};
use crate::evm::{
    ExecutionError,
    executor::reuse,
    handler::{BlockEvmError, DepositHandler, EvmOf, reward},
    hashes::keep_hashes,
    reject::reject_reason,
    tx::{deposit_env, tx_env},
};

pub(super) type LaneEvm = EvmOf<LaneContext, KeptPrecompiles>;

/// Runs transactions on what the memory shows; changes nothing.
pub(super) struct Lane {
    evm: LaneEvm,
    handler: LaneHandler,
    #[expect(clippy::vec_box, reason = "runs travel between threads in their boxes")]
    spare: Vec<Box<Run>>,
}

/// How a transaction that came to nothing ended.
pub(super) enum Failure {
    /// It is invalid in the state that it saw.
    Invalid(RejectReason),
    /// It could not be run.
    Error(ExecutionError),
}

impl Lane {
    /// How many runs are kept to be used again.
    const SPARE: usize = 64;

    pub(super) fn new(shared: Arc<Shared>, cache: LaneCache) -> Self {
        let env = &shared.env;
        let handler = LaneHandler { keeps_base_fee: env.rollup };
        let (cfg, block) = (env.cfg.clone(), env.block.clone());
        let spec = cfg.spec;
        let precompiles = KeptPrecompiles::new(spec, shared.precompiles.clone());
        let context: LaneContext = Context::new(TxView::new(shared, cache), spec);
        let evm = context.with_cfg(cfg).with_block(block).build_mainnet();
        let mut evm = evm.with_precompiles(precompiles);
        take_notes(&mut evm.instruction);
        keep_hashes(&mut evm.instruction);
        Self { evm, handler, spare: Vec::new() }
    }

    /// Its cache, for the lane of another block.
    pub(super) fn take_cache(&mut self) -> LaneCache {
        self.evm.ctx.journaled_state.database.take_cache()
    }

    /// Whether it belongs to the block that shares this.
    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.evm.ctx.journaled_state.database.shared, shared)
    }

    fn begin(&mut self, index: u32, ahead: Option<(Address, u64)>) {
        self.evm.ctx.journaled_state.database.begin(index, ahead);
        self.evm.ctx.chain.clear();
    }

    /// Runs a transaction in its place: all before it are committed, but for what they owe to the beneficiary. `read` is what its
    /// accounts were before the block, if that is known.
    pub(super) fn run(
        &mut self,
        index: u32,
        tx: &RecoveredTx,
        owed: Option<U256>,
        read: Option<&Parties>,
    ) -> Result<Ran, Failure> {
        self.begin(index, None);
        let view = &mut self.evm.ctx.journaled_state.database;
        view.owe(owed);
        if let Some(read) = read {
            view.know(tx, read);
        }
        self.evm.ctx.tx = tx_env(tx);
        let result = self.handler.run(&mut self.evm);
        self.finish(result)
    }

    /// Runs a transaction on what those before it wrote so far.
    pub(super) fn run_ahead(&mut self, index: u32, tx: &RecoveredTx) -> Result<Box<Run>, Failure> {
        let mut run = self.spare.pop().unwrap_or_default();
        let env = tx_env(tx);
        let (sender, nonce) = (env.caller, env.nonce);
        let least = env.max_balance_spending().unwrap_or(U256::MAX);
        self.begin(index, Some((sender, nonce)));
        self.evm.ctx.tx = env;
        let result = self.handler.run(&mut self.evm);
        let ran = self.finish(result)?;
        let context = &mut self.evm.ctx;
        let view = &mut context.journaled_state.database;
        std::mem::swap(&mut run.accounts, &mut view.accounts);
        std::mem::swap(&mut run.slots, &mut view.slots);
        let accounts = run.fill(&view.shared, &context.chain, ran);
        reuse(&mut context.journaled_state, accounts);
        if let Some(read) = run.accounts.iter_mut().find(|read| read.address == sender) {
            read.least = least;
        }
        Ok(run)
    }

    /// Takes the map of a transaction's accounts, for the next.
    pub(super) fn reuse_accounts(&mut self, accounts: EvmState) {
        reuse(&mut self.evm.ctx.journaled_state, accounts);
    }

    /// Takes a run that is done with, for its buffers.
    pub(super) fn reuse(&mut self, mut run: Box<Run>) {
        if self.spare.len() < Self::SPARE {
            run.clear();
            self.spare.push(run);
        }
    }

    /// Runs a deposit.
    pub(super) fn run_deposit(&mut self, index: u32, deposit: &TxDeposit) -> Result<Ran, Failure> {
        self.begin(index, None);
        self.evm.ctx.tx = deposit_env(deposit);
        let result = DepositHandler::new(U256::from(deposit.mint)).run(&mut self.evm);
        self.finish(result)
    }

    /// Calls a system contract.
    pub(super) fn system_call(
        &mut self,
        index: u32,
        contract: Address,
        input: Bytes,
    ) -> Result<Ran, Failure> {
        self.begin(index, None);
        let result = self.evm.system_call_one(contract, input);
        self.finish(result)
    }

    fn finish(&mut self, result: Result<ExecutionResult, BlockEvmError>) -> Result<Ran, Failure> {
        let state = self.evm.finalize();
        match result {
            Ok(result) => Ok(Ran { result, state, reward: self.evm.ctx.chain.reward }),
            Err(EVMError::Transaction(invalid)) => {
                let context = &self.evm.ctx;
                let env = &context.journaled_state.database.shared.env;
                Err(Failure::Invalid(reject_reason(invalid, &context.tx, env)))
            }
            Err(error) => Err(Failure::Error(error.into())),
        }
    }
}

/// Ordinary transactions, as [`TxHandler`](crate::evm::handler::TxHandler) runs them. The beneficiary is paid outside
/// the journal, so that transactions do not depend on each other by it, unless the transaction has loaded its account.
struct LaneHandler {
    keeps_base_fee: bool,
}

impl Handler for LaneHandler {
    type Evm = LaneEvm;
    type Error = BlockEvmError;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        use revm::context::{Block, JournalTr};
        use revm::context_interface::journaled_state::account::JournaledAccountTr;
        let context = evm.ctx();
        let amount = reward(context, exec_result.gas(), self.keeps_base_fee);
        let beneficiary = context.block.beneficiary();
        if context.journaled_state.inner.state.contains_key(&beneficiary) {
            context.journaled_state.load_account_mut(beneficiary)?.incr_balance(amount);
        } else {
            context.chain.reward = Some(amount);
        }
        Ok(())
    }
}
