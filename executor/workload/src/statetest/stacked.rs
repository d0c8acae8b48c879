//! All cases of a test in one block, where they meet; executing in order says what is right.

use std::sync::Arc;

use alloy::{
    consensus::{SignableTransaction, Signed, Transaction},
    eips::eip7928::BlockAccessList,
};
use alloy_primitives::{Address, Signature, U256, map::AddressMap};
use millrace_executor::{
    AccessListError, BlockExecutor, ExecutionError, MemoryState, ParallelStats, StateReadError,
    StateReader,
};
use millrace_proto::{RecoveredTx, TxEnvelope, TxOutcome};

use super::{
    file::Group,
    runner::{Pool, Threads},
};
use crate::execution::{Difference, Execution, Ground};

/// A block has at least so many transactions: a test with fewer cases repeats them.
const AT_LEAST: usize = 12;
/// No transaction may use more: some tests rely on funds that end before gas does.
const GAS_LIMIT: u64 = 20_000_000;
/// Senders that a block has beside the test's own.
const OTHER_SENDERS: usize = 5;

/// How the cases are put into the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// From the test's sender, funded, nonces rising; the block takes all.
    OneSender,
    /// From several funded senders in turn, some with wrong nonces; the block takes all.
    ManySenders,
    /// As they are, in a block with the test's own limits and funds: many do not fit or cannot pay.
    Tight,
}

impl Arrangement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneSender, Self::ManySenders, Self::Tight];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneSender => "one-sender",
            Self::ManySenders => "many-senders",
            Self::Tight => "tight",
        }
    }
}

