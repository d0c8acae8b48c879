//! State deltas: what a stretch of blocks changed together, as far as it has to be told to whoever has the state before it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};

use super::{AccountDiff, StateDiff};

/// A number's change. Arithmetic wraps, so that every change of every number gives a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Grows by so much.
    Up(U256),
    /// Falls by so much.
    Down(U256),
    /// Is this, whatever it was.
    Set(U256),
}

impl Change {
    /// The change with the shortest number; a difference rather than a value where both are as long. `None` if there is no change.
    pub fn between(before: U256, after: U256) -> Option<Self> {
        let changes = [
            Self::Up(after.wrapping_sub(before)),
            Self::Down(before.wrapping_sub(after)),
            Self::Set(after),
        ];
        (before != after)
            .then(|| changes.into_iter().min_by_key(|change| change.number().byte_len()))
            .flatten()
    }

    /// What it makes of a number.
    pub fn apply(self, before: U256) -> U256 {
        match self {
            Self::Up(by) => before.wrapping_add(by),
            Self::Down(by) => before.wrapping_sub(by),
            Self::Set(value) => value,
        }
    }

    /// The number that it is told with.
    pub const fn number(self) -> U256 {
        match self {
            Self::Up(number) | Self::Down(number) | Self::Set(number) => number,
        }
    }
}

/// How one account changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountDelta {
    /// It does not exist any more; nor does anything in its storage.
    Removed,
    /// It exists, whether it did before or not.
    Changed {
        /// Added to the nonce; wraps.
        nonce: u64,
        /// Of the balance, wei.
        balance: Option<Change>,
        /// The new code's hash.
        code_hash: Option<B256>,
        /// Changed slots, by key.
        storage: BTreeMap<B256, Change>,
    },
}

/// What a stretch of blocks changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDelta {
    /// Changed accounts.
    pub accounts: BTreeMap<Address, AccountDelta>,
    /// Code that appears for the first time, whether an account has it in the end or not: later blocks count on it.
    pub code: Vec<Bytes>,
}

impl From<&StateDiff> for StateDelta {
    fn from(diff: &StateDiff) -> Self {
        let accounts = diff.accounts.iter();
        Self {
            accounts: accounts
                .filter_map(|(address, account)| Some((*address, AccountDelta::of(account)?)))
                .collect(),
            code: diff.code.values().cloned().collect(),
        }
    }
}

impl AccountDelta {
    /// `None` if there is no change.
    fn of(diff: &AccountDiff) -> Option<Self> {
        let Some(after) = diff.after else {
            return diff.before.map(|_| Self::Removed);
        };
        let before = diff.before.unwrap_or_default();
        let slots = diff.storage.iter();
        let storage: BTreeMap<_, _> = slots
            .filter_map(|(key, slot)| Some((*key, Change::between(slot.before, slot.after)?)))
            .collect();
        let unchanged = diff.before == diff.after && storage.is_empty();
        (!unchanged).then(|| Self::Changed {
            nonce: after.nonce.wrapping_sub(before.nonce),
            balance: Change::between(before.balance, after.balance),
            code_hash: (after.code_hash != before.code_hash).then_some(after.code_hash),
            storage,
        })
    }
}
