//! The transactions of a block, for threads to take one by one.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::{Log, U256};
use millrace_proto::{RecoveredTx, TxDeposit, TxOutcome};
use parking_lot::{Condvar, Mutex};
use revm::{
    ExecuteEvm, MainBuilder, MainnetEvm,
    context::{
        Context,
        result::{EVMError, ExecutionResult},
    },
    handler::{Handler, MainnetContext},
};

use super::{AccessListError, check::Marks, index::Listed, view::ListedView};
use crate::evm::{
    EvmEnv, ExecutionError,
    block_state::minted,
    executor::reuse,
    handler::{BlockEvmError, DepositHandler, TxHandler},
    hashes::keep_hashes,
    parallel::{
        lane_cache::LaneCache,
        pool::{Disturbance, Job, Seat},
    },
    reject::reject_reason,
    tally::{Entry, Tally},
    tx::{deposit_env, tx_env},
};

/// What a transaction gave.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) success: bool,
    pub(super) gas_used: u64,
    pub(super) logs: Vec<Log>,
}

/// The transactions of a block and how far they are.
pub(super) struct Task {
    listed: Arc<Listed>,
    env: EvmEnv,
    transactions: Arc<[Arc<RecoveredTx>]>,
    next: AtomicUsize,
    /// The first transaction known to fail; those after it do not matter any more.
    failed: AtomicUsize,
    progress: Mutex<Progress>,
    done: Condvar,
    disturbance: Option<Disturbance>,
}

#[derive(Default)]
struct Progress {
    /// How many transactions are done with.
    finished: usize,
    executed: Vec<(usize, Executed)>,
    /// Each thread's.
    marks: Vec<Marks>,
    /// The first error in the block's order.
    error: Option<(usize, AccessListError)>,
}

impl Progress {
    const fn panicked(&self) -> bool {
        matches!(&self.error, Some((_, AccessListError::Execution(ExecutionError::Panicked))))
    }
}

impl Task {
    pub(super) fn new(
        listed: Arc<Listed>,
        env: EvmEnv,
        transactions: Arc<[Arc<RecoveredTx>]>,
        disturbance: Option<Disturbance>,
    ) -> Self {
        Self {
            listed,
            env,
            transactions,
            next: AtomicUsize::new(0),
            failed: AtomicUsize::new(usize::MAX),
            progress: Mutex::default(),
            done: Condvar::new(),
            disturbance,
        }
    }

    /// Waits for the last transaction. Gives what each gave, in order, and what of the list the threads have found.
    pub(super) fn finish(&self) -> Result<(Vec<Executed>, Vec<Marks>), AccessListError> {
        let mut progress = self.progress.lock();
        // A thread that has panicked may not have taken what it would have told of.
        while progress.finished < self.transactions.len() && !progress.panicked() {
            self.done.wait(&mut progress);
        }
        if let Some((_, error)) = progress.error.take() {
            return Err(error);
        }
        let mut executed = mem::take(&mut progress.executed);
        executed.sort_unstable_by_key(|(at, _)| *at);
        let marks = mem::take(&mut progress.marks);
        Ok((executed.into_iter().map(|(_, executed)| executed).collect(), marks))
    }

    /// Takes transactions until there is none left. Gives the thread's cache back.
    pub(super) fn work(&self, cache: LaneCache) -> LaneCache {
        let mut taken = 0;
        let work = || self.take(cache, &mut taken);
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(cache) => cache,
            Err(_) => {
                let error = AccessListError::Execution(ExecutionError::Panicked);
                self.report(taken, Vec::new(), None, Some((0, error)));
                LaneCache::default()
            }
        }
    }

    fn take(&self, cache: LaneCache, taken: &mut usize) -> LaneCache {
        let count = self.transactions.len();
        if self.next.load(Ordering::Relaxed) >= count {
            return cache;
        }
        let mut worker = Worker::new(self.listed.clone(), &self.env, cache);
        let (mut executed, mut error) = (Vec::new(), None);
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(tx) = self.transactions.get(at) else { break };
            *taken += 1;
            if at > self.failed.load(Ordering::Relaxed) {
                continue;
            }
            match worker.execute(&self.env, at, tx) {
                Ok(done) => executed.push((at, done)),
                Err(reason) => {
                    self.failed.fetch_min(at, Ordering::Relaxed);
                    // A thread takes its transactions in order.
                    error.get_or_insert((at, reason));
                }
            }
            if let Some(disturbance) = &self.disturbance {
                disturbance.meet();
            }
        }
        let view = &mut worker.evm.ctx.journaled_state.database;
        let marks = mem::take(&mut view.marks);
        let cache = mem::take(&mut view.cache);
        self.report(*taken, executed, Some(marks), error);
        cache
    }

    fn report(
        &self,
        taken: usize,
        executed: Vec<(usize, Executed)>,
        marks: Option<Marks>,
        error: Option<(usize, AccessListError)>,
    ) {
        let mut progress = self.progress.lock();
        progress.executed.extend(executed);
        progress.marks.extend(marks);
        if let Some((at, _)) = &error
            && progress.error.as_ref().is_none_or(|(first, _)| at < first)
        {
            progress.error = error;
        }
        progress.finished += taken;
        drop(progress);
        self.done.notify_all();
    }
}

