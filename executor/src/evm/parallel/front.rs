//! The front: where transactions become part of the block, one after the other.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, KECCAK256_EMPTY, U256};
use millrace_proto::{Receipt, RecoveredTx, TxDeposit, TxOutcome};
use revm::context::result::ExecutionResult;

use super::{
    lane::{Failure, Lane},
    plain::{Hints, Plain, PlainRules},
    run::{Published, Run},
    state::{AccountWrite, Life, SlotKey},
    stats::ParallelStats,
    view::Shared,
};
use crate::evm::{
    ExecutionError, StateReadError,
    system::SystemCalls,
    tally::{Entry, Tally},
    EvmEnv,
};

/// What was done for a transaction ahead of the front.
#[derive(Default)]
pub(super) enum Prepared {
    /// Nothing.
    #[default]
    Nothing,
    /// A plain transfer's accounts were read.
    Plain(Plain, Hints),
    /// It was run on what the memory showed, and its writes are published there.
    Run(Box<Run>),
}

/// The end of the block so far. Whoever holds it is the only one to commit.
pub(super) struct Front {
    shared: Arc<Shared>,
    rules: Option<PlainRules>,
    pub(super) tally: Tally,
    /// Number of the next transaction, counting those that did not enter the block.
    pub(super) index: u32,
    pub(super) stats: ParallelStats,
}

/// How a transaction that was run ahead fared, for the gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// It was not run ahead, or only warmed.
    Not,
    /// Its result holds.
    Held,
    /// It had to be run again.
    Failed,
}

