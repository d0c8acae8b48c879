//! Deltas put on the state that they are relative to.

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256, map::B256Map};
use millrace_proto::{
    AccountDelta, AccountDiff, BatchLimits, Change, SlotDiff, StateDelta, StateDiff,
};
use rayon::prelude::*;

use crate::evm::{StateReadError, StateReader};

/// Why a delta cannot be put on a state.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// An account is said to get code that nobody has seen.
    #[error("account {address} gets the code {hash}, which neither the state nor the delta has")]
    UnknownCode {
        /// The account.
        address: Address,
        /// The code's hash.
        hash: B256,
    },
    /// More slots are said to be gone with their accounts than a batch may change.
    #[error("accounts with more than {limit} slots together are said to be gone")]
    TooMuchRemoved {
        /// How many may be.
        limit: usize,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Read(#[from] StateReadError),
}

/// What `delta` changes in `state`, before and after.
///
/// # Errors
/// See [`DeltaError`]. All but [`DeltaError::Read`] are the delta's fault, and the same everywhere.
pub fn apply_delta(
    delta: &StateDelta,
    state: &(impl StateReader + Sync),
) -> Result<StateDiff, DeltaError> {
    let code: B256Map<_> = delta.code.iter().map(|code| (keccak256(code), code)).collect();
    let is_known = |hash: B256| -> Result<bool, StateReadError> {
        Ok(hash == KECCAK256_EMPTY || code.contains_key(&hash) || state.code(hash)?.is_some())
    };
    let limit = BatchLimits::default().max_changes;
    let left = AtomicUsize::new(limit);
    let account = |(address, delta): (&Address, &AccountDelta)| {
        let too_much = || DeltaError::TooMuchRemoved { limit };
        let diff = apply_to_account(*address, delta, state, &left)?.ok_or_else(too_much)?;
        match diff.after.map(|after| after.code_hash) {
            Some(hash)
                if diff.before.is_none_or(|before| before.code_hash != hash)
                    && !is_known(hash)? =>
            {
                Err(DeltaError::UnknownCode { address: *address, hash })
            }
            _ => Ok((*address, diff)),
        }
    };
    let accounts = delta.accounts.par_iter().map(account).collect::<Result<_, DeltaError>>()?;
    let code = code.into_iter().map(|(hash, code)| (hash, code.clone())).collect();
    Ok(StateDiff { accounts, code })
}

/// What becomes of an account. `None` if it has more slots that are gone with it than are `left`.
fn apply_to_account(
    address: Address,
    delta: &AccountDelta,
    state: &impl StateReader,
    left: &AtomicUsize,
) -> Result<Option<AccountDiff>, StateReadError> {
    let before = state.account(address)?;
    match delta {
        AccountDelta::Removed => {
            let Some(slots) = state.storage_of_at_most(address, left.load(Ordering::Relaxed))?
            else {
                return Ok(None);
            };
            let taken = |left: usize| left.checked_sub(slots.len());
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
                return Ok(None);
            }
            let removed =
                |(key, before): (U256, U256)| (key.into(), SlotDiff { before, after: U256::ZERO });
            let storage = slots.into_iter().map(removed).collect();
            Ok(Some(AccountDiff { before, after: None, storage }))
        }
        AccountDelta::Changed { nonce, balance, code_hash, storage } => {
            let mut after = before.unwrap_or_default();
            after.nonce = after.nonce.wrapping_add(*nonce);
            after.balance = balance.map_or(after.balance, |change| change.apply(after.balance));
            after.code_hash = code_hash.unwrap_or(after.code_hash);
            let slot = |(key, change): (&B256, &Change)| {
                let before = state.storage(address, (*key).into())?;
                Ok((*key, SlotDiff { before, after: change.apply(before) }))
            };
            let storage = storage.iter().map(slot).collect::<Result<_, StateReadError>>()?;
            Ok(Some(AccountDiff { before, after: Some(after), storage }))
        }
    }
}
