//! A chain in its store, and how it grows by a block: what building and replaying have in common.
//!
//! A block is first closed, which gives its roots and thereby its hash, and then stored. Another can be executed on one that is closed.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use millrace_proto::{
    AccountDiff, AccountInfo, AddressPrefix, BlockAttributes, BlockSelector, ChainSpec,
    ExecutedBlock, ExecutorError, SealedHeader, StateDiff, give_way,
};
use parking_lot::Mutex;
use rayon::ThreadPool;

use crate::{
    evm::{
        BlockBuilder, BlockExecutor, BlockOutput, BlockPlan, BlockRoots, CodeCache, ListTries,
        PlanError, StateReadError, StateReader, WorkerPool,
    },
    state::RootUpdate,
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
    /// Computes roots: threads of its own, so that they do not wait for those of another chain in this process.
    roots: ThreadPool,
    /// What the head changed, if it was stored since the start.
    latest: Mutex<Option<(u64, Arc<StateDiff>)>>,
}

/// A block with its roots, and what storing it takes.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) block: Arc<ExecutedBlock>,
    pub(crate) diff: Arc<StateDiff>,
    pub(crate) root_time: Duration,
    root: RootUpdate,
}

impl Chain {
    pub(crate) fn open(
        data_dir: &Path,
        config: &StoreConfig,
        spec: Arc<ChainSpec>,
    ) -> Result<Self, StoreError> {
        let store = Arc::new(Store::open(data_dir, config, &spec)?);
        let warm = Arc::new(WarmState::new(store.head().seal()));
        let name = config.name;
        let gives_way = config.gives_way;
        let roots = rayon::ThreadPoolBuilder::new()
            .thread_name(move |at| format!("{name}-root-{at}"))
            .start_handler(move |_| {
                if gives_way {
                    give_way();
                }
            });
        let roots = roots.build().map_err(|error| StoreError::Threads(error.to_string()))?;
        Ok(Self { spec, store, codes: Arc::default(), warm, roots, latest: Mutex::default() })
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

    /// What a block changed, or `None` if there is no such block or its diff was pruned.
    pub(crate) fn state_diff(&self, number: u64) -> Result<Option<Arc<StateDiff>>, StoreError> {
        let latest = self.latest.lock().clone();
        match latest.filter(|(at, _)| *at == number) {
            Some((_, diff)) => Ok(Some(diff)),
            None => Ok(self.store.state_diff(number)?.map(Arc::new)),
        }
    }

    /// Checks that a block with these attributes can follow the head.
    pub(crate) fn plan(&self, attributes: BlockAttributes) -> Result<BlockPlan, PlanError> {
        BlockPlan::new(self.spec.clone(), &self.head(), attributes)
    }

    /// Opens a block on top of the head, or of a block that is closed on top of it, to be executed on the threads of `pool`.
    pub(crate) fn build(
        &self,
        plan: BlockPlan,
        after: Option<(SealedHeader, Arc<StateDiff>)>,
        pool: Arc<WorkerPool>,
    ) -> Result<BlockBuilder, ExecutorError> {
        let state = self.state(BlockSelector::Latest)?;
        let reader = Arc::new(self.warm.reader(ParentState::new(state, after)));
        Ok(BlockBuilder::open(plan, reader, self.codes.clone(), pool)?)
    }

    /// Opens a block on top of the head, to be executed in order.
    pub(crate) fn begin(
        &self,
        plan: &BlockPlan,
    ) -> Result<BlockExecutor<WarmReader>, ExecutorError> {
        let state = self.state(BlockSelector::Latest)?;
        let reader = self.warm.reader(ParentState::new(state, None));
        Ok(BlockExecutor::open(plan, reader, self.codes.clone())?)
    }

    /// Computes the block's roots. What was closed before is stored.
    pub(crate) fn close(
        &self,
        plan: &BlockPlan,
        mut output: BlockOutput,
        lists: ListTries,
    ) -> Result<Closed, StoreError> {
        let started = Instant::now();
        let diff = std::mem::take(&mut output.diff);
        let (root, roots) = self.roots.install(|| {
            rayon::join(|| self.store.root(&diff), || BlockRoots::of(&output, lists, B256::ZERO))
        });
        let root = root?;
        let roots = BlockRoots { state: root.root, ..roots };
        let root_time = started.elapsed();
        let block = Arc::new(plan.seal(output, roots));
        self.warm.follow(&block.header, &diff);
        Ok(Closed { block, diff: Arc::new(diff), root_time, root })
    }

    /// Makes a closed block the head. The index of its transactions is [still to be written](Store::index).
    pub(crate) fn store_closed(&self, closed: Closed) -> Result<(), StoreError> {
        let Closed { block, diff, root, .. } = closed;
        let number = block.number();
        let stored = self.store.commit(block, &diff, root);
        match &stored {
            Ok(()) => *self.latest.lock() = Some((number, diff)),
            Err(_) => self.forget_closed(),
        }
        stored
    }

    /// A closed block will not be stored.
    pub(crate) fn forget_closed(&self) {
        self.warm.forget(self.store.head().seal());
    }

    /// Computes the block's roots and makes it the head.
    pub(crate) fn commit(
        &self,
        plan: &BlockPlan,
        output: BlockOutput,
    ) -> Result<Arc<ExecutedBlock>, StoreError> {
        let closed = self.close(plan, output, ListTries::default())?;
        let block = closed.block.clone();
        self.store_closed(closed)?;
        self.store.index()?;
        Ok(block)
    }

    /// Takes back the blocks after `number`.
    pub(crate) fn unwind(&self, number: u64) -> Result<(), StoreError> {
        let result = self.store.unwind(number);
        *self.latest.lock() = None;
        // Also if only some were taken back.
        self.warm.forget(self.store.head().seal());
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
        let root = self.roots.install(|| self.store.root(diff))?;
        if root.root != header.state_root {
            return Ok(Err(root.root));
        }
        let to = header.clone();
        self.store.jump(header, diff, root, digest)?;
        *self.latest.lock() = None;
        self.warm.follow(&to, diff);
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

    /// Of the store as it is now, which may have stored the closed block already on whose state this is asked: what that block changed is put over it.
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

/// The state that a block is executed on: that after the head, or after a block that is closed on top of it. What that block changed holds
/// whether or not it is stored by now.
#[derive(Debug)]
pub(crate) struct ParentState {
    state: SealedState,
    after: Option<(SealedHeader, Arc<StateDiff>)>,
}

impl ParentState {
    pub(crate) const fn new(
        state: SealedState,
        after: Option<(SealedHeader, Arc<StateDiff>)>,
    ) -> Self {
        Self { state, after }
    }

    pub(crate) fn header(&self) -> &SealedHeader {
        self.after.as_ref().map_or_else(|| self.state.header(), |(header, _)| header)
    }

    /// Every slot of an account that is not zero; `None` if more than `limit` have to be looked at.
    pub(crate) fn slots(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        let changed = self.changed(address).map_or(0, |changed| changed.storage.len());
        let Some(slots) = self.state.slots(address, limit.saturating_add(changed))? else {
            return Ok(None);
        };
        let slots = self.with_changes(address, slots);
        Ok((slots.len() <= limit).then_some(slots))
    }

    /// The state root after `diff` on top of this state.
    pub(crate) fn root(&self, diff: StateDiff) -> Result<B256, ExecutorError> {
        // The closed block may have been stored by the time that the state was looked up.
        let after = self.after.as_ref();
        let unstored = after.filter(|(header, _)| header.number > self.state.header().number);
        let Some((_, closed)) = unstored else { return Ok(self.state.root(&diff)?) };
        let mut total = StateDiff::clone(closed);
        total.extend(diff).map_err(apart)?;
        Ok(self.state.root(&total.net())?)
    }

    fn changed(&self, address: Address) -> Option<&AccountDiff> {
        self.after.as_ref()?.1.accounts.get(&address)
    }

    /// The slots after the changes, of those before them.
    fn with_changes(&self, address: Address, slots: Vec<(U256, U256)>) -> Vec<(U256, U256)> {
        let Some(changed) = self.changed(address) else { return slots };
        let kept =
            slots.into_iter().filter(|(slot, _)| !changed.storage.contains_key(&B256::from(*slot)));
        let set = changed
            .storage
            .iter()
            .map(|(slot, values)| (U256::from_be_bytes(slot.0), values.after));
        kept.chain(set.filter(|(_, value)| !value.is_zero())).collect()
    }
}

/// Changes that do not follow each other, though they were made one after the other.
pub(crate) fn apart(account: Address) -> ExecutorError {
    ExecutorError::Stopped(format!("changes of account {account} do not follow each other"))
}

impl StateReader for ParentState {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateReadError> {
        match self.changed(address) {
            Some(changed) => Ok(changed.after),
            None => self.state.account(address),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateReadError> {
        let changed = self.changed(address);
        match changed.and_then(|changed| changed.storage.get(&B256::from(slot))) {
            Some(values) => Ok(values.after),
            None => self.state.storage(address, slot),
        }
    }

    fn storage_of(&self, address: Address) -> Result<Vec<(U256, U256)>, StateReadError> {
        Ok(self.with_changes(address, self.state.storage_of(address)?))
    }

    fn storage_of_at_most(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Option<Vec<(U256, U256)>>, StateReadError> {
        // As many more were there before as are gone after.
        let changed = self.changed(address).map_or(0, |changed| changed.storage.len());
        let Some(slots) = self.state.storage_of_at_most(address, limit.saturating_add(changed))?
        else {
            return Ok(None);
        };
        let slots = self.with_changes(address, slots);
        Ok((slots.len() <= limit).then_some(slots))
    }

    fn code(&self, hash: B256) -> Result<Option<Bytes>, StateReadError> {
        let new = self.after.as_ref().and_then(|(_, diff)| diff.code.get(&hash));
        match new {
            Some(code) => Ok(Some(code.clone())),
            None => self.state.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, StateReadError> {
        match &self.after {
            Some((header, _)) if header.number == number => Ok(Some(header.seal())),
            _ => self.state.block_hash(number),
        }
    }
}
