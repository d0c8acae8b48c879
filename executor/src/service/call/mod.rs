//! Calls on top of a sealed block, or of the open one as far as it is executed: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

mod access_list;
mod estimate;
mod overrides;
mod request;

use std::sync::Arc;

use alloy::rpc::types::TransactionRequest;
use alloy_primitives::U256;
use millrace_proto::{CallOutcome, CallRequest, CallStatus, ExecutorError, Header, RejectReason};
use revm::{
    Inspector,
    context::{Cfg, TxEnv, result::ExecutionResult},
};

/// Gas of a transaction that only transfers: the least that any needs.
const TRANSFER_GAS: u64 = 21_000;

use self::overrides::{OverriddenState, override_block};
pub(super) use self::{access_list::create_access_list, estimate::estimate_gas};
use super::read::{ReadState, read_error};
use crate::{
    chain::Chain,
    evm::{CallExecutor, CodeCache, EvmEnv, StateReader, TracedBlock, TracedContext},
};
/// A request on top of the state and environment that it asks for.
#[derive(Debug)]
pub(super) struct Simulation<R = ReadState> {
    request: TransactionRequest,
    env: EvmEnv,
    state: OverriddenState<R>,
    codes: Arc<CodeCache>,
    /// Most gas that a single run may use.
    max_gas: u64,
    /// Most gas that the chain takes in a transaction.
    tx_gas_limit: u64,
}

impl Simulation {
    /// Prepares a call in a block, after all that it holds.
    pub(super) fn new(
        chain: &Chain,
        request: CallRequest,
        state: ReadState,
        max_gas: u64,
    ) -> Result<Self, ExecutorError> {
        let header = state.header();
        Self::on(chain, state, &header, request, max_gas)
    }
}

impl<R: StateReader> Simulation<R> {
    /// Prepares a call on top of a state, in the block with this header. It is freed from the rules that only a signed transaction has to follow: no nonce, no limit
    /// of the block, contracts may send; without a gas price there is no base fee either, so that it costs nothing. What it
    /// transfers has to be there.
    pub(super) fn on(
        chain: &Chain,
        state: R,
        header: &Header,
        request: CallRequest,
        max_gas: u64,
    ) -> Result<Self, ExecutorError> {
        let CallRequest { transaction: request, state_overrides, block_overrides } = request;
        let mut env = EvmEnv::of(chain.spec(), header);
        let mut block_hashes = Default::default();
        if let Some(overrides) = block_overrides {
            block_hashes = override_block(&mut env, overrides)?;
        }
        let tx_gas_limit = env.block.gas_limit.min(env.cfg.tx_gas_limit_cap());
        env.cfg.disable_nonce_check = true;
        env.cfg.disable_eip3607 = true;
        env.cfg.disable_block_gas_limit = true;
        env.cfg.tx_gas_limit_cap = Some(u64::MAX);
        if request::price(&request) == 0 {
            env.cfg.disable_base_fee = true;
            env.block.basefee = 0;
        }
        let state = OverriddenState::new(state, state_overrides.unwrap_or_default(), block_hashes)?;
        let codes = chain.codes().clone();
        Ok(Self { request, env, state, codes, max_gas, tx_gas_limit })
    }

    /// The gas limit to run with: the request's, or as much as may be used and the sender can pay for.
    fn gas_limit(&self) -> Result<u64, ExecutorError> {
        match self.request.gas {
            Some(gas) => Ok(gas.min(self.max_gas)),
            None => Ok(self.max_gas.min(self.affordable_gas()?)),
        }
    }

    /// Gas that the sender can pay for, if the request names a price.
    fn affordable_gas(&self) -> Result<u64, ExecutorError> {
        let price = request::price(&self.request);
        if price == 0 {
            return Ok(u64::MAX);
        }
        let sender = self.request.from.unwrap_or_default();
        let balance = self.state.account(sender).map_err(read_error)?.unwrap_or_default().balance;
        let value = self.request.value.unwrap_or_default();
        let affordable = balance.saturating_sub(value) / U256::from(price);
        if affordable < U256::from(TRANSFER_GAS) {
            let least = U256::from(price) * U256::from(TRANSFER_GAS);
            let cost = value.saturating_add(least);
            return Err(refused(RejectReason::InsufficientFunds { sender, balance, cost }));
        }
        Ok(u64::try_from(affordable).unwrap_or(u64::MAX))
    }

    /// The call as the EVM takes it.
    pub(super) fn tx_env(&self) -> Result<TxEnv, ExecutorError> {
        request::tx_env(&self.request, &self.env, self.gas_limit()?)
    }

    fn executor(&self) -> CallExecutor<&OverriddenState<R>> {
        CallExecutor::new(self.env.clone(), &self.state, self.codes.clone())
    }

    /// A block to run it in under an inspector.
    pub(super) fn traced<I>(self, inspector: I) -> TracedBlock<OverriddenState<R>, I>
    where
        I: Inspector<TracedContext<OverriddenState<R>>>,
    {
        TracedBlock::with_env(self.env, self.state, self.codes, inspector)
    }
}

/// Runs the call.
pub(super) fn run(simulation: Simulation) -> Result<CallOutcome, ExecutorError> {
    let result = simulation.executor().run(simulation.tx_env()?)?;
    Ok(outcome(result.map_err(refused)?))
}

pub(super) fn outcome(result: ExecutionResult) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { output, .. } => {
            CallOutcome { status: CallStatus::Success, output: output.into_data(), gas_used }
        }
        ExecutionResult::Revert { output, .. } => {
            CallOutcome { status: CallStatus::Reverted, output, gas_used }
        }
        ExecutionResult::Halt { reason, .. } => CallOutcome {
            status: CallStatus::Halted(reason.to_string()),
            output: Default::default(),
            gas_used,
        },
    }
}

pub(super) fn refused(reason: RejectReason) -> ExecutorError {
    ExecutorError::InvalidRequest(reason.to_string())
}
