//! Senders' accounts: read once from the executor, then kept current with what each block changed.

use std::sync::Arc;

use alloy::primitives::{
    Address, B256, KECCAK256_EMPTY, U256,
    map::{AddressMap, AddressSet},
};
use millrace_proto::{AccountInfo, BlockSelector, Executor, ExecutorError, StateDiff};

use super::{Pool, Sender};

/// How many blocks an account's reading may lie behind the pool.
const RECENT_DIFFS: usize = 32;

/// What admission needs of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    /// Wei.
    pub(crate) balance: U256,
    code_hash: B256,
    /// Has code that is no delegation (EIP-3607, EIP-7702).
    pub(crate) is_contract: bool,
}

/// Accounts as they were after a block.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The block.
    pub(crate) at: u64,
    /// How often blocks had been taken back when it was the pool's.
    pub(crate) unwound: u64,
    /// One for each address that was asked for.
    pub(crate) accounts: AddressMap<Account>,
}

impl Account {
    fn new(info: Option<AccountInfo>, is_contract: bool) -> Self {
        let info = info.unwrap_or_default();
        Self { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash, is_contract }
    }

    #[cfg(test)]
    pub(super) fn for_tests(info: AccountInfo) -> Self {
        Self::new(Some(info), false)
    }

    /// The account after a block that changed it. Code that was known before the block counts as a delegation here:
    /// the executor has the last word.
    fn update(&mut self, after: Option<AccountInfo>, diff: &StateDiff) {
        let info = after.unwrap_or_default();
        if info.code_hash != self.code_hash {
            self.is_contract = info.code_hash != KECCAK256_EMPTY
                && diff.code.get(&info.code_hash).is_some_and(|code| !is_delegation(code));
        }
        (self.nonce, self.balance, self.code_hash) = (info.nonce, info.balance, info.code_hash);
    }
}

/// EIP-7702: `0xef0100` and an address.
fn is_delegation(code: &[u8]) -> bool {
    code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00])
}

/// Reads accounts as they are after a block.
pub(crate) async fn load_accounts(
    executor: &dyn Executor,
    addresses: &[Address],
    at: u64,
) -> Result<Loaded, ExecutorError> {
    let selector = BlockSelector::Number(at);
    let infos = executor.accounts(addresses, selector).await?;
    let mut accounts = AddressMap::default();
    for (address, info) in addresses.iter().zip(infos) {
        let has_code = info.is_some_and(|info| info.code_hash != KECCAK256_EMPTY);
        let is_contract = has_code && !is_delegation(&executor.code(*address, selector).await?);
        accounts.insert(*address, Account::new(info, is_contract));
    }
    Ok(Loaded { at, unwound: 0, accounts })
}

impl Pool {
    /// Those of the addresses whose accounts are not known here, each once.
    pub(crate) fn unknown(&self, addresses: impl Iterator<Item = Address>) -> Vec<Address> {
        let unknown: AddressSet =
            addresses.filter(|address| !self.senders.contains_key(address)).collect();
        unknown.into_iter().collect()
    }

    /// Senders that have transactions here.
    pub(crate) fn active_senders(&self) -> Vec<Address> {
        let active = self.senders.iter().filter(|(_, sender)| !sender.entries.is_empty());
        active.map(|(address, _)| *address).collect()
    }

    /// The sender, with an account that was read if it is not known here yet. `None` if that reading is missing, or too old
    /// to be brought up to date.
    pub(super) fn sender_or_load(
        &mut self,
        address: Address,
        loaded: &Loaded,
    ) -> Option<&mut Sender> {
        if !self.senders.contains_key(&address) {
            let mut account = *loaded.accounts.get(&address)?;
            if loaded.unwound != self.unwound {
                return None;
            }
            if loaded.at < self.head {
                let newer: Vec<_> =
                    self.recent.iter().filter(|(number, _)| *number > loaded.at).collect();
                if newer.len() as u64 != self.head - loaded.at {
                    return None;
                }
                for (_, diff) in newer {
                    if let Some(change) = diff.accounts.get(&address) {
                        account.update(change.after, diff);
                    }
                }
            }
            self.forget_idle();
            self.senders.insert(address, Sender::new(account));
            self.idle.push_back(address);
        }
        self.senders.get_mut(&address)
    }

    /// Takes over what a sealed block changed. Returns the senders that are concerned.
    pub(super) fn apply_diff(&mut self, number: u64, diff: Arc<StateDiff>) -> Vec<Address> {
        let mut changed = Vec::new();
        for (address, change) in &diff.accounts {
            if let Some(sender) = self.senders.get_mut(address) {
                sender.account.update(change.after, &diff);
                changed.push(*address);
            }
        }
        self.recent.push_back((number, diff));
        if self.recent.len() > RECENT_DIFFS {
            self.recent.pop_front();
        }
        self.head = number;
        changed
    }

    /// Takes over accounts that were read again, where a block's changes could not be had; forgets all others.
    pub(super) fn apply_loaded(&mut self, loaded: Loaded) -> Vec<Address> {
        self.recent.clear();
        self.head = loaded.at;
        self.senders.retain(|address, sender| {
            !sender.entries.is_empty() || loaded.accounts.contains_key(address)
        });
        self.idle.retain(|address| self.senders.contains_key(address));
        let mut changed = Vec::new();
        for (address, account) in loaded.accounts {
            if let Some(sender) = self.senders.get_mut(&address) {
                sender.account = account;
                changed.push(address);
            }
        }
        changed
    }
}
