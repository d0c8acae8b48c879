//! State diffs: what a block changed, before and after.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

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
    /// About what it takes in memory, in bytes.
    pub fn memory(&self) -> usize {
        const ACCOUNT: usize = size_of::<(Address, AccountDiff)>();
        const SLOT: usize = size_of::<(B256, SlotDiff)>();
        // The nodes of B-trees are three quarters full, about.
        let slots: usize = self.accounts.values().map(|account| account.storage.len()).sum();
        let code: usize = self.code.values().map(|code| size_of::<B256>() + code.len()).sum();
        (self.accounts.len() * ACCOUNT + slots * SLOT) * 4 / 3 + code
    }

    /// What happened after `earlier`, of all that happened: both are relative to the same state, and this goes further. Code is told again where it may be
    /// new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self::default();
        let unchanged = AccountDiff::default();
        let addresses: BTreeSet<_> =
            self.accounts.keys().chain(earlier.accounts.keys()).copied().collect();
        for address in addresses {
            let was = earlier.accounts.get(&address);
            let is = self.accounts.get(&address);
            // What only one of them has begins, or ends, as it was before both.
            let before = was.map_or_else(|| is.and_then(|is| is.before), |was| was.after);
            let after = is.map_or_else(|| was.and_then(|was| was.before), |is| is.after);
            let (was, is) = (was.unwrap_or(&unchanged), is.unwrap_or(&unchanged));
            let mut account = AccountDiff { before, after, ..AccountDiff::default() };
            for key in was.storage.keys().chain(is.storage.keys()) {
                let (was, is) = (was.storage.get(key), is.storage.get(key));
                let before = was.map_or_else(|| is.map(|is| is.before), |was| Some(was.after));
                let after = is.map_or_else(|| was.map(|was| was.before), |is| Some(is.after));
                if let (Some(before), Some(after)) = (before, after)
                    && before != after
                {
                    account.storage.insert(*key, SlotDiff { before, after });
                }
            }
            if account.before != account.after || !account.storage.is_empty() {
                since.accounts.insert(address, account);
            }
        }
        let hash = |account: &AccountDiff| Some(account.after?.code_hash);
        let named: BTreeSet<_> = since.accounts.values().filter_map(hash).collect();
        let code = self.code.iter().filter(|(hash, _)| named.contains(*hash));
        since.code = code.map(|(hash, code)| (*hash, code.clone())).collect();
        since
    }

    /// Leaves out what ended as it began, and code that no account has got.
    #[must_use]
    pub fn net(mut self) -> Self {
        let mut named = BTreeSet::new();
        self.accounts.retain(|_, account| {
            account.storage.retain(|_, slot| slot.before != slot.after);
            let hash = |info: Option<AccountInfo>| info.map(|info| info.code_hash);
            if hash(account.before) != hash(account.after) {
                named.extend(hash(account.after));
            }
            account.before != account.after || !account.storage.is_empty()
        });
        self.code.retain(|hash, _| named.contains(hash));
        self
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: B256 = B256::with_last_byte(1);

    fn account(balance: u64) -> Option<AccountInfo> {
        Some(AccountInfo { balance: U256::from(balance), ..AccountInfo::default() })
    }

    fn diff(
        address: u8,
        before: Option<AccountInfo>,
        after: Option<AccountInfo>,
        slot: (u64, u64),
    ) -> StateDiff {
        let slot = SlotDiff { before: U256::from(slot.0), after: U256::from(slot.1) };
        let account = AccountDiff { before, after, storage: [(KEY, slot)].into() };
        let mut diff = StateDiff::default();
        diff.accounts.insert(Address::with_last_byte(address), account);
        diff
    }

    #[test]
    fn what_happened_since_is_what_has_to_follow() {
        let first = diff(1, account(1), account(2), (5, 6));
        for next in [
            diff(1, account(2), account(3), (6, 7)),
            // Back to where it was before both.
            diff(1, account(2), account(1), (6, 5)),
            diff(1, account(2), None, (6, 0)),
            diff(2, None, account(1), (0, 1)),
        ] {
            let mut both = first.clone();
            both.extend(next.clone()).expect("they follow each other");
            assert_eq!(both.net().since(&first), next);
        }
        assert_eq!(first.since(&first), StateDiff::default());
        assert_eq!(first.since(&StateDiff::default()), first);
    }

    #[test]
    fn what_comes_to_nothing_is_left_out() {
        let mut both = diff(1, account(1), account(2), (5, 6));
        both.code.insert(B256::repeat_byte(3), Bytes::from_static(b"gone"));
        both.extend(diff(1, account(2), account(1), (6, 5))).expect("they follow each other");
        assert_eq!(both.net(), StateDiff::default());
    }
}
