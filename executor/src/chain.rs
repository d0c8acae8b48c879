//! A chain in its store, and how it grows by a block: what building and replaying have in common.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{
    AccountInfo, AddressPrefix, BlockAttributes, BlockSelector, ChainSpec, ExecutedBlock,
    ExecutorError, SealedHeader, StateDiff,
};

use crate::{
    evm::{
        BlockBuilder, BlockExecutor, BlockOutput, BlockPlan, CodeCache, PlanError, StateReadError,
        StateReader, WorkerPool,
    },
    store::{StateView, Store, StoreConfig, StoreError},
    warm::{WarmReader, WarmState},
};

/// A chain's rules and its store.
#[derive(Debug)]
pub(crate) struct Chain {
    spec: Arc<ChainSpec>,
    store: Arc<Store>,
    codes: Arc<CodeCache>,
    warm: Arc<WarmState>,
}

/// A block that was committed, and how long that took.
pub(crate) struct Committed {
    pub(crate) block: Arc<ExecutedBlock>,
    pub(crate) root_time: Duration,
    pub(crate) commit_time: Duration,
}

impl Chain {
    pub(crate) fn open(
        data_dir: &Path,
        config: &StoreConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<Self, StoreError> {
        let store = Arc::new(Store::open(data_dir, config, &spec)?);
        let warm = Arc::new(WarmState::new(store.head().number));
        Ok(Self { spec, store, codes: Arc::default(), warm })
    }

    pub(crate) const fn spec(&self) -> &Arc<ChainSpec> {
        &self.spec
    }

    pub(crate) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) const fn codes(&self) -> &Arc<CodeCache> {
        &self.codes
    }

    pub(crate) fn head(&self) -> SealedHeader {
        self.store.head()
    }

    /// The state after a block.
    pub(crate) fn state(&self, at: BlockSelector) -> Result<SealedState, StoreError> {
        Ok(SealedState { view: self.store.view(at)?, store: self.store.clone() })
    }

    /// Checks that a block with these attributes can follow the head.
    pub(crate) fn plan(&self, attributes: BlockAttributes) -> Result<BlockPlan, PlanError> {
        BlockPlan::new(self.spec.clone(), &self.head(), attributes)
    }

    /// Opens a block on top of the head, to be executed on the threads of `pool`.
    pub(crate) fn build(
        &self,
        plan: BlockPlan,
        pool: Arc<WorkerPool>,
    ) -> Result<BlockBuilder, ExecutorError> {
        let state = self.state(BlockSelector::Latest)?;
        let reader = Arc::new(self.warm.reader(state));
        Ok(BlockBuilder::open(plan, reader, self.codes.clone(), pool)?)
    }

    /// Opens a block on top of the head, to be executed in order.
    pub(crate) fn begin(
        &self,
        plan: &BlockPlan,
    ) -> Result<BlockExecutor<WarmReader>, ExecutorError> {
        let state = self.state(BlockSelector::Latest)?;
        Ok(BlockExecutor::open(plan, self.warm.reader(state), self.codes.clone())?)
    }

    /// Computes the block's roots and makes it the head.
    pub(crate) fn commit(
        &self,
        plan: &BlockPlan,
        mut output: BlockOutput,
    ) -> Result<Committed, StoreError> {
        let started = Instant::now();
        let diff = std::mem::take(&mut output.diff);
        let root = self.store.root(&diff)?;
        let root_time = started.elapsed();
        let block = Arc::new(plan.seal(output, root.root));
        let started = Instant::now();
        self.store.commit(block.clone(), &diff, root)?;
        self.warm.follow(block.number(), &diff);
        Ok(Committed { block, root_time, commit_time: started.elapsed() })
    }

    /// Takes back the blocks after `number`.
    pub(crate) fn unwind(&self, number: u64) -> Result<(), StoreError> {
        let result = self.store.unwind(number);
        // Also if only some were taken back.
        self.warm.forget(self.store.head().number);
        result
    }

    /// Makes a block the head whose state is the head's after `diff`, which is that of the batch with this digest. The error is the root that the diff gives, if it is not the header's; nothing changes
    /// then.
    pub(crate) fn jump(
        &self,
        header: SealedHeader,
        diff: &StateDiff,
        digest: B256,
    ) -> Result<Result<(), B256>, StoreError> {
        let root = self.store.root(diff)?;
        if root.root != header.state_root {
            return Ok(Err(root.root));
        }
        let number = header.number;
        self.store.jump(header, diff, root, digest)?;
        self.warm.follow(number, diff);
        Ok(Ok(()))
    }
}

/// The state after a sealed block, as the EVM reads it.
#[derive(Debug)]
pub(crate) struct SealedState {
    store: Arc<Store>,
    view: StateView,
}

impl SealedState {
    pub(crate) fn header(&self) -> &SealedHeader {
        self.view.header()
    }

    /// Every slot of an account that is not zero; `None` if more than `limit` have to be looked at.
    pub(crate) fn slots(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        let slots = self.view.slots(address, limit).map_err(StateReadError::source)?;
        Ok(slots.map(|slots| slots.into_iter().map(|(slot, value)| (slot.into(), value)).collect()))
    }

    /// The state root after `diff` on top of this state.
    pub(crate) fn root(&self, diff: &StateDiff) -> Result<B256, StoreError> {
        self.view.root(diff)
    }

    fn entries(
        &self,
        address: Address,
    ) -> impl Iterator<Item = Result<(U256, U256), StateReadError>> + '_ {
        self.store.storage_entries(address).map(|entry| match entry {
            Ok((slot, value)) => Ok((slot.into(), value)),
            Err(error) => Err(StateReadError::source(error)),
        })
    }

    /// For each prefix the account whose address begins with it, if exactly one account's does.
    pub(crate) fn find_accounts(
        &self,
        prefixes: &[AddressPrefix],
    ) -> Result<Vec<Option<Address>>, StoreError> {
        self.view.find_accounts(prefixes)
    }
}

impl StateReader for SealedState {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        self.view.account(address).map_err(StateReadError::source)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        self.view.storage(address, slot.into()).map_err(StateReadError::source)
    }

    /// Asked while a block is built on the head, which stays the head until that block is committed.
    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        self.entries(address).collect()
    }

    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        let slots =
            self.entries(address).take(limit.saturating_add(1)).collect::<Result<Vec<_>, _>>()?;
        Ok((slots.len() <= limit).then_some(slots))
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        self.view.code(hash).map_err(StateReadError::source)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        self.view.block_hash(number).map_err(StateReadError::source)
    }
}
