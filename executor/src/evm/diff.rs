//! How an account's changes come into a block's state diff: the same for every way of executing.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY};
use millrace_proto::{AccountDiff, StateDiff};
use revm::bytecode::Bytecode;

use super::{StateReadError, StateReader};

/// Adds what became of an account, unless that is nothing; with its code, which `code` gives by its hash, if the account has it from
/// this block and the state has not had it before.
pub(super) fn add(
    diff: &mut StateDiff,
    address: Address,
    account: AccountDiff,
    reader: &(impl StateReader + ?Sized),
    code: impl FnOnce(B256) -> Option<Bytecode>,
) -> Result<(), StateReadError> {
    if account.before == account.after && account.storage.is_empty() {
        return Ok(());
    }
    if let Some(hash) = account.after.map(|after| after.code_hash)
        && account.before.map(|before| before.code_hash) != Some(hash)
        && hash != KECCAK256_EMPTY
        && !diff.code.contains_key(&hash)
        && let Some(code) = code(hash)
        && reader.code(hash)?.is_none()
    {
        diff.code.insert(hash, code.original_bytes());
    }
    diff.accounts.insert(address, account);
    Ok(())
}