impl Front {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let rules = PlainRules::new(&shared.env);
        let rules = rules.filter(|_| shared.removes_empty);
        Self { shared, rules, tally: Tally::default(), index: 0, stats: ParallelStats::default() }
    }

    pub(super) const fn rules(&self) -> Option<PlainRules> {
        self.rules
    }

    /// Makes the next transaction part of the block, or says why not.
    pub(super) fn step(
        &mut self,
        lane: &mut Lane,
        tx: &Arc<RecoveredTx>,
        prepared: Prepared,
    ) -> Result<(TxOutcome, Ahead), ExecutionError> {
        let index = self.index;
        self.index += 1;
        let shared = self.shared.clone();
        match self.tally.enter(&shared.env, tx)? {
            Entry::Refused(outcome) => {
                self.withdraw(index, &prepared);
                Ok((outcome, Ahead::Not))
            }
            Entry::Deposit(deposit) => {
                Ok((self.deposit(lane, index, tx, deposit)?, Ahead::Not))
            }
            Entry::Ordinary => self.ordinary(lane, index, tx, prepared),
        }
    }

    fn ordinary(
        &mut self,
        lane: &mut Lane,
        index: u32,
        tx: &Arc<RecoveredTx>,
        prepared: Prepared,
    ) -> Result<(TxOutcome, Ahead), ExecutionError> {
        let mut ahead = Ahead::Not;
        let plain = match &prepared {
            Prepared::Plain(plain, hints) => Some((*plain, *hints)),
            Prepared::Nothing => {
                let plain = self.rules.and_then(|rules| rules.of(tx));
                plain.map(|plain| (plain, Hints::default()))
            }
            Prepared::Run(_) => None,
        };
        if let Some((plain, hints)) = plain
            && plain.commit(&self.shared, index, &hints)?
        {
            self.stats.plain += 1;
            self.reward(index, plain.reward)?;
            return Ok((self.tally.include(tx, true, Plain::GAS, Vec::new()), ahead));
        }
        if let Prepared::Run(run) = prepared {
            if self.holds(&run)? {
                self.stats.held += 1;
                self.apply(index, &run, true)?;
                return Ok((self.include(tx, *run), Ahead::Held));
            }
            self.stats.failed += 1;
            ahead = Ahead::Failed;
            self.withdraw(index, &Prepared::Run(run));
        }
        self.stats.inline += 1;
        match lane.run(index, tx, false) {
            Ok(run) => {
                self.apply(index, &run, false)?;
                Ok((self.include(tx, run), ahead))
            }
            Err(Failure::Invalid(reason)) => Ok((TxOutcome::Invalid(reason), ahead)),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    fn deposit(
        &mut self,
        lane: &mut Lane,
        index: u32,
        tx: &Arc<RecoveredTx>,
        deposit: &TxDeposit,
    ) -> Result<TxOutcome, ExecutionError> {
        match lane.run_deposit(index, deposit) {
            Ok(run) => {
                self.apply(index, &run, false)?;
                Ok(self.include(tx, run))
            }
            // Only the gas limit can be too low for the call to start: all of it is used then.
            Err(Failure::Invalid(_)) => {
                let mut account = self.shared.account(deposit.from)?;
                let info = account.info.get_or_insert_default();
                info.balance = info.balance.saturating_add(U256::from(deposit.mint));
                info.nonce = info.nonce.saturating_add(1);
                self.shared.memory.accounts.commit(deposit.from, account, None);
                Ok(self.tally.include(tx, false, deposit.gas_limit, Vec::new()))
            }
            Err(Failure::Error(error)) => Err(error),
        }
    }

    fn include(&mut self, tx: &Arc<RecoveredTx>, run: Run) -> TxOutcome {
        self.tally.include(tx, run.success, run.gas_used, run.logs)
    }

    /// Whether a run that was made ahead would give the same now that everything before it is committed.
    fn holds(&self, run: &Run) -> Result<bool, StateReadError> {
        let memory = &self.shared.memory;
        for read in &run.slots {
            let now = match memory.slots.committed(&read.key) {
                Some(value) => value,
                None if read.written => self.shared.base_slot(&read.key)?,
                None => continue,
            };
            if now != read.seen {
                return Ok(false);
            }
        }
        for read in &run.accounts {
            let now = match memory.accounts.committed(&read.address) {
                Some(state) => state,
                // What the EVM was given differs from what is there, if earlier transactions did not come.
                None if read.written || read.nonce != read.seen.info.map_or(0, |i| i.nonce) => {
                    self.shared.base_account(read.address)?
                }
                None => continue,
            };
            if !read.holds(&now) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Commits what a run changed.
    fn apply(&mut self, index: u32, run: &Run, published: bool) -> Result<(), StateReadError> {
        let shared = self.shared.clone();
        let memory = &shared.memory;
        let published = published.then_some(index);
        let mut slots = run.slot_writes.iter().peekable();
        for (number, write) in run.writes.iter().enumerate() {
            let before = shared.account(write.address)?;
            let after = write.apply(&before, index, shared.removes_empty);
            if after != before || published.is_some() {
                memory.accounts.commit(write.address, after, published);
            }
            while let Some(slot) = slots.next_if(|slot| slot.account as usize == number) {
                let (address, generation) = (write.address, after.generation);
                let key = SlotKey { address, generation, slot: slot.slot };
                if after.info.is_some() {
                    memory.slots.commit(key, slot.value, published);
                } else if published.is_some() {
                    memory.slots.withdraw(&key, index);
                }
            }
        }
        match run.reward {
            Some(amount) => self.reward(index, amount),
            None => Ok(()),
        }
    }

    /// Pays the beneficiary, whose account is touched also by a payment of nothing.
    fn reward(&mut self, index: u32, amount: U256) -> Result<(), StateReadError> {
        let shared = &self.shared;
        let beneficiary = shared.env.block.beneficiary;
        let write = |balance| AccountWrite {
            address: beneficiary,
            balance,
            nonce: None,
            code_hash: None,
            life: Life::Goes,
        };
        let base = || shared.base_account(beneficiary);
        shared.memory.accounts.update(beneficiary, base, |state| {
            let balance = state.info.map_or(U256::ZERO, |info| info.balance);
            // As revm: a sum that overflows is not paid.
            let amount = if balance.checked_add(amount).is_some() { amount } else { U256::ZERO };
            let removes = shared.removes_empty;
            // Before EIP-161, an account that exists stays as it is when it is only touched.
            *state = write(amount).apply(state, index, removes);
            Some(())
        })?;
        Ok(())
    }

    /// Takes back what a run has published.
    fn withdraw(&self, index: u32, prepared: &Prepared) {
        if let Prepared::Run(run) = prepared {
            let memory = &self.shared.memory;
            run.visit_published(index, self.shared.removes_empty, |published| match published {
                Published::Account(address, _) => memory.accounts.withdraw(&address, index),
                Published::Slot(key, _) => memory.slots.withdraw(&key, index),
            });
        }
    }
}

/// The protocol's own calls, made at the front.
pub(super) struct FrontCalls<'a> {
    pub(super) front: &'a mut Front,
    pub(super) lane: &'a mut Lane,
}

impl SystemCalls for FrontCalls<'_> {
    fn env(&self) -> &EvmEnv {
        &self.front.shared.env
    }

    fn receipts(&self) -> &[Receipt] {
        &self.front.tally.receipts
    }

    fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<ExecutionResult>, ExecutionError> {
        let account = self.front.shared.account(contract)?;
        if account.info.is_none_or(|info| info.code_hash == KECCAK256_EMPTY) {
            return Ok(None);
        }
        let index = self.front.index;
        self.front.index += 1;
        match self.lane.system_call(index, contract, input) {
            Ok((run, result)) => {
                self.front.apply(index, &run, false)?;
                Ok(Some(result))
            }
            Err(Failure::Invalid(reason)) => Err(ExecutionError::Evm(reason.to_string())),
            Err(Failure::Error(error)) => Err(error),
        }
    }
}
