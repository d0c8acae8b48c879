//! The least gas limit with which a call succeeds.

use alloy_primitives::{KECCAK256_EMPTY, TxKind};
use millrace_proto::{ExecutorError, GasEstimate};
use revm::context::result::ExecutionResult;

use super::{Simulation, TRANSFER_GAS, outcome, read_error, refused, request};
use crate::evm::StateReader;

/// Gas that a call with value gives its callee on top.
const CALL_STIPEND: u64 = 2_300;

/// Searches between the gas that the call used with plenty and that plenty. Most calls need what they used plus what EIP-150
/// holds back (one part in 64 a level), which is tried first.
pub(in crate::service) fn estimate_gas(
    simulation: Simulation,
) -> Result<GasEstimate, ExecutorError> {
    let most = simulation.tx_gas_limit.min(simulation.max_gas);
    let asked = simulation.request.gas.filter(|gas| *gas >= TRANSFER_GAS).unwrap_or(most);
    let mut high = asked.min(most).min(simulation.affordable_gas()?);
    let tx = request::tx_env(&simulation.request, &simulation.env, high)?;
    let mut executor = simulation.executor();
    let mut run = |gas_limit| {
        let mut tx = tx.clone();
        tx.gas_limit = gas_limit;
        executor.run(tx)
    };

    if is_transfer(&simulation)?
        && high >= TRANSFER_GAS
        && run(TRANSFER_GAS)?.is_ok_and(|result| result.is_success())
    {
        return Ok(GasEstimate::Gas(TRANSFER_GAS));
    }
    let plenty = run(high)?.map_err(refused)?;
    if !plenty.is_success() {
        return Ok(GasEstimate::Fails(outcome(plenty)));
    }
    // One less than what was used cannot be enough: known to fail.
    let mut low = plenty.tx_gas_used().saturating_sub(1);
    let likely = likely_gas(&plenty);
    if likely < high {
        if run(likely)?.is_ok_and(|result| result.is_success()) {
            high = likely;
        } else {
            low = low.max(likely);
        }
    }
    while low + 1 < high {
        // What is needed is near the low end far more often than not.
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2)).max(low + 1);
        if run(middle)?.is_ok_and(|result| result.is_success()) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(GasEstimate::Gas(high))
}

/// Whether nothing but value moves.
fn is_transfer(simulation: &Simulation) -> Result<bool, ExecutorError> {
    let request = &simulation.request;
    let Some(TxKind::Call(to)) = request.to else { return Ok(false) };
    if request.input.input().is_some_and(|input| !input.is_empty())
        || request.access_list.as_ref().is_some_and(|list| !list.is_empty())
        || request.authorization_list.as_ref().is_some_and(|list| !list.is_empty())
    {
        return Ok(false);
    }
    let recipient = simulation.state.account(to).map_err(read_error)?;
    Ok(recipient.is_none_or(|account| account.code_hash == KECCAK256_EMPTY))
}

fn likely_gas(result: &ExecutionResult) -> u64 {
    let gas = result.gas();
    let spent = gas.tx_gas_used().saturating_add(gas.inner_refunded()).saturating_add(CALL_STIPEND);
    spent.saturating_add(spent / 63)
}
