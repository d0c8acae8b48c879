//! Accounts and slots as parallel execution keeps them.

use alloy_primitives::{Address, B256, U256};
use millrace_proto::AccountInfo;
use revm::state::Account;

/// Above this many bits a balance is compared exactly, so that no sum can overflow unseen.
const SAFE_BITS: usize = 200;

/// An account at some point of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AccountState {
    /// `None`: it does not exist.
    pub(super) info: Option<AccountInfo>,
    /// Zero while the storage is that from before the block. When a transaction creates or destroys the account, its storage starts anew
    /// under that transaction's number in the block plus one, and what was written under earlier generations is out of reach.
    pub(super) generation: u32,
}

/// Names a storage slot: by all of its key, so that no two slots can be taken for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SlotKey {
    pub(super) address: Address,
    pub(super) generation: u32,
    pub(super) slot: U256,
}

/// An account as a transaction saw it, and what the result depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccountRead {
    pub(super) address: Address,
    pub(super) seen: AccountState,
    /// The nonce that the EVM was given: the transaction's own where earlier transactions of the sender are still to come.
    pub(super) nonce: u64,
    /// Whether `seen` was written in this block.
    pub(super) written: bool,
    /// Whether it was not committed.
    pub(super) early: bool,
    /// Whether the result depends on the exact balance.
    pub(super) exact: bool,
    /// The least balance that gives the same result, where the exact one does not matter.
    pub(super) least: U256,
}

/// A slot as a transaction saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotRead {
    pub(super) key: SlotKey,
    pub(super) seen: U256,
    /// Whether `seen` was written in this block.
    pub(super) written: bool,
    /// Whether it was not committed.
    pub(super) early: bool,
}

/// What a transaction does to an account. Balances are changed by a difference, so that payments to one account do not
/// depend on each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccountWrite {
    pub(super) address: Address,
    /// Added to the balance, modulo 2^256.
    pub(super) balance: U256,
    pub(super) nonce: Option<u64>,
    pub(super) code_hash: Option<B256>,
    pub(super) life: Life,
}

/// What becomes of an account's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It stays.
    Goes,
    /// The account is created: its storage starts empty.
    Begins,
    /// The account is destroyed.
    Ends,
}

/// A slot's new value; `account` is the index of its account among the writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotWrite {
    pub(super) account: u32,
    pub(super) slot: U256,
    pub(super) value: U256,
}

impl Life {
    /// What a transaction's journal says.
    pub(super) fn of(account: &Account) -> Self {
        match (account.is_selfdestructed(), account.is_created()) {
            (true, _) => Self::Ends,
            (false, true) => Self::Begins,
            (false, false) => Self::Goes,
        }
    }

    /// The account after transaction `index` of the block, which touched it and left `info`. `removes_empty` is EIP-161.
    pub(super) fn lead(
        self,
        before: &AccountState,
        info: AccountInfo,
        index: u32,
        removes_empty: bool,
    ) -> AccountState {
        let anew = index + 1;
        if self == Self::Ends {
            return AccountState { info: None, generation: anew };
        }
        let begins = self == Self::Begins;
        if removes_empty && is_empty(&info) {
            let wipes = begins || before.info.is_some();
            let generation = if wipes { anew } else { before.generation };
            return AccountState { info: None, generation };
        }
        let generation = if begins { anew } else { before.generation };
        AccountState { info: Some(info), generation }
    }
}

impl AccountState {
    /// An account from before the block.
    pub(super) const fn base(info: Option<AccountInfo>) -> Self {
        Self { info, generation: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.info.as_ref().is_none_or(is_empty)
    }

    fn balance(&self) -> U256 {
        self.info.map_or(U256::ZERO, |info| info.balance)
    }

    /// Whether its balance is so large that sums with it might overflow.
    pub(super) fn is_huge(&self) -> bool {
        is_huge(self.balance())
    }
}

/// Whether an amount is so large that sums with it might overflow.
pub(super) const fn is_huge(amount: U256) -> bool {
    amount.bit_len() > SAFE_BITS
}

/// A balance after a payment. As revm: a sum that overflows is not paid.
pub(super) fn paid(balance: U256, amount: U256) -> U256 {
    balance.checked_add(amount).unwrap_or(balance)
}

pub(super) fn is_empty(info: &AccountInfo) -> bool {
    info.balance.is_zero() && info.nonce == 0 && info.code_hash == AccountInfo::default().code_hash
}

impl AccountRead {
    /// Whether the transaction would have done the same, had it seen `now`.
    pub(super) fn holds(&self, now: &AccountState) -> bool {
        if now.generation != self.seen.generation || now.is_empty() != self.seen.is_empty() {
            return false;
        }
        match (&self.seen.info, &now.info) {
            (None, None) => true,
            (Some(seen), Some(now_info)) => {
                now_info.code_hash == seen.code_hash
                    && now_info.nonce == self.nonce
                    && if self.exact {
                        now_info.balance == seen.balance
                    } else {
                        now_info.balance >= self.least && !now.is_huge()
                    }
            }
            _ => false,
        }
    }
}

impl AccountWrite {
    /// The account after the write, which is that of transaction `index` of the block.
    pub(super) fn apply(
        &self,
        before: &AccountState,
        index: u32,
        removes_empty: bool,
    ) -> AccountState {
        let mut info = before.info.unwrap_or_default();
        info.balance = info.balance.wrapping_add(self.balance);
        info.nonce = self.nonce.unwrap_or(info.nonce);
        info.code_hash = self.code_hash.unwrap_or(info.code_hash);
        self.life.lead(before, info, index, removes_empty)
    }
}
