//! The short path: plain transfers, whose reads and writes are known without running the EVM.

use alloy::consensus::Transaction;
use alloy_primitives::{Address, KECCAK256_EMPTY, TxKind, U256};
use millrace_proto::{RecoveredTx, TxEnvelope};
use revm::{context::Cfg, primitives::hardfork::SpecId};

use super::{
    changes::Notes,
    fetch::Parties,
    state::{AccountState, AccountWrite, Life, is_huge},
    view::Shared,
};
use crate::evm::{EvmEnv, StateReadError};

/// Gas of a transaction without data (EIP-2028 and before).
const GAS: u64 = 21_000;

/// When transfers are plain, as far as the block decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainRules {
    chain_id: u64,
    base_fee: u128,
    most_gas: u64,
    beneficiary: Address,
    keeps_base_fee: bool,
}

/// A transfer of ether that costs 21,000 gas and cannot fail, if its accounts are as [`Plain::commit`] needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain {
    sender: Address,
    recipient: Address,
    nonce: u64,
    value: U256,
    /// What the sender has to have.
    least: U256,
    fee: U256,
    pub(super) reward: U256,
}

impl PlainRules {
    /// `None` where no transfer takes the short path: under rules before London or after Osaka.
    pub(super) fn new(env: &EvmEnv) -> Option<Self> {
        let spec = env.cfg.spec;
        let known = spec.is_enabled_in(SpecId::LONDON) && !spec.is_enabled_in(SpecId::AMSTERDAM);
        // What revm refuses every transaction for.
        let complete = (env.block.prevrandao.is_some() || !spec.is_enabled_in(SpecId::MERGE))
            && (env.block.blob_excess_gas_and_price.is_some()
                || !spec.is_enabled_in(SpecId::CANCUN));
        (known && complete).then(|| Self {
            chain_id: env.cfg.chain_id,
            base_fee: u128::from(env.block.basefee),
            most_gas: env.block.gas_limit.min(env.cfg.tx_gas_limit_cap()),
            beneficiary: env.block.beneficiary,
            keeps_base_fee: env.rollup,
        })
    }

    /// The transfer that a transaction is, or `None` if the EVM has to say.
    pub(super) fn of(&self, recovered: &RecoveredTx) -> Option<Plain> {
        let tx = recovered.tx();
        if !tx.input().is_empty() {
            return None;
        }
        let legacy = match tx {
            TxEnvelope::Legacy(_) => true,
            TxEnvelope::Eip1559(tx) if tx.tx().access_list.is_empty() => false,
            _ => return None,
        };
        let TxKind::Call(recipient) = tx.kind() else { return None };
        let (sender, nonce, gas_limit) = (recovered.sender(), tx.nonce(), tx.gas_limit());
        let (max_fee, tip) = (tx.max_fee_per_gas(), tx.max_priority_fee_per_gas());
        let on_chain = match tx.chain_id() {
            Some(chain_id) => chain_id == self.chain_id,
            None => legacy,
        };
        // Precompiles have addresses of two bytes.
        let precompile = recipient.as_slice()[..18].iter().all(|byte| *byte == 0);
        if precompile
            || recipient == self.beneficiary
            || sender == self.beneficiary
            || !on_chain
            || max_fee < self.base_fee
            || tip.is_some_and(|tip| tip > max_fee)
            || gas_limit < GAS
            || gas_limit > self.most_gas
            || nonce == u64::MAX
            || is_huge(tx.value())
        {
            return None;
        }
        let price = match tip {
            Some(tip) => max_fee.min(self.base_fee.saturating_add(tip)),
            None => max_fee,
        };
        let rewarded = if self.keeps_base_fee { price } else { price - self.base_fee };
        let most_fee = u128::from(gas_limit).checked_mul(max_fee)?;
        let value = tx.value();
        Some(Plain {
            sender,
            recipient,
            nonce,
            value,
            least: U256::from(most_fee).checked_add(value)?,
            fee: U256::from(price) * U256::from(GAS),
            reward: U256::from(rewarded) * U256::from(GAS),
        })
    }
}

impl Plain {
    pub(super) const GAS: u64 = GAS;

    /// Moves the ether, with the accounts from `before` the block if they were read. Nothing is changed, and the answer is `false`, if
    /// the transfer needs the EVM: because it is invalid, or its recipient has code.
    pub(super) fn commit(
        &self,
        shared: &Shared,
        index: u32,
        before: Option<&Parties>,
        notes: Option<&mut Notes>,
    ) -> Result<bool, StateReadError> {
        let accounts = &shared.memory.accounts;
        let base = |address, before: Option<_>| {
            move || match before {
                Some(info) => Ok(AccountState::base(info)),
                None => shared.base_account(address),
            }
        };
        let [sender, recipient] = before.map_or([None; 2], |parties| parties.map(Some));
        let (sender, recipient) = (base(self.sender, sender), base(self.recipient, recipient));
        let mut unpaid = None;
        let paid = accounts.update(self.sender, None, sender, |state| {
            unpaid = Some(*state);
            let info = state.info.as_mut()?;
            let pays = info.code_hash == KECCAK256_EMPTY
                && info.nonce == self.nonce
                && info.balance >= self.least;
            if !pays {
                return None;
            }
            info.balance -= self.fee + self.value;
            info.nonce += 1;
            Some(*state)
        })?;
        let (Some(unpaid), Some(paid)) = (unpaid, paid) else { return Ok(false) };
        let write = AccountWrite {
            address: self.recipient,
            balance: self.value,
            nonce: None,
            code_hash: None,
            life: Life::Goes,
        };
        let received = accounts.update(self.recipient, None, recipient, |state| {
            let code = state.info.is_some_and(|info| info.code_hash != KECCAK256_EMPTY);
            let plain = !code && !state.is_huge();
            plain.then(|| {
                let before = *state;
                *state = write.apply(state, index, shared.removes_empty);
                (before, *state)
            })
        })?;
        let Some((before, after)) = received else {
            accounts.commit(self.sender, unpaid, None);
            return Ok(false);
        };
        if let Some(notes) = notes {
            for (address, before, after) in
                [(self.sender, unpaid, paid), (self.recipient, before, after)]
            {
                notes.account(address);
                notes.change(address, &before, &after);
            }
        }
        Ok(true)
    }
}
