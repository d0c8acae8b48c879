//! State that a simulated block assumes.

use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy_primitives::Address;
use millrace_proto::{ExecutorError, SimulationCode as Code};
use revm::primitives::hardfork::SpecId;

use super::{Base, MAX_REPLACED_SLOTS, failed, read_error};
use crate::evm::{Assumed, BlockState, MovedPrecompiles};

/// The precompiles of a block, for which those of the block before do not count: moved ones are where they are moved to, and an account
/// of which anything is assumed is none.
pub(super) fn precompiles(
    spec: SpecId,
    overrides: &StateOverride,
) -> Result<MovedPrecompiles, ExecutorError> {
    let mut precompiles = MovedPrecompiles::new(spec);
    for (address, account) in overrides {
        let is_original = precompiles.is_original(address);
        if let Some(to) = account.move_precompile_to {
            check_move(*address, to, is_original, overrides)?;
            if !precompiles.put(*address, to) {
                let problem = format!("two precompiles are moved to {to}");
                return Err(failed(Code::MovedTwice, problem));
            }
        }
        if is_original {
            precompiles.remove(*address);
        }
    }
    Ok(precompiles)
}

fn check_move(
    address: Address,
    to: Address,
    is_original: bool,
    overrides: &StateOverride,
) -> Result<(), ExecutorError> {
    if !is_original {
        return Err(failed(Code::Invalid, format!("account {address} is not a precompile")));
    }
    if to == address {
        let problem = format!("the precompile at {address} is moved to where it is");
        return Err(failed(Code::MovedToItself, problem));
    }
    if overrides.contains_key(&to) {
        let problem = format!("a precompile is moved to {to}, of which something else is assumed");
        return Err(failed(Code::Invalid, problem));
    }
    Ok(())
}

/// Writes what is assumed into the state.
pub(super) fn apply(
    state: &mut BlockState<Base>,
    overrides: StateOverride,
    slots_left: &mut usize,
) -> Result<(), ExecutorError> {
    for (address, account) in overrides {
        let AccountOverride { balance, nonce, code, state: whole, state_diff, .. } = account;
        if whole.is_some() && state_diff.is_some() {
            let problem = format!("account {address} has both state and stateDiff");
            return Err(failed(Code::Invalid, problem));
        }
        let whole_storage = whole.is_some();
        if whole_storage {
            check_size(state, address, slots_left)?;
        }
        let slots = whole.or(state_diff).unwrap_or_default();
        let slots = slots.into_iter().map(|(slot, value)| (slot.into(), value.into())).collect();
        let assumed = Assumed { balance, nonce, code, slots, whole_storage };
        state.assume(address, assumed).map_err(read_error)?;
    }
    Ok(())
}

/// Replacing a storage means to take what is there away: of all accounts and blocks together no more than a limit.
fn check_size(
    state: &BlockState<Base>,
    address: Address,
    slots_left: &mut usize,
) -> Result<(), ExecutorError> {
    let slots = state.reader().state.slots(address, *slots_left).map_err(read_error)?;
    let Some(slots) = slots else {
        let problem = format!(
            "more than {MAX_REPLACED_SLOTS} slots would be replaced by the state of {address}; use stateDiff"
        );
        return Err(failed(Code::Limit, problem));
    };
    *slots_left = slots_left.saturating_sub(slots.len());
    Ok(())
}
