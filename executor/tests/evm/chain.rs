//! A chain whose state is in memory.

use std::{num::NonZeroUsize, sync::Arc};

use alloy::{
    consensus::Sealable,
    eips::{
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    },
    primitives::{Address, B256, U256},
};
use millrace_executor::{
    AccessListError, BlockBuilder, BlockExecutor, BlockOutput, BlockPlan, BlockRoots, CodeCache,
    ListedExecutor, MemoryState, ParallelExecutor, StateReader, WorkerPool,
};
use millrace_proto::{
    AccountInfo, BlockAttributes, ChainSpec, ExecutedBlock, QueueMark, RecoveredTx, SealedHeader,
    StateDiff, TxOutcome,
};

use crate::support::FEE_RECIPIENT;

pub(crate) struct Chain {
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) head: SealedHeader,
    pub(crate) state: MemoryState,
    pub(crate) codes: Arc<CodeCache>,
    /// Whether each block is executed by its access list as well.
    pub(crate) by_list: bool,
    pools: [Arc<WorkerPool>; 2],
}

pub(crate) struct Block {
    pub(crate) outcomes: Vec<TxOutcome>,
    pub(crate) output: BlockOutput,
    pub(crate) block: ExecutedBlock,
}

impl Chain {
    pub(crate) fn new(spec: Arc<ChainSpec>) -> Self {
        let head = spec.genesis_header(B256::ZERO).seal_slow();
        let mut state = MemoryState::from_alloc(&spec.genesis().alloc);
        state.set_block_hash(0, head.seal());
        let threads = |count| NonZeroUsize::new(count).expect("there is a thread");
        let disturbed =
            |count| Arc::new(WorkerPool::disturbed(threads(count), 1).expect("threads start"));
        let pools = [disturbed(1), disturbed(3)];
        Self { spec, head, state, codes: Arc::default(), by_list: true, pools }
    }

    /// The attributes of the next block, with so many deposits.
    pub(crate) fn attributes(&self, deposits: u64) -> BlockAttributes {
        let timestamp = self.head.timestamp + 1;
        if self.spec.is_rollup() {
            let end = QueueMark::of(&self.head).expect("a rollup's header").end + deposits;
            return BlockAttributes::rollup(&self.spec, &self.head, timestamp, mark(end));
        }
        BlockAttributes {
            number: self.head.number + 1,
            parent_hash: self.head.seal(),
            timestamp,
            fee_recipient: FEE_RECIPIENT,
            gas_limit: self.head.gas_limit,
            prev_randao: B256::repeat_byte(7),
            parent_beacon_block_root: B256::repeat_byte(8),
            extra_data: Default::default(),
        }
    }

    pub(crate) fn plan(&self, deposits: u64) -> BlockPlan {
        BlockPlan::new(self.spec.clone(), &self.head, self.attributes(deposits))
            .expect("it follows")
    }

    /// Executes a block in order and applies it. On several threads it must give the same, with and without its access list.
    pub(crate) fn block(&mut self, transactions: &[Arc<RecoveredTx>]) -> Block {
        let deposits = transactions.iter().filter(|tx| tx.tx().is_deposit()).count();
        let plan = self.plan(deposits as u64).with_access_list();
        let mut executor =
            BlockExecutor::open(&plan, &self.state, self.codes.clone()).expect("it opens");
        let outcomes: Vec<_> =
            transactions.iter().map(|tx| executor.execute(tx).expect("the state reads")).collect();
        let output = executor.finish().expect("the state reads");
        let mut without = output.clone();
        without.access_list = None;
        let plans = [(self.plan(deposits as u64), &without), (plan.clone(), &output)];
        for (pool, (plan, output)) in
            self.pools.iter().flat_map(|pool| plans.iter().map(move |plan| (pool, plan)))
        {
            let reader = Arc::new(self.state.clone());
            let mut parallel =
                ParallelExecutor::open(plan, reader, self.codes.clone(), pool.clone())
                    .expect("it opens");
            let same = parallel.execute(transactions.into()).expect("the state reads");
            assert_eq!(same, outcomes, "on {} threads", pool.threads());
            let same = parallel.finish().expect("the state reads");
            assert_eq!(&same, *output, "on {} threads", pool.threads());
            self.in_frames(plan, transactions, output, pool);
        }
        if self.by_list {
            self.replicate(&plan, &outcomes, &output);
        }
        plan.check(&output).expect("the deposits are there");
        let block = plan.seal(output.clone(), BlockRoots::new(&output, B256::ZERO));
        self.state.apply(&output.diff);
        self.state.set_block_hash(block.number(), block.hash());
        self.head = block.header.clone();
        Block { outcomes, output, block }
    }