/// What goes wrong with a stacked block.
#[derive(Debug, thiserror::Error)]
pub enum StackProblem {
    /// Executing on threads gives something else than executing in order.
    #[error("on {threads}: {difference}")]
    Parallel {
        /// How many.
        threads: Threads,
        /// What.
        difference: Box<Difference>,
    },
    /// Executing in order fails.
    #[error("execution fails: {0}")]
    Execution(#[from] ExecutionError),
    /// Executing on threads fails.
    #[error("on {threads} execution fails: {source}")]
    ParallelExecution {
        /// How many.
        threads: Threads,
        /// Why.
        source: ExecutionError,
    },
    /// It is not executed by its access list.
    #[error("on {threads} by its access list: {source}")]
    List {
        /// How many.
        threads: Threads,
        /// Why.
        source: AccessListError,
    },
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    Read(#[from] StateReadError),
}

/// A block of all cases, executed in order.
pub(super) struct Stack {
    ground: Ground,
    transactions: Vec<Arc<RecoveredTx>>,
    list: Arc<BlockAccessList>,
    /// With the access list.
    listed: Execution,
    /// Without.
    execution: Execution,
}

impl Stack {
    /// Builds the block, executing it in order to know the nonces. `None` when no case decodes.
    pub(super) fn build(
        group: &Group,
        ground: &Ground,
        arrangement: Arrangement,
    ) -> Result<Option<Self>, StackProblem> {
        let decode = |raw: &alloy_primitives::Bytes| RecoveredTx::decode(raw.clone()).ok();
        let variants: Vec<_> = group.cases.iter().filter_map(|case| decode(&case.raw)).collect();
        if variants.is_empty() {
            return Ok(None);
        }
        let mut ground = ground.clone().with_list(true);
        let mut state = MemoryState::clone(&group.state);
        if arrangement != Arrangement::Tight {
            make_room(&mut ground);
            variants.iter().try_for_each(|tx| fund(&mut state, tx.sender()))?;
            (0..OTHER_SENDERS).try_for_each(|number| fund(&mut state, other_sender(number)))?;
        }
        ground.state = Arc::new(state);

        let mut block =
            BlockExecutor::with_env(ground.env.clone(), ground.state.clone(), ground.codes.clone());
        let mut nonces = AddressMap::<u64>::default();
        let (mut transactions, mut outcomes) = (Vec::new(), Vec::new());
        for (number, tx) in variants.iter().cycle().take(variants.len().max(AT_LEAST)).enumerate() {
            let others = arrangement == Arrangement::ManySenders && number % 3 != 0;
            let sender = if others { other_sender(number % OTHER_SENDERS) } else { tx.sender() };
            let before = ground.state.account(sender)?.map_or(0, |account| account.nonce);
            let next = nonces.entry(sender).or_insert(before);
            let nonce = match number {
                number if others && number % 11 == 5 => next.wrapping_add(1),
                number if others && number % 11 == 8 => next.wrapping_sub(1),
                _ => *next,
            };
            let tx = Arc::new(RecoveredTx::new_unchecked(with_nonce(tx.tx(), nonce), sender));
            let outcome = block.execute(&tx)?;
            if matches!(outcome, TxOutcome::Included { .. }) {
                *next = nonce.wrapping_add(1);
            }
            transactions.push(tx);
            outcomes.push(outcome);
        }
        let listed = Execution { outcomes, output: block.finish()? };
        let list = Arc::new(listed.output.access_list.clone().unwrap_or_default());
        let execution = listed.clone().without_list();
        Ok(Some(Self { ground, transactions, list, listed, execution }))
    }

    /// How many transactions it tries.
    pub(super) fn tried(&self) -> usize {
        self.transactions.len()
    }

    /// How many of them are in the block.
    pub(super) fn included(&self) -> usize {
        self.listed.output.transactions.len()
    }

    /// Executes it on a pool: in one stretch; in two, with its access list made, where threads are disturbed; and by its access list.
    ///
    /// Adds how the transactions were executed to `stats`.
    pub(super) fn check(&self, pool: &Pool, stats: &mut ParallelStats) -> Result<(), StackProblem> {
        let threads = pool.threads;
        let (first, second) =
            self.transactions.split_at(if pool.threads.disturbed { self.tried() / 3 } else { 0 });
        let stretches: Vec<_> = [first, second]
            .into_iter()
            .filter(|stretch| !stretch.is_empty())
            .map(Arc::from)
            .collect();
        let disturbed = pool.threads.disturbed;
        let expected = if disturbed { &self.listed } else { &self.execution };
        let ground = self.ground.clone().with_list(disturbed);
        let (execution, of_run) = (ground.in_parallel(&stretches, &pool.pool))
            .map_err(|source| StackProblem::ParallelExecution { threads, source })?;
        stats.plain += of_run.plain;
        stats.held += of_run.held;
        stats.failed += of_run.failed;
        stats.inline += of_run.inline;
        let same = |expected: &Execution, got: &Execution| match expected.difference(got) {
            Some(difference) => {
                Err(StackProblem::Parallel { threads, difference: Box::new(difference) })
            }
            None => Ok(()),
        };
        same(expected, &execution)?;
        let included = self.listed.output.transactions.as_slice().into();
        match self.ground.by_list(included, self.list.clone(), &pool.pool) {
            Err(AccessListError::Unsupported) => Ok(()),
            Err(source) => Err(StackProblem::List { threads, source }),
            Ok(execution) => same(&self.listed.clone().included(), &execution),
        }
    }
}

/// Lets the block take whatever there is.
fn make_room(ground: &mut Ground) {
    ground.env.block.gas_limit = u64::MAX;
    if let Some(params) = &mut ground.env.blob_params {
        params.max_blob_count = 1 << 20;
    }
}

fn fund(state: &mut MemoryState, address: Address) -> Result<(), StateReadError> {
    let mut account = state.account(address)?.unwrap_or_default();
    account.balance = account.balance.max(U256::ONE << 200);
    state.set_account(address, Some(account));
    Ok(())
}

fn other_sender(number: usize) -> Address {
    Address::left_padding_from(&(0x005e_4de4_0000 + number as u64).to_be_bytes())
}

/// The same transaction with another nonce. Its signature is not valid any more.
fn with_nonce(tx: &TxEnvelope, nonce: u64) -> TxEnvelope {
    let gas = tx.gas_limit().min(GAS_LIMIT);
    match tx {
        TxEnvelope::Legacy(tx) => {
            TxEnvelope::Legacy(changed(tx, |tx| (tx.nonce, tx.gas_limit) = (nonce, gas)))
        }
        TxEnvelope::Eip2930(tx) => {
            TxEnvelope::Eip2930(changed(tx, |tx| (tx.nonce, tx.gas_limit) = (nonce, gas)))
        }
        TxEnvelope::Eip1559(tx) => {
            TxEnvelope::Eip1559(changed(tx, |tx| (tx.nonce, tx.gas_limit) = (nonce, gas)))
        }
        TxEnvelope::Eip4844(tx) => {
            TxEnvelope::Eip4844(changed(tx, |tx| (tx.nonce, tx.gas_limit) = (nonce, gas)))
        }
        TxEnvelope::Eip7702(tx) => {
            TxEnvelope::Eip7702(changed(tx, |tx| (tx.nonce, tx.gas_limit) = (nonce, gas)))
        }
        TxEnvelope::Deposit(_) => tx.clone(),
    }
}

fn changed<T: Clone + SignableTransaction<Signature>>(
    tx: &Signed<T>,
    change: impl FnOnce(&mut T),
) -> Signed<T> {
    let mut unsigned = tx.tx().clone();
    change(&mut unsigned);
    Signed::new_unhashed(unsigned, *tx.signature())
}
