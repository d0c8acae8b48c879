//! State and block fields that a call assumes instead of the chain's.

use std::collections::BTreeMap;

use alloy::rpc::types::{BlockOverrides, state::StateOverride};
use alloy_primitives::{
    Address, B256, Bytes, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use millrace_proto::{AccountInfo, ExecutorError};

use crate::evm::{EvmEnv, StateReadError, StateReader};

/// A state with some of it replaced.
#[derive(Debug)]
pub(in crate::service) struct OverriddenState<R> {
    reader: R,
    accounts: AddressMap<Overridden>,
    code: B256Map<Bytes>,
    block_hashes: BTreeMap<u64, B256>,
}

#[derive(Debug, Default)]
struct Overridden {
    balance: Option<U256>,
    nonce: Option<u64>,
    code_hash: Option<B256>,
    slots: HashMap<U256, U256>,
    /// Slots that are not in `slots` are zero.
    whole_storage: bool,
}

impl<R: StateReader> OverriddenState<R> {
    pub(super) fn new(
        reader: R,
        overrides: StateOverride,
        block_hashes: BTreeMap<u64, B256>,
    ) -> Result<Self, ExecutorError> {
        let mut accounts = AddressMap::default();
        let mut code_by_hash = B256Map::default();
        for (address, account) in overrides {
            if account.move_precompile_to.is_some() {
                let problem = "movePrecompileToAddress is not supported".to_owned();
                return Err(ExecutorError::InvalidRequest(problem));
            }
            if account.state.is_some() && account.state_diff.is_some() {
                let problem = format!("account {address} has both state and stateDiff");
                return Err(ExecutorError::InvalidRequest(problem));
            }
            let code_hash = account.code.map(|code| {
                let hash = keccak256(&code);
                code_by_hash.insert(hash, code);
                hash
            });
            let whole_storage = account.state.is_some();
            let slots = account.state.or(account.state_diff).unwrap_or_default();
            let overridden = Overridden {
                balance: account.balance,
                nonce: account.nonce,
                code_hash,
                slots: slots.into_iter().map(|(slot, value)| (slot.into(), value.into())).collect(),
                whole_storage,
            };
            accounts.insert(address, overridden);
        }
        Ok(Self { reader, accounts, code: code_by_hash, block_hashes })
    }
}

impl<R: StateReader> StateReader for OverriddenState<R> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        let account = self.reader.account(address)?;
        let Some(overridden) = self.accounts.get(&address) else { return Ok(account) };
        let account = account.unwrap_or_default();
        Ok(Some(AccountInfo {
            balance: overridden.balance.unwrap_or(account.balance),
            nonce: overridden.nonce.unwrap_or(account.nonce),
            code_hash: overridden.code_hash.unwrap_or(account.code_hash),
        }))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let Some(overridden) = self.accounts.get(&address) else {
            return self.reader.storage(address, slot);
        };
        match overridden.slots.get(&slot) {
            Some(value) => Ok(*value),
            None if overridden.whole_storage => Ok(U256::ZERO),
            None => self.reader.storage(address, slot),
        }
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        let Some(overridden) = self.accounts.get(&address) else {
            return self.reader.storage_of(address);
        };
        let mut slots = overridden.slots.clone();
        if !overridden.whole_storage {
            for (slot, value) in self.reader.storage_of(address)? {
                slots.entry(slot).or_insert(value);
            }
        }
        Ok(slots.into_iter().filter(|(_, value)| !value.is_zero()).collect())
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        match self.code.get(&hash) {
            Some(code) => Ok(Some(code.clone())),
            None => self.reader.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        match self.block_hashes.get(&number) {
            Some(hash) => Ok(Some(*hash)),
            None => self.reader.block_hash(number),
        }
    }
}

/// Replaces block fields; returns the block hashes to assume.
pub(super) fn override_block(
    env: &mut EvmEnv,
    overrides: BlockOverrides,
) -> Result<BTreeMap<u64, B256>, ExecutorError> {
    let too_large = |field: &str| ExecutorError::InvalidRequest(format!("{field} is too large"));
    let block = &mut env.block;
    if let Some(number) = overrides.number {
        block.number = number;
    }
    if let Some(difficulty) = overrides.difficulty {
        block.difficulty = difficulty;
    }
    if let Some(time) = overrides.time {
        block.timestamp = U256::from(time);
    }
    if let Some(gas_limit) = overrides.gas_limit {
        block.gas_limit = gas_limit;
    }
    if let Some(coinbase) = overrides.coinbase {
        block.beneficiary = coinbase;
    }
    if let Some(random) = overrides.random {
        block.prevrandao = Some(random);
    }
    if let Some(base_fee) = overrides.base_fee {
        block.basefee = base_fee.try_into().map_err(|_| too_large("baseFeePerGas"))?;
    }
    if let Some(blob_base_fee) = overrides.blob_base_fee
        && let Some(blob) = &mut block.blob_excess_gas_and_price
    {
        blob.blob_gasprice = blob_base_fee.try_into().map_err(|_| too_large("blobBaseFee"))?;
    }
    Ok(overrides.block_hash.unwrap_or_default())
}
