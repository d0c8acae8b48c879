//! The access list that a call would use.

use alloy::rpc::types::AccessListResult;
use alloy_primitives::U256;
use millrace_proto::{CallStatus, ExecutorError};

use super::{Simulation, outcome, refused};
use crate::evm::collect_access_list;

/// How often a call is run: a list can change what a call does by the gas that it leaves, so it is run with its own
/// list until that stays the same.
const MAX_ROUNDS: usize = 8;

/// Collects the access list (EIP-2930), and the gas that the call uses with it.
pub(in crate::service) fn create_access_list(
    simulation: Simulation,
) -> Result<AccessListResult, ExecutorError> {
    let mut tx = simulation.tx_env()?;
    tx.tx_type = tx.tx_type.max(1);
    let mut rounds = 0;
    loop {
        let codes = simulation.codes.clone();
        let run = collect_access_list(&simulation.env, &simulation.state, codes, tx.clone())?;
        let (result, access_list) = run.map_err(refused)?;
        rounds += 1;
        if access_list == tx.access_list || rounds == MAX_ROUNDS {
            let outcome = outcome(result);
            let error = match outcome.status {
                CallStatus::Success => None,
                CallStatus::Reverted => Some("execution reverted".to_owned()),
                CallStatus::Halted(reason) => Some(reason),
            };
            let gas_used = U256::from(outcome.gas_used);
            return Ok(AccessListResult { access_list, gas_used, error });
        }
        tx.access_list = access_list;
    }
}
