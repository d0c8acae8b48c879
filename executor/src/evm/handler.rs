//! How transactions are charged: revm's mainnet handler with this chain's differences.

use std::marker::PhantomData;

use alloy_primitives::U256;
use revm::{
    Database, Inspector, MainnetEvm,
    context::{
        Block, BlockEnv, CfgEnv, Context, Evm, Journal, JournalTr, Transaction, TxEnv,
        result::{EVMError, HaltReason, InvalidTransaction},
    },
    context_interface::journaled_state::account::JournaledAccountTr,
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameResult, Handler, MainnetContext, PrecompileProvider,
        instructions::EthInstructions,
    },
    inspector::InspectorHandler,
    interpreter::{
        Gas, GasTracker, InitialAndFloorGas, InterpreterResult, interpreter::EthInterpreter,
    },
    primitives::hardfork::SpecId,
};

use super::{StateReadError, block_state::BlockState};

/// The EVM of a block.
pub(super) type BlockEvm<R> = MainnetEvm<MainnetContext<BlockState<R>>>;

/// A context on database `D`, with notes `N` beside it.
pub(super) type ContextOf<D, N> = Context<BlockEnv, TxEnv, CfgEnv, D, Journal<D>, N>;

/// An EVM with precompiles `P` and inspector `I`.
pub(super) type EvmOf<C, P, I = ()> =
    Evm<C, I, EthInstructions<EthInterpreter, C>, P, EthFrame<EthInterpreter>>;

/// What running a transaction can fail with.
pub(super) type BlockEvmError = EVMError<StateReadError, InvalidTransaction>;

/// Ordinary transactions. On a rollup, the fee recipient gets the base fee with the priority fee: the whole
/// effective gas price for every unit of gas, in one payment after execution, where Ethereum pays the priority fee and burns
/// the rest. The recipient is touched as by Ethereum's payment, also by one of zero.
#[derive(Debug)]
pub(super) struct TxHandler<D, I = (), P = EthPrecompiles> {
    keeps_base_fee: bool,
    _evm: PhantomData<(D, I, P)>,
}

impl<D, I, P> TxHandler<D, I, P> {
    pub(super) const fn new(keeps_base_fee: bool) -> Self {
        Self { keeps_base_fee, _evm: PhantomData }
    }
}

impl<D, I, P> Handler for TxHandler<D, I, P>
where
    D: Database<Error = StateReadError>,
    P: PrecompileProvider<MainnetContext<D>, Output = InterpreterResult>,
{
    type Evm = EvmOf<MainnetContext<D>, P, I>;
    type Error = BlockEvmError;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        let context = evm.ctx();
        let reward = reward(context, exec_result.gas(), self.keeps_base_fee);
        let beneficiary = context.block.beneficiary();
        context.journaled_state.load_account_mut(beneficiary)?.incr_balance(reward);
        Ok(())
    }
}

impl<D, I, P> InspectorHandler for TxHandler<D, I, P>
where
    D: Database<Error = StateReadError>,
    I: Inspector<MainnetContext<D>>,
    P: PrecompileProvider<MainnetContext<D>, Output = InterpreterResult>,
{
    type IT = EthInterpreter;
}

/// What the fee recipient gets for a transaction's gas.
pub(super) fn reward<D: Database, N>(
    context: &ContextOf<D, N>,
    gas: &Gas,
    keeps_base_fee: bool,
) -> U256 {
    let base_fee = u128::from(context.block.basefee());
    let mut price = context.tx.effective_gas_price(base_fee);
    if !keeps_base_fee && context.cfg.spec.is_enabled_in(SpecId::LONDON) {
        price = price.saturating_sub(base_fee);
    }
    let used = gas.used().saturating_sub(gas.reservoir());
    U256::from(price) * U256::from(used)
}

/// Deposits (type `0x7E`): paid for on L1, so nothing is charged or refunded here. What L1 locked is minted before
/// execution and stays minted if the call fails. The nonce is not checked, but counts up.
#[derive(Debug)]
pub(super) struct DepositHandler<D, N, P, I = ()> {
    mint: U256,
    _evm: PhantomData<(D, N, P, I)>,
}

impl<D, N, P, I> DepositHandler<D, N, P, I> {
    pub(super) const fn new(mint: U256) -> Self {
        Self { mint, _evm: PhantomData }
    }
}

impl<D, N, P, I> InspectorHandler for DepositHandler<D, N, P, I>
where
    D: Database<Error = StateReadError>,
    P: PrecompileProvider<ContextOf<D, N>, Output = InterpreterResult>,
    I: Inspector<ContextOf<D, N>>,
{
    type IT = EthInterpreter;
}

impl<D, N, P, I> Handler for DepositHandler<D, N, P, I>
where
    D: Database<Error = StateReadError>,
    P: PrecompileProvider<ContextOf<D, N>, Output = InterpreterResult>,
{
    type Evm = EvmOf<ContextOf<D, N>, P, I>;
    type Error = BlockEvmError;
    type HaltReason = HaltReason;

    fn validate_env(&self, _evm: &mut Self::Evm) -> Result<(), Self::Error> {
        Ok(())
    }

    /// All of the gas limit is there to be used: the cap on a transaction's gas (EIP-7825) is not for deposits.
    fn tx_gas(&self, evm: &mut Self::Evm, init_and_floor_gas: &InitialAndFloorGas) -> GasTracker {
        let limit = evm.ctx().tx.gas_limit;
        let left = limit.saturating_sub(init_and_floor_gas.initial_total_gas());
        GasTracker::new(limit, left, 0)
    }

    fn validate_against_state_and_deduct_caller(
        &self,
        evm: &mut Self::Evm,
        _init_and_floor_gas: &mut InitialAndFloorGas,
    ) -> Result<(), Self::Error> {
        let Context { tx, journaled_state, .. } = evm.ctx();
        let mut caller = journaled_state.load_account_with_code_mut(tx.caller())?.data;
        let balance = caller.balance().saturating_add(self.mint);
        caller.set_balance(balance);
        if tx.kind().is_call() {
            caller.bump_nonce();
        }
        Ok(())
    }

    fn reimburse_caller(
        &self,
        _evm: &mut Self::Evm,
        _exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn reward_beneficiary(
        &self,
        _evm: &mut Self::Evm,
        _exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
