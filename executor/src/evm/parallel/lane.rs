//! A lane: the EVM of one thread.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use millrace_proto::{RecoveredTx, RejectReason, TxDeposit};
use revm::{
    ExecuteEvm, MainBuilder, MainnetEvm, SystemCallEvm,
    context::{
        Context, Transaction,
        result::{EVMError, ExecutionResult, HaltReason},
    },
    handler::{EvmTr, FrameResult, Handler},
};

use super::{
    notes::{LaneContext, take_notes},
    run::Run,
    view::{Shared, TxView},
};
use crate::evm::{
    ExecutionError,
    handler::{BlockEvmError, DepositHandler, reward},
    reject::reject_reason,
    tx::{deposit_env, tx_env},
};

pub(super) type LaneEvm = MainnetEvm<LaneContext>;

/// Runs transactions on what the memory shows; changes nothing.
pub(super) struct Lane {
    evm: LaneEvm,
    handler: LaneHandler,
}

/// How a transaction that came to nothing ended.
pub(super) enum Failure {
    /// It is invalid in the state that it saw.
    Invalid(RejectReason),
    /// It could not be run.
    Error(ExecutionError),
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let env = &shared.env;
        let handler = LaneHandler { keeps_base_fee: env.rollup };
        let (cfg, block) = (env.cfg.clone(), env.block.clone());
        let spec = cfg.spec;
        let context: LaneContext = Context::new(TxView::new(shared), spec);
        let mut evm = context.with_cfg(cfg).with_block(block).build_mainnet();
        take_notes(&mut evm.instruction);
        Self { evm, handler }
    }

    /// Whether it belongs to the block that shares this.
    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.evm.ctx.journaled_state.database.shared, shared)
    }

    fn view(&mut self) -> &mut TxView {
        &mut self.evm.ctx.journaled_state.database
    }

    fn begin(&mut self, index: u32, sender: Option<(Address, u64)>) {
        self.view().begin(index, sender);
        self.evm.ctx.chain.clear();
    }

    /// Runs a transaction on what those before it wrote. `ahead`: some of these may still be to come.
    pub(super) fn run(
        &mut self,
        index: u32,
        tx: &RecoveredTx,
        ahead: bool,
    ) -> Result<Run, Failure> {
        let env = tx_env(tx);
        self.begin(index, ahead.then_some((env.caller, env.nonce)));
        self.evm.ctx.tx = env;
        let result = self.handler.run(&mut self.evm);
        let mut run = self.finish(result)?;
        if ahead {
            let tx = &self.evm.ctx.tx;
            let least = tx.max_balance_spending().unwrap_or(U256::MAX);
            if let Some(read) = run.accounts.iter_mut().find(|read| read.address == tx.caller) {
                read.least = least;
            }
        }
        Ok(run)
    }

    /// Runs a deposit.
    pub(super) fn run_deposit(&mut self, index: u32, deposit: &TxDeposit) -> Result<Run, Failure> {
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
    ) -> Result<(Run, ExecutionResult), Failure> {
        self.begin(index, None);
        let result = self.evm.system_call_one(contract, input);
        let output = result.as_ref().ok().cloned();
        let run = self.finish(result)?;
        let output = output.ok_or_else(|| {
            Failure::Error(ExecutionError::Evm("a system call gave no result".to_owned()))
        })?;
        Ok((run, output))
    }

    fn finish(
        &mut self,
        result: Result<ExecutionResult, BlockEvmError>,
    ) -> Result<Run, Failure> {
        let state = self.evm.finalize();
        match result {
            Ok(result) => {
                let context = &mut self.evm.ctx;
                let view = &mut context.journaled_state.database;
                let reads =
                    (std::mem::take(&mut view.accounts), std::mem::take(&mut view.slots));
                Ok(Run::take(&view.shared, reads, &context.chain, state, result))
            }
            Err(EVMError::Transaction(invalid)) => {
                let shared = self.view().shared.clone();
                Err(Failure::Invalid(reject_reason(invalid, &self.evm.ctx.tx, &shared.env)))
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
