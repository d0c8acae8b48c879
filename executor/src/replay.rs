//! Executing derived blocks again.

use std::{path::Path, sync::Arc};

use alloy::consensus::Transaction;
use millrace_proto::{
    BlockAttributes, BlockSelector, ChainSpec, DerivedBlock, ExecutedBlock, ExecutorError,
    RejectReason, Replay, ReplayError, SealedHeader, TxOutcome,
};

use crate::{
    chain::Chain,
    evm::{ExecutionError, PlanError},
    store::{StoreConfig, StoreError},
};

/// A rollup that is rebuilt from derived blocks, in a store of its own, on the sequential path.
#[derive(Debug)]
pub struct Replayer {
    chain: Chain,
}

impl Replayer {
    /// Opens the store in `data_dir`, or begins one with the chain's genesis block.
    ///
    /// # Errors
    /// When the store cannot be opened, or holds another chain.
    pub fn open(
        data_dir: &Path,
        config: &StoreConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<Self, StoreError> {
        Ok(Self { chain: Chain::open(data_dir, config, spec)? })
    }
}

impl Replay for Replayer {
    fn head(&self) -> SealedHeader {
        self.chain.head()
    }

    fn replay(&mut self, block: DerivedBlock) -> Result<Arc<ExecutedBlock>, ReplayError> {
        let number = block.number;
        let invalid =
            |error: PlanError| ReplayError::Invalid { number, problem: error.to_string() };
        let parent = self.chain.head();
        if !self.chain.spec().is_rollup() {
            let problem = "the chain is no rollup".to_owned();
            return Err(ReplayError::Invalid { number, problem });
        }
        if block.timestamp < parent.timestamp {
            let (got, parent) = (block.timestamp, parent.timestamp);
            return Err(invalid(PlanError::Timestamp { got, parent }));
        }
        let attributes = BlockAttributes {
            number,
            ..BlockAttributes::rollup(
                self.chain.spec(),
                &parent,
                block.timestamp,
                block.deposits_end,
            )
        };
        let plan = self.chain.plan(attributes).map_err(invalid)?;
        let mut executor = self.chain.begin(&plan)?;
        for tx in &block.transactions {
            let room = plan.attributes().gas_limit.saturating_sub(executor.gas_used());
            let reason = match executor.execute(tx) {
                Ok(TxOutcome::Included { .. }) => continue,
                Ok(TxOutcome::Invalid(reason)) => reason,
                Ok(TxOutcome::NoRoom) => {
                    RejectReason::GasOverLimit { got: tx.tx().gas_limit(), limit: room }
                }
                Err(ExecutionError::NotIncludable { reason, .. }) => reason,
                Err(error) => return Err(ExecutorError::from(error).into()),
            };
            return Err(ReplayError::InvalidTransaction { number, hash: tx.hash(), reason });
        }
        let output = executor.finish().map_err(ExecutorError::from)?;
        plan.check(&output).map_err(invalid)?;
        let committed = self.chain.commit(&plan, output).map_err(ExecutorError::from)?;
        Ok(committed.block)
    }

    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError> {
        let block = self.chain.store().block(BlockSelector::Number(number));
        Ok(block.map_err(ExecutorError::from)?)
    }
}
