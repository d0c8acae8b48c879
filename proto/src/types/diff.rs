//! State diffs: what a block changed, before and after.

use std::collections::{BTreeMap, btree_map::Entry};

use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use serde::{Deserialize, Serialize};

/// An account without its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountInfo {
    /// Wei.
    pub balance: U256,
    /// Next nonce.
    pub nonce: u64,
    /// `keccak256` of the code.
    pub code_hash: B256,
}

impl Default for AccountInfo {
    fn default() -> Self {
        Self { balance: U256::ZERO, nonce: 0, code_hash: KECCAK256_EMPTY }
    }
}

/// A value before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDiff {
    /// Before the block.
    pub before: U256,
    /// After the block.
    pub after: U256,
}

/// How one account changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDiff {
    /// `None`: it did not exist.
    pub before: Option<AccountInfo>,
    /// `None`: it does not exist any more.
    pub after: Option<AccountInfo>,
    /// Changed slots, by key. After a destruction it holds every slot that was set before.
    pub storage: BTreeMap<B256, SlotDiff>,
}

/// What a block changed. Applying `after` to the parent's state gives the block's state; applying `before` takes it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDiff {
    /// Changed accounts.
    pub accounts: BTreeMap<Address, AccountDiff>,
    /// Code that appears for the first time, by hash.
    pub code: BTreeMap<B256, Bytes>,
}

impl StateDiff {
    /// Takes what the next block changed together with what was changed before it. The error is an account that the next block finds in another state than
    /// it was left in; what was taken together is of no use then.
    ///
    /// # Errors
    /// When the two do not follow each other.
    pub fn extend(&mut self, next: Self) -> Result<(), Address> {
        for (address, after) in next.accounts {
            match self.accounts.entry(address) {
                Entry::Vacant(entry) => {
                    entry.insert(after);
                }
                Entry::Occupied(mut entry) => {
                    let account = entry.get_mut();
                    if account.after != after.before {
                        return Err(address);
                    }
                    account.after = after.after;
                    for (key, slot) in after.storage {
                        let before = account
                            .storage
                            .entry(key)
                            .or_insert(SlotDiff { before: slot.before, after: slot.before });
                        if before.after != slot.before {
                            return Err(address);
                        }
                        before.after = slot.after;
                    }
                }
            }
        }
        self.code.extend(next.code);
        Ok(())
    }
}