    /// Executes a block again frame by frame: what the frames change, one after the other and with what closing the block adds, is what the block changes. Changes are
    /// noted from the beginning, or from some frame on.
    fn in_frames(
        &self,
        plan: &BlockPlan,
        transactions: &[Arc<RecoveredTx>],
        output: &BlockOutput,
        pool: &Arc<WorkerPool>,
    ) {
        for first in [0, 2] {
            let reader = Arc::new(self.state.clone());
            let mut block =
                BlockBuilder::open(plan.clone(), reader, self.codes.clone(), pool.clone())
                    .expect("it opens");
            let (mut state, mut total) = (self.state.clone(), StateDiff::default());
            for (number, frame) in transactions.chunks(3).enumerate() {
                block.execute(frame.to_vec()).expect("the state reads");
                block.hash_ahead();
                if number >= first {
                    let diff = block.changes().expect("the state reads");
                    follow(&mut state, &diff);
                    total.extend(diff).expect("each frame follows the one before");
                }
            }
            let diff = block.changes().expect("the state reads");
            follow(&mut state, &diff);
            total.extend(diff).expect("it follows the last frame");
            let (_, closed, lists) = block.finish().expect("the state reads");
            assert_eq!(closed.diff, output.diff, "in frames, on {} threads", pool.threads());
            assert_eq!(
                BlockRoots::of(&closed, lists, B256::ZERO),
                BlockRoots::new(output, B256::ZERO)
            );
            // What the protocol does at a block's end is in no frame.
            let rest = output.diff.since(&total.net());
            follow(&mut state, &rest);
            let mut changed = rest.accounts.keys();
            assert!(changed.all(|address| CALLED_AT_END.contains(address)), "{rest:?}");
        }
    }

    /// Executes a block again by its access list, which must give the same.
    fn replicate(&self, plan: &BlockPlan, outcomes: &[TxOutcome], output: &BlockOutput) {
        let included = |outcome: &&TxOutcome| matches!(outcome, TxOutcome::Included { .. });
        let outcomes: Vec<_> = outcomes.iter().filter(included).cloned().collect();
        for pool in &self.pools {
            let mut listed = self.listed(plan, output, pool).expect("the list is the block's");
            let same = listed.execute().expect("the list is the block's");
            assert_eq!(same, outcomes, "by the list on {} threads", pool.threads());
            let same = listed.finish().expect("the state reads");
            assert_eq!(&same, output, "by the list on {} threads", pool.threads());
        }
    }

    /// Opens a block by its access list.
    pub(crate) fn listed(
        &self,
        plan: &BlockPlan,
        output: &BlockOutput,
        pool: &Arc<WorkerPool>,
    ) -> Result<ListedExecutor, AccessListError> {
        let list = output.access_list.clone().expect("it was asked for");
        ListedExecutor::open(
            plan,
            Arc::new(self.state.clone()),
            self.codes.clone(),
            pool.clone(),
            output.transactions.as_slice().into(),
            Arc::new(list),
        )
    }

    pub(crate) fn account(&self, address: Address) -> Option<AccountInfo> {
        self.state.account(address).expect("memory reads")
    }

    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address).unwrap_or_default().balance
    }

    pub(crate) fn slot(&self, address: Address, slot: u64) -> U256 {
        self.state.storage(address, U256::from(slot)).expect("memory reads")
    }
}

impl Block {
    /// Gas and success of the transaction at `index`, which must be in the block.
    pub(crate) fn included(&self, index: usize) -> (u64, bool) {
        match &self.outcomes[index] {
            TxOutcome::Included { gas_used, receipt, .. } => (*gas_used, receipt.success),
            other => panic!("transaction {index} was not included: {other:?}"),
        }
    }

    pub(crate) fn rejected(&self, index: usize) -> &str {
        match &self.outcomes[index] {
            TxOutcome::Invalid(reason) => reason.code(),
            other => panic!("transaction {index} was not refused: {other:?}"),
        }
    }
}

/// The contracts of requests to the consensus layer.
const CALLED_AT_END: [Address; 2] =
    [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS];

/// Applies a diff to the state that it is relative to.
fn follow(state: &mut MemoryState, diff: &StateDiff) {
    for (address, account) in &diff.accounts {
        assert_eq!(state.account(*address).expect("memory reads"), account.before, "{address}");
        for (slot, values) in &account.storage {
            let before = state.storage(*address, (*slot).into()).expect("memory reads");
            assert_eq!((before, before == values.after), (values.before, false), "{address}");
        }
    }
    state.apply(diff);
}

/// The end of a queue whose accumulators are made up.
pub(crate) fn mark(end: u64) -> QueueMark {
    QueueMark { end, hash: B256::from(U256::from(end)), forced: 0 }
}
