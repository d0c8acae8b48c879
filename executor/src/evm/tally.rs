//! What a block holds so far, and what may still enter it: the same for every way of executing.

use std::sync::Arc;

use alloy::consensus::{Transaction, TransactionEnvelope, TxReceipt};
use alloy_primitives::{Bloom, Log};
use millrace_proto::{
    Receipt, RecoveredTx, RejectReason, SharedReceipt, TxDeposit, TxEnvelope, TxOutcome,
};
use revm::context::Cfg;

use super::{EvmEnv, ExecutionError};

/// A block's transactions and receipts, and the gas that they used.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) transactions: Vec<Arc<RecoveredTx>>,
    /// Shared with the transactions' outcomes.
    pub(super) receipts: Vec<SharedReceipt>,
    /// Of the first of them, as far as they were found.
    pub(super) blooms: Vec<Bloom>,
    pub(super) gas_used: u64,
    pub(super) blob_gas_used: u64,
}

/// How a transaction comes to the block.
pub(super) enum Entry<'a> {
    /// To be executed as a deposit.
    Deposit(&'a TxDeposit),
    /// To be executed.
    Ordinary,
    /// Not to be executed.
    Refused(TxOutcome),
}

impl Tally {
    /// What can be said of the next transaction without the state.
    ///
    /// # Errors
    /// For a deposit after an ordinary transaction.
    pub(super) fn enter<'a>(
        &self,
        env: &EvmEnv,
        tx: &'a RecoveredTx,
    ) -> Result<Entry<'a>, ExecutionError> {
        let unsupported = || {
            let ty = tx.tx().tx_type().into();
            Entry::Refused(TxOutcome::Invalid(RejectReason::UnsupportedType { ty }))
        };
        if let Some(deposit) = tx.tx().as_deposit() {
            if !env.rollup {
                return Ok(unsupported());
            }
            if self.transactions.last().is_some_and(|last| !last.tx().is_deposit()) {
                let detail = "a deposit after another transaction of the block".to_owned();
                let reason = RejectReason::Invalid { detail };
                return Err(ExecutionError::NotIncludable { hash: tx.hash(), reason });
            }
            return Ok(Entry::Deposit(deposit));
        }
        if env.rollup && matches!(tx.tx(), TxEnvelope::Eip4844(_)) {
            return Ok(unsupported());
        }
        if self.has_room(env, tx.tx()) {
            Ok(Entry::Ordinary)
        } else {
            Ok(Entry::Refused(TxOutcome::NoRoom))
        }
    }

    /// Whether a transaction with these limits fits into the rest of the block. One that would not fit into an empty
    /// block either is left to validation, which says why.
    fn has_room(&self, env: &EvmEnv, tx: &TxEnvelope) -> bool {
        let gas_limit = tx.gas_limit();
        let most = env.block.gas_limit;
        let never_fits = gas_limit > most.min(env.cfg.tx_gas_limit_cap());
        let gas_fits = never_fits || gas_limit <= most.saturating_sub(self.gas_used);
        let blob_gas = tx.blob_gas_used().unwrap_or(0);
        let most_blob = env.blob_params.map_or(0, |params| params.max_blob_gas_per_block());
        let blobs_fit = blob_gas > most_blob || self.blob_gas_used + blob_gas <= most_blob;
        gas_fits && blobs_fit
    }

    /// Finds the blooms of the receipts that have none yet.
    pub(super) fn find_blooms(&mut self) {
        let new = self.receipts[self.blooms.len()..].iter().map(|receipt| receipt.bloom());
        self.blooms.extend(new);
    }

    /// Adds an executed transaction.
    pub(super) fn include(
        &mut self,
        tx: &Arc<RecoveredTx>,
        success: bool,
        gas_used: u64,
        logs: Vec<Log>,
    ) -> TxOutcome {
        self.gas_used = self.gas_used.saturating_add(gas_used);
        self.blob_gas_used += tx.tx().blob_gas_used().unwrap_or(0);
        let receipt = SharedReceipt::from(Receipt {
            tx_type: tx.tx().tx_type(),
            success,
            cumulative_gas_used: self.gas_used,
            logs,
        });
        let index = self.transactions.len() as u64;
        self.transactions.push(tx.clone());
        self.receipts.push(receipt.clone());
        TxOutcome::Included { index, gas_used, receipt }
    }
}
