//! What a batch's bytes alone say of what its blocks changed: accounts may be named, and which they are is in the state before it.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes, U256};

use super::{AccountNames, KeyHints, form::Mapping, names::NameError, words::Words};
use crate::types::{
    AccountDelta, AddressPrefix, Change, MESSAGE_COUNT_SLOT, MESSAGE_PASSER, StateDelta,
    message_slot,
};

/// What a stretch of blocks changed, for whoever has the state before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDelta {
    pub(super) words: Words<AddressPrefix>,
    pub(super) accounts: Vec<NamedAccount>,
    pub(super) code: Vec<Bytes>,
}

/// How one account changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedAccount {
    /// The position of its address among the words.
    pub(super) address: usize,
    pub(super) is_removed: bool,
    pub(super) nonce: u64,
    pub(super) balance: Option<Change>,
    pub(super) code_hash: Option<B256>,
    /// What changed in its storage, if it did.
    pub(super) storage: Option<Vec<Group>>,
}

/// Slots of one account, and a change for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) keys: Keys,
    pub(super) changes: Vec<Change>,
}

/// Which slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keys {
    /// These.
    Plain(Vec<B256>),
    /// Those of a mapping's entries, whose keys are words, by their positions.
    Entries(Mapping<usize>, Vec<usize>),
}

impl NamedDelta {
    /// What changed, with the accounts that have names by these, and slots by what `hints` know that their keys follow from.
    pub fn new(delta: &StateDelta, hints: &KeyHints, names: &AccountNames) -> Self {
        let mut storages = BTreeMap::new();
        for (address, account) in &delta.accounts {
            if let AccountDelta::Changed { storage, .. } = account
                && !storage.is_empty()
            {
                storages.insert(*address, Slots::of(*address, storage, hints));
            }
        }
        let others = storages.values().flat_map(Slots::words);
        let words = Words::new(delta.accounts.keys().copied(), others, names);
        let account = |position: usize| {
            let address = words.address_at(position)?;
            let account = delta.accounts.get(&address)?;
            let storage = storages.get(&address).map(|slots| slots.groups(&words));
            Some(NamedAccount::of(account, position, storage))
        };
        let accounts = (0..words.addresses()).filter_map(account).collect();
        Self { words: words.by_name(names), accounts, code: delta.code.clone() }
    }

    /// How many slots changed.
    pub(super) fn slots(&self) -> usize {
        let groups = self.accounts.iter().filter_map(|account| account.storage.as_ref()).flatten();
        groups.map(|group| group.changes.len()).sum()
    }

    /// The names that accounts of the state before it have here, in order.
    pub fn names(&self) -> &[AddressPrefix] {
        self.words.named()
    }

    /// What changed, of accounts by their addresses. `found` are those that alone begin as each of the [names](Self::names) says, among the accounts of the state
    /// before it; `messages` the ids of the messages to L1 that were sent.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn resolve(
        &self,
        found: &[Option<Address>],
        messages: &[B256],
    ) -> Result<StateDelta, NameError> {
        let words = self.words.resolve(found)?;
        let mut delta = StateDelta { accounts: BTreeMap::new(), code: self.code.clone() };
        for account in &self.accounts {
            let address = words.address_at(account.address);
            debug_assert!(address.is_some(), "positions are checked when they are read");
            let address = address.unwrap_or_default();
            delta.accounts.insert(address, account.resolve(address, &words)?);
        }
        if messages_are_recorded(&delta, messages) { Ok(delta) } else { Err(NameError::Messages) }
    }
}

impl NamedAccount {
    fn of(account: &AccountDelta, address: usize, storage: Option<Vec<Group>>) -> Self {
        let (nonce, balance, code_hash) = match account {
            AccountDelta::Removed => (0, None, None),
            AccountDelta::Changed { nonce, balance, code_hash, .. } => {
                (*nonce, *balance, *code_hash)
            }
        };
        let is_removed = *account == AccountDelta::Removed;
        Self { address, is_removed, nonce, balance, code_hash, storage }
    }