impl Job for Task {
    fn run(&self, seat: &mut Seat) {
        let cache = self.work(seat.take_cache());
        seat.keep_cache(cache);
    }
}

type ListedEvm = MainnetEvm<MainnetContext<ListedView>>;

/// The EVM of one thread.
struct Worker {
    evm: ListedEvm,
    handler: TxHandler<ListedView>,
}

impl Worker {
    fn new(listed: Arc<Listed>, env: &EvmEnv, cache: LaneCache) -> Self {
        let view = ListedView::new(listed, cache);
        let context: MainnetContext<ListedView> = Context::new(view, env.cfg.spec);
        let context = context.with_cfg(env.cfg.clone()).with_block(env.block.clone());
        let mut evm = context.build_mainnet();
        keep_hashes(&mut evm.instruction);
        Self { evm, handler: TxHandler::new(env.rollup) }
    }

    fn execute(
        &mut self,
        env: &EvmEnv,
        at: usize,
        tx: &RecoveredTx,
    ) -> Result<Executed, AccessListError> {
        self.evm.ctx.journaled_state.database.begin(at as u32 + 1);
        // Order and room are seen to once the gas of all is known.
        let result = match Tally::default().enter(env, tx)? {
            Entry::Refused(outcome) => return Err(not_includable(tx, outcome)),
            Entry::Deposit(deposit) => {
                self.evm.ctx.tx = deposit_env(deposit);
                let result = DepositHandler::new(U256::from(deposit.mint)).run(&mut self.evm);
                if matches!(result, Err(EVMError::Transaction(_))) {
                    drop(self.evm.finalize());
                    return self.failed_deposit(deposit);
                }
                result
            }
            Entry::Ordinary => {
                self.evm.ctx.tx = tx_env(tx);
                self.handler.run(&mut self.evm)
            }
        };
        self.finish(env, tx, result)
    }

    fn finish(
        &mut self,
        env: &EvmEnv,
        tx: &RecoveredTx,
        result: Result<ExecutionResult, BlockEvmError>,
    ) -> Result<Executed, AccessListError> {
        let state = self.evm.finalize();
        match result {
            Ok(result) => {
                self.evm.ctx.journaled_state.database.check(&state)?;
                reuse(&mut self.evm.ctx.journaled_state, state);
                Ok(Executed {
                    success: result.is_success(),
                    gas_used: result.tx_gas_used(),
                    logs: result.into_logs(),
                })
            }
            Err(EVMError::Transaction(invalid)) => {
                let reason = reject_reason(invalid, &self.evm.ctx.tx, env);
                Err(not_includable(tx, TxOutcome::Invalid(reason)))
            }
            Err(error) => Err(ExecutionError::from(error).into()),
        }
    }

    /// A deposit whose gas limit is too low for the call to start: it mints, and uses all of its gas.
    fn failed_deposit(&mut self, deposit: &TxDeposit) -> Result<Executed, AccessListError> {
        let view = &mut self.evm.ctx.journaled_state.database;
        let account = view.account(deposit.from)?;
        view.marks.see(account);
        let before = view.listed.account_before(account, view.index)?.unwrap_or_default();
        view.check_info(account, &before, &minted(before, U256::from(deposit.mint)))?;
        Ok(Executed { success: false, gas_used: deposit.gas_limit, logs: Vec::new() })
    }
}

pub(super) fn not_includable(tx: &RecoveredTx, outcome: TxOutcome) -> AccessListError {
    AccessListError::NotIncludable { hash: tx.hash(), outcome: Box::new(outcome) }
}
