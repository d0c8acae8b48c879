//! The plainest correct loop over revm: one transaction after the other through revm's own cache, nothing of ours.

use std::sync::Arc;

use alloy::consensus::{Transaction, Typed2718};
use alloy_primitives::{Address, B256, Bytes, U256, map::B256Map};
use millrace_executor::{EvmEnv, MemoryState, StateReadError, StateReader};
use millrace_proto::RecoveredTx;
use revm::{
    Context, DatabaseRef, ExecuteCommitEvm, MainBuilder, MainContext,
    bytecode::Bytecode,
    context::{TxEnv, result::ExecutionResult},
    context_interface::either::Either,
    database::{Cache, CacheDB},
    state::AccountInfo,
};

/// A state as revm's database, with its code analysed beforehand.
#[derive(Debug)]
pub struct BareRevm {
    state: Arc<MemoryState>,
    code: B256Map<Bytecode>,
}

/// What the loop gives: revm's results, and the cache that holds what changed.
#[derive(Debug)]
pub struct BareOutcome {
    /// A result a transaction, or `None` for one that is invalid.
    pub results: Vec<Option<ExecutionResult>>,
    /// What was read and written.
    pub cache: Cache,
}

impl BareOutcome {
    /// Gas used by all transactions.
    pub fn gas_used(&self) -> u64 {
        self.results.iter().flatten().map(ExecutionResult::tx_gas_used).sum()
    }
}

impl BareRevm {
    /// Analyses all code of the state.
    pub fn new(state: Arc<MemoryState>) -> Self {
        let code = state.codes().map(|(hash, code)| (hash, Bytecode::new_raw(code))).collect();
        Self { state, code }
    }

    /// Executes transactions in order, each on top of the one before.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn run(
        &self,
        env: &EvmEnv,
        transactions: &[Arc<RecoveredTx>],
    ) -> Result<BareOutcome, StateReadError> {
        use revm::context::result::EVMError;
        let mut evm = Context::mainnet()
            .with_db(CacheDB::new(self))
            .with_cfg(env.cfg.clone())
            .with_block(env.block.clone())
            .build_mainnet();
        let mut results = Vec::with_capacity(transactions.len());
        for tx in transactions {
            match evm.transact_commit(bare_tx(tx)) {
                Ok(result) => results.push(Some(result)),
                Err(EVMError::Database(error)) => return Err(error),
                Err(_) => results.push(None),
            }
        }
        Ok(BareOutcome { results, cache: evm.ctx.journaled_state.database.cache })
    }
}

impl DatabaseRef for &BareRevm {
    type Error = StateReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        let account = self.state.account(address)?;
        Ok(account.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: self.code.get(&account.code_hash).cloned(),
            account_id: None,
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateReadError> {
        Ok(self.code.get(&hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        self.state.storage(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateReadError> {
        Ok(self.state.block_hash(number)?.unwrap_or_default())
    }
}

pub(crate) fn bare_tx(recovered: &RecoveredTx) -> TxEnv {
    let tx = recovered.tx();
    TxEnv {
        tx_type: tx.ty(),
        caller: recovered.sender(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: Bytes::clone(tx.input()),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: tx.blob_versioned_hashes().map(<[_]>::to_vec).unwrap_or_default(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas().unwrap_or(0),
        authorization_list: tx
            .authorization_list()
            .map(|list| list.iter().cloned().map(Either::Left).collect())
            .unwrap_or_default(),
    }
}
