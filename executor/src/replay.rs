//! Executing derived blocks again, or putting what they changed on the state before them.

use std::{path::Path, sync::Arc};

use alloy::{
    consensus::Transaction,
    primitives::{Address, B256},
};
use millrace_proto::{
    AddressPrefix, BatchLimits, BlockAttributes, BlockSelector, ChainSpec, DerivedBlock,
    DerivedStretch, ExecutedBlock, ExecutorError, RejectReason, Replay, ReplayError, SealedHeader,
    TxOutcome,
};
use rayon::prelude::*;

use crate::{
    chain::{Chain, SealedState},
    delta::{DeltaError, apply_delta},
    evm::{ExecutionError, PlanError},
    service::Shown,
    store::{StoreConfig, StoreError},
};

/// So many accounts are looked for on one thread.
const AT_ONCE: usize = 1024;

/// A rollup that is rebuilt from what L1 holds, in a store of its own: from blocks, on the sequential path, or from what they changed.
#[derive(Debug)]
pub struct Replayer {
    chain: Arc<Chain>,
    /// Who is told of the head, if the chain is shared.
    shown: Option<Shown>,
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
        let config =
            StoreConfig { transaction_index: false, gives_way: true, ..Self::store_config(config) };
        let chain = Chain::open(data_dir, &config, spec)?;
        Ok(Self { chain: Arc::new(chain), shown: None })
    }

    /// The store's configuration, with as many blocks kept as one batch can hold, which may have to be taken back.
    pub(crate) fn store_config(config: &StoreConfig) -> StoreConfig {
        let most = BatchLimits::default().max_blocks as u64;
        let history_blocks = config.history_blocks.map(|blocks| blocks.max(most));
        StoreConfig { history_blocks, ..config.clone() }
    }

    /// On a chain that an executor reads and builds on too.
    pub(crate) const fn shared(chain: Arc<Chain>, shown: Shown) -> Self {
        Self { chain, shown: Some(shown) }
    }

    /// Tells of the head.
    fn show(&self) {
        if let Some(shown) = &self.shown {
            shown.head(self.chain.head());
        }
    }

    /// Checks what the header at the end of a stretch must be whatever the stretch holds.
    fn check(
        &self,
        parent: &SealedHeader,
        first_block: u64,
        header: &SealedHeader,
    ) -> Result<(), &'static str> {
        let rollup = self.chain.spec().rollup();
        let checks = [
            (self.chain.spec().is_rollup(), "the chain is no rollup"),
            (
                parent.number.checked_add(1) == Some(first_block),
                "the stretch does not begin after the head",
            ),
            (header.number >= first_block, "the stretch ends before it begins"),
            (header.timestamp >= parent.timestamp, "its timestamp is before the head's"),
            (
                header.number != first_block || header.parent_hash == parent.seal(),
                "its parent is not the head",
            ),
            (header.gas_limit == rollup.gas_limit, "its gas limit is not the chain's"),
            (header.beneficiary == rollup.fee_recipient, "its fee recipient is not the chain's"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, problem)) => Err(problem),
            None => Ok(()),
        }
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
                block.queued.mark,
            )
        };
        let plan = self.chain.plan(attributes).map_err(invalid)?;
        let mut executor = self.chain.begin(&plan)?;
        let mut forced = plan.forced();
        for tx in block.queued.txs.iter().chain(&block.transactions) {
            let room = plan.attributes().gas_limit.saturating_sub(executor.gas_used());
            let outcome = executor.execute(tx);
            let is_forced = outcome.as_ref().is_ok_and(|outcome| forced.note(tx, outcome));
            let reason = match outcome {
                Ok(TxOutcome::Included { .. }) => continue,
                Ok(TxOutcome::Invalid(_)) if is_forced => continue,
                Ok(TxOutcome::Invalid(reason)) => reason,
                Ok(TxOutcome::NoRoom) => {
                    RejectReason::GasOverLimit { got: tx.tx().gas_limit(), limit: room }
                }
                Err(ExecutionError::NotIncludable { reason, .. }) => reason,
                Err(error) => return Err(ExecutorError::from(error).into()),
            };
            return Err(ReplayError::InvalidTransaction { number, hash: tx.hash(), reason });
        }
        let mut output = executor.finish().map_err(ExecutorError::from)?;
        output.forced = forced.included();
        plan.check(&output).map_err(invalid)?;
        let block = self.chain.commit(&plan, output).map_err(ExecutorError::from)?;
        self.show();
        Ok(block)
    }

    fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, ReplayError> {
        let state = self.chain.state(BlockSelector::Latest).map_err(ExecutorError::from)?;
        find_accounts(&state, prefixes)
    }

    fn apply(&mut self, stretch: DerivedStretch) -> Result<(), ReplayError> {
        let DerivedStretch { first_block, header, delta, messages, digest } = stretch;
        let number = header.number;
        let invalid = |problem: String| ReplayError::Invalid { number, problem };
        let parent = self.chain.head();
        self.check(&parent, first_block, &header).map_err(|problem| invalid(problem.to_owned()))?;
        let state = self.chain.state(BlockSelector::Latest).map_err(ExecutorError::from)?;
        let found = find_accounts(&state, delta.names())?;
        let delta = delta.resolve(&found, &messages).map_err(|error| invalid(error.to_string()))?;
        let diff = apply_delta(&delta, &state).map_err(|error| match error {
            DeltaError::Read(error) => ExecutorError::Store(Box::new(error)).into(),
            error => invalid(error.to_string()),
        })?;
        let claimed = header.state_root;
        match self.chain.jump(header, &diff, digest).map_err(ExecutorError::from)? {
            Ok(()) => {
                self.show();
                Ok(())
            }
            Err(computed) => Err(ReplayError::StateRoot { number, claimed, computed }),
        }
    }

    fn unwind(&mut self, number: u64) -> Result<(), ReplayError> {
        let unwound = match &self.shown {
            Some(shown) => shown.unwind(&self.chain, number),
            None => self.chain.unwind(number),
        };
        Ok(unwound.map_err(ExecutorError::from)?)
    }

    fn applied(&self, number: u64) -> Result<Option<B256>, ReplayError> {
        Ok(self.chain.store().stretch(number).map_err(ExecutorError::from)?)
    }

    fn header(&self, number: u64) -> Result<Option<SealedHeader>, ReplayError> {
        let header = self.chain.store().header(BlockSelector::Number(number));
        Ok(header.map_err(ExecutorError::from)?)
    }

    fn block(&self, number: u64) -> Result<Option<Arc<ExecutedBlock>>, ReplayError> {
        let block = self.chain.store().block(BlockSelector::Number(number));
        Ok(block.map_err(ExecutorError::from)?)
    }
}

/// On all of rayon's threads.
fn find_accounts(
    state: &SealedState,
    prefixes: &[AddressPrefix],
) -> Result<Vec<Option<Address>>, ReplayError> {
    let found = prefixes.par_chunks(AT_ONCE).map(|prefixes| state.find_accounts(prefixes));
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(ExecutorError::from)?;
    Ok(found.concat())
}