    fn resolve(&self, address: Address, words: &Words) -> Result<AccountDelta, NameError> {
        if self.is_removed {
            return Ok(AccountDelta::Removed);
        }
        let mut storage = BTreeMap::new();
        for Group { keys, changes } in self.storage.iter().flatten() {
            for (slot, change) in keys.slots(words).into_iter().zip(changes) {
                if storage.insert(slot, *change).is_some() {
                    return Err(NameError::SlotTwice { account: address, slot });
                }
            }
        }
        let Self { nonce, balance, code_hash, .. } = *self;
        Ok(AccountDelta::Changed { nonce, balance, code_hash, storage })
    }
}

impl Keys {
    fn slots(&self, words: &Words) -> Vec<B256> {
        let word = |position: usize| -> U256 { words.word(position).unwrap_or_default() };
        match self {
            Self::Plain(slots) => slots.clone(),
            Self::Entries(mapping, keys) => {
                let keys: Vec<_> = keys.iter().map(|key| word(*key)).collect();
                mapping.map(word).slots(&keys)
            }
        }
    }
}

/// The changed slots of one account, by what their keys follow from.
#[derive(Debug, Default)]
struct Slots {
    plain: BTreeMap<B256, Change>,
    mappings: BTreeMap<Mapping<U256>, BTreeMap<U256, Change>>,
}

impl Slots {
    fn of(address: Address, storage: &BTreeMap<B256, Change>, hints: &KeyHints) -> Self {
        let mut slots = Self::default();
        let mut hinted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (slot, change) in storage {
            match hints.origin(address, *slot) {
                Some((mapping, key)) => {
                    hinted.entry(mapping).or_default().push((key, *slot, *change));
                }
                None => drop(slots.plain.insert(*slot, *change)),
            }
        }
        for (mapping, entries) in hinted {
            let keys: Vec<_> = entries.iter().map(|(key, ..)| *key).collect();
            for (computed, (key, slot, change)) in mapping.slots(&keys).into_iter().zip(entries) {
                // (A hint that is wrong does no harm.)
                if computed == slot {
                    slots.mappings.entry(mapping).or_default().insert(key, change);
                } else {
                    slots.plain.insert(slot, change);
                }
            }
        }
        slots
    }

    /// The words that the keys are.
    fn words(&self) -> impl Iterator<Item = U256> {
        let second = self.mappings.keys().filter_map(|mapping| mapping.then);
        let keys: BTreeSet<_> = self.mappings.values().flat_map(BTreeMap::keys).copied().collect();
        second.chain(keys)
    }

    fn groups(&self, words: &Words) -> Vec<Group> {
        let mut groups = Vec::new();
        if !self.plain.is_empty() {
            let (keys, changes) = self.plain.iter().unzip();
            groups.push(Group { keys: Keys::Plain(keys), changes });
        }
        // Every word is among the batch's: they were collected from these slots.
        let position = |word| words.position(word).unwrap_or_default();
        for (mapping, entries) in &self.mappings {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, change)| (position(*key), *change)).collect();
            entries.sort_unstable_by_key(|(position, _)| *position);
            let (keys, changes) = entries.into_iter().unzip();
            groups.push(Group { keys: Keys::Entries(mapping.map(position), keys), changes });
        }
        groups
    }
}

/// Whether the messages are those that the blocks recorded: a batch could otherwise name any.
pub(super) fn messages_are_recorded(delta: &StateDelta, messages: &[B256]) -> bool {
    let mut recorded: Vec<_> = match delta.accounts.get(&MESSAGE_PASSER) {
        Some(AccountDelta::Changed { storage, .. }) => {
            storage.keys().filter(|slot| **slot != MESSAGE_COUNT_SLOT).copied().collect()
        }
        Some(AccountDelta::Removed) | None => Vec::new(),
    };
    recorded.sort_unstable();
    let mut named: Vec<_> = messages.iter().map(|id| message_slot(*id)).collect();
    named.sort_unstable();
    named == recorded
}
