//! The front: where transactions become part of the block, one after the other.

use std::sync::Arc;

use alloy::eips::eip7928::BlockAccessList;
use alloy_primitives::{Address, Bytes, KECCAK256_EMPTY, U256};
use millrace_proto::{RecoveredTx, SharedReceipt, StateDiff, TxDeposit, TxOutcome};
use revm::{context::result::ExecutionResult, handler::SYSTEM_ADDRESS, state::EvmState};

use super::{
    accesses::AccessLog,
    changes::{Changes, Notes},
    diff,
    fetch::Parties,
    gauge::Gauge,
    hints::{Hints, Slots},
    lane::{Failure, Lane},
    plain::{Plain, PlainRules},
    run::{Published, Ran, Run},
    state::{AccountState, Life, SlotKey, paid},
    stats::ParallelStats,
    view::Shared,
};
use crate::evm::{
    EvmEnv, ExecutionError, StateReadError,
    block_state::{from_evm, minted},
    system::SystemCalls,
    tally::{Entry, Tally},
};

/// What was done for a transaction ahead of the front.
pub(super) enum Prepared<'a> {
    /// Nothing.
    Nothing,
    /// Its accounts were read.
    Read(&'a Parties),
    /// It was run on what the memory showed, and some of its writes may be published there.
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
    pub(super) gauge: Gauge,
    pub(super) hints: Hints,
    /// What the beneficiary is still to be paid.
    owed: Option<U256>,
    /// What is noted for the block's access list, or for diffs, if one of them is asked for.
    notes: Option<Box<Notes>>,
}

/// How a transaction that was run ahead fared, for the gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// It was not run ahead.
    Not,
    /// Its result holds.
    Held {
        /// It needed a value that was not committed.
        early: bool,
    },
    /// It had to be run again.
    Failed,
}

impl Front {
    /// Of so many transactions that run in their place, one tells what it writes that is contended for.
    const TELLS: u32 = 8;

    pub(super) fn new(shared: Arc<Shared>, gauge: Gauge, mut hints: Hints) -> Self {
        hints.begin();
        let rules = PlainRules::new(&shared.env);
        let rules = rules.filter(|_| shared.removes_empty);
        Self {
            notes: shared.env.access_list.then(|| {
                Box::new(Notes { accesses: Some(AccessLog::default()), ..Notes::default() })
            }),
            shared,
            rules,
            tally: Tally::default(),
            index: 0,
            stats: ParallelStats::default(),
            gauge,
            hints,
            owed: None,
        }
    }

    pub(super) const fn rules(&self) -> Option<PlainRules> {
        self.rules
    }

    /// Makes the next transaction part of the block, or says why not.
    pub(super) fn step(
        &mut self,
        lane: &mut Lane,
        tx: &Arc<RecoveredTx>,
        prepared: Prepared<'_>,
    ) -> Result<(TxOutcome, Ahead), ExecutionError> {
        let index = self.index;
        self.index += 1;
        self.turn();
        match self.tally.enter(&self.shared.env, tx)? {
            Entry::Refused(outcome) => {
                if let Prepared::Run(run) = prepared {
                    self.withdraw(index, &run);
                }
                Ok((outcome, Ahead::Not))
            }
            Entry::Deposit(deposit) => Ok((self.deposit(lane, index, tx, deposit)?, Ahead::Not)),
            Entry::Ordinary => self.ordinary(lane, index, tx, prepared),
        }
    }

    fn ordinary(
        &mut self,
        lane: &mut Lane,
        index: u32,
        tx: &Arc<RecoveredTx>,
        prepared: Prepared<'_>,
    ) -> Result<(TxOutcome, Ahead), ExecutionError> {
        let mut ahead = Ahead::Not;
        let read = match prepared {
            Prepared::Read(parties) => Some(parties),
            _ => None,
        };
        if !matches!(prepared, Prepared::Run(_))
            && let Some(plain) = self.rules.and_then(|rules| rules.of(tx))
            && plain.commit(&self.shared, index, read, self.notes.as_deref_mut())?
        {
            self.stats.plain += 1;
            self.reward(index, Some(plain.reward))?;
            return Ok((self.tally.include(tx, true, Plain::GAS, Vec::new()), ahead));
        }
        if let Prepared::Run(mut run) = prepared {
            if self.holds(tx, &run)? {
                self.stats.held += 1;
                self.commit_run(index, tx, &run)?;
                let (result, early) = (run.result.take(), run.early);
                lane.reuse(run);
                if let Some(result) = result {
                    return Ok((self.include(tx, result), Ahead::Held { early }));
                }
                return Err(ExecutionError::Evm("a run has no result".to_owned()));
            }
            self.stats.failed += 1;
            ahead = Ahead::Failed;
            self.withdraw(index, &run);
            lane.reuse(run);
        }
        self.stats.inline += 1;
        match lane.run(index, tx, self.owed, read) {
            Ok(ran) => Ok((self.commit(lane, index, tx, ran, ahead)?, ahead)),
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
        self.settle()?;
        match lane.run_deposit(index, deposit) {
            Ok(ran) => Ok(self.commit(lane, index, tx, ran, Ahead::Not)?),
            // Only the gas limit can be too low for the call to start: all of it is used then.
            Err(Failure::Invalid(_)) => {
                if let Some(notes) = &mut self.notes {
                    notes.account(deposit.from);
                }
                let notes = self.notes.as_deref_mut();
                change(&self.shared, notes, deposit.from, None, |before| {
                    let info = minted(before.info.unwrap_or_default(), U256::from(deposit.mint));
                    AccountState { info: Some(info), ..*before }
                })?;
                Ok(self.tally.include(tx, false, deposit.gas_limit, Vec::new()))
            }
            Err(Failure::Error(error)) => Err(error),
        }
    }

    fn include(&mut self, tx: &Arc<RecoveredTx>, result: ExecutionResult) -> TxOutcome {
        self.tally.include(tx, result.is_success(), result.tx_gas_used(), result.into_logs())
    }

    fn commit(
        &mut self,
        lane: &mut Lane,
        index: u32,
        tx: &Arc<RecoveredTx>,
        mut ran: Ran,
        ahead: Ahead,
    ) -> Result<TxOutcome, StateReadError> {
        let contended = self.commit_state(index, false, &mut ran.state)?;
        // What runs are not failed by is nearly always known already.
        if ahead == Ahead::Failed || index.is_multiple_of(Self::TELLS) {
            self.hints.write(tx, &contended);
        }
        lane.reuse_accounts(ran.state);
        self.reward(index, ran.reward)?;
        Ok(self.include(tx, ran.result))
    }

    /// Whether a run that was made ahead would give the same now that everything before it is committed.
    fn holds(&mut self, tx: &RecoveredTx, run: &Run) -> Result<bool, StateReadError> {
        let beneficiary = self.shared.env.block.beneficiary;
        if self.owed.is_some() && run.accounts.iter().any(|read| read.address == beneficiary) {
            self.settle()?;
        }
        let memory = &self.shared.memory;
        let (mut holds, mut failed) = (true, Slots::new());
        for read in &run.slots {
            let now = match memory.slots.committed(&read.key) {
                Some(value) => value,
                None if read.written && holds => self.shared.base_slot(&read.key)?,
                None => continue,
            };
            if now != read.seen {
                failed.push(memory.slots.contend(&read.key));
                holds = false;
            }
        }
        for read in &run.accounts {
            let now = match memory.accounts.committed(&read.address) {
                Some(state) => state,
                // What the EVM was given differs from what is there, if earlier transactions did not come.
                None if holds
                    && (read.written || read.nonce != read.seen.info.map_or(0, |i| i.nonce)) =>
                {
                    self.shared.base_account(read.address)?
                }
                None => continue,
            };
            if !read.holds(&now) {
                memory.accounts.contend(&read.address);
                holds = false;
            }
        }
        self.hints.read(tx, &failed);
        Ok(holds)
    }

    /// Commits what a transaction that ran in its place left in its journal, or a call of the system. Gives the contended slots that it
    /// has written.
    fn commit_state(
        &mut self,
        index: u32,
        system: bool,
        state: &mut EvmState,
    ) -> Result<Slots, StateReadError> {
        let Self { shared, notes, owed, .. } = self;
        let beneficiary = shared.env.block.beneficiary;
        let mut contended = Slots::new();
        for (address, account) in state.drain() {
            // The caller of system calls does not count, unless it is changed.
            let counts = !system || address != SYSTEM_ADDRESS || account.is_changed();
            let mut notes = notes.as_deref_mut().filter(|_| counts);
            if let Some(notes) = &mut notes {
                notes.account(address);
                account.storage.keys().for_each(|slot| notes.read(address, *slot));
            }
            if !account.is_touched() {
                continue;
            }
            if address == beneficiary {
                // The transaction has seen it paid, and so it is now.
                *owed = None;
            }
            let life = Life::of(&account);
            let info = from_evm(&account.info);
            let [before, after] = change(shared, notes.as_deref_mut(), address, None, |before| {
                life.lead(before, info, index, shared.removes_empty)
            })?;
            let new_code = before.info.unwrap_or_default().code_hash != info.code_hash;
            let AccountState { info: Some(_), generation } = after else { continue };
            if new_code {
                shared.add_code(&account.info);
            }
            for (slot, value) in account.changed_storage_slots() {
                let key = SlotKey { address, generation, slot: *slot };
                if let Some(notes) = &mut notes {
                    notes.write(shared, &key, value.present_value)?;
                }
                contended.extend(shared.memory.slots.commit(key, value.present_value, None));
            }
        }
        Ok(contended)
    }

    /// Commits what a run ahead changed.
    fn commit_run(
        &mut self,
        index: u32,
        tx: &RecoveredTx,
        run: &Run,
    ) -> Result<(), StateReadError> {
        let Self { shared, notes, hints, .. } = self;
        if let Some(notes) = notes {
            run.accounts.iter().for_each(|read| notes.account(read.address));
            run.slots.iter().for_each(|read| notes.read(read.key.address, read.key.slot));
            run.own_slots.iter().for_each(|(address, slot)| notes.read(*address, *slot));
        }
        let published = run.published.then_some(index);
        let mut contended = Slots::new();
        let mut slots = run.slot_writes.iter().peekable();
        for (number, write) in run.writes.iter().enumerate() {
            let address = write.address;
            let [_, after] = change(shared, notes.as_deref_mut(), address, published, |before| {
                write.apply(before, index, shared.removes_empty)
            })?;
            while let Some(slot) = slots.next_if(|slot| slot.account as usize == number) {
                let key = SlotKey { address, generation: after.generation, slot: slot.slot };
                if after.info.is_some() {
                    if let Some(notes) = notes {
                        notes.write(shared, &key, slot.value)?;
                    }
                    contended.extend(shared.memory.slots.commit(key, slot.value, published));
                } else if run.published {
                    shared.memory.slots.withdraw(&key, index);
                }
            }
        }
        hints.write(tx, &contended);
        self.reward(index, run.reward)
    }

    /// Owes the beneficiary a payment, or makes it where one sum is not as good as its parts: its account is touched also by a
    /// payment of nothing, and an empty one goes by that.
    fn reward(&mut self, index: u32, amount: Option<U256>) -> Result<(), StateReadError> {
        let Some(amount) = amount else { return Ok(()) };
        if let Some(owed) = &mut self.owed {
            // Fees are products of a price and gas: far from the limit that `is_huge` leaves.
            *owed += amount;
            return Ok(());
        }
        let beneficiary = self.shared.account(self.shared.env.block.beneficiary)?;
        // The access list has the sum after each transaction.
        let listed = self.notes.as_ref().is_some_and(|notes| notes.accesses.is_some());
        if beneficiary.is_empty() || beneficiary.is_huge() || listed {
            return self.pay(index, amount);
        }
        self.owed = Some(amount);
        Ok(())
    }

    /// Pays what is owed; before anything that looks at the beneficiary's account and cannot be shown it paid.
    pub(super) fn settle(&mut self) -> Result<(), StateReadError> {
        match self.owed.take() {
            Some(owed) => self.pay(self.index, owed),
            None => Ok(()),
        }
    }

    fn pay(&mut self, index: u32, amount: U256) -> Result<(), StateReadError> {
        let Self { shared, notes, .. } = self;
        let beneficiary = shared.env.block.beneficiary;
        if let Some(notes) = notes {
            notes.account(beneficiary);
        }
        change(shared, notes.as_deref_mut(), beneficiary, None, |before| {
            let mut info = before.info.unwrap_or_default();
            info.balance = paid(info.balance, amount);
            Life::Goes.lead(before, info, index, shared.removes_empty)
        })?;
        Ok(())
    }

    /// What is committed from now on belongs to the transaction after those that are included, or to the block's end.
    pub(super) fn turn(&mut self) {
        if let Some(accesses) = self.notes.as_mut().and_then(|notes| notes.accesses.as_mut()) {
            accesses.after(self.tally.transactions.len());
        }
    }

    /// The block's access list, if it is asked for.
    pub(super) fn access_list(&mut self) -> Result<Option<BlockAccessList>, StateReadError> {
        let accesses = self.notes.as_mut().and_then(|notes| notes.accesses.take());
        accesses.map(|accesses| accesses.finish(&self.shared)).transpose()
    }

    /// What the block changed since this was asked last, or since it was opened. What changes is noted from the first time on.
    pub(super) fn changes(&mut self) -> Result<StateDiff, StateReadError> {
        self.settle()?;
        let notes = self.notes.get_or_insert_default();
        match &mut notes.changes {
            Some(changes) => changes.take(&self.shared),
            None => {
                notes.changes = Some(Changes::default());
                diff::of(&self.shared)
            }
        }
    }

    /// Takes back what a run has published.
    fn withdraw(&self, index: u32, run: &Run) {
        if !run.published {
            return;
        }
        let memory = &self.shared.memory;
        run.visit_published(index, self.shared.removes_empty, |published| match published {
            Published::Account(address, _) => memory.accounts.withdraw(&address, index),
            Published::Slot(key, _) => memory.slots.withdraw(&key, index),
        });
    }
}

/// Changes a committed account, takes back what transaction `published` showed of it, and notes the change if that is asked for. Gives the account before and after.
fn change(
    shared: &Shared,
    notes: Option<&mut Notes>,
    address: Address,
    published: Option<u32>,
    after: impl FnOnce(&AccountState) -> AccountState,
) -> Result<[AccountState; 2], StateReadError> {
    let base = || shared.base_account(address);
    let mut states = [AccountState::base(None); 2];
    shared.memory.accounts.update(address, published, base, |state| {
        states = [*state, after(state)];
        *state = states[1];
        Some(())
    })?;
    if let Some(notes) = notes {
        notes.change(address, &states[0], &states[1]);
    }
    Ok(states)
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

    fn receipts(&self) -> &[SharedReceipt] {
        &self.front.tally.receipts
    }

    fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<ExecutionResult>, ExecutionError> {
        self.front.settle()?;
        let account = self.front.shared.account(contract)?;
        if account.info.is_none_or(|info| info.code_hash == KECCAK256_EMPTY) {
            return Ok(None);
        }
        let index = self.front.index;
        self.front.index += 1;
        match self.lane.system_call(index, contract, input) {
            Ok(mut ran) => {
                self.front.commit_state(index, true, &mut ran.state)?;
                Ok(Some(ran.result))
            }
            Err(Failure::Invalid(reason)) => Err(ExecutionError::Evm(reason.to_string())),
            Err(Failure::Error(error)) => Err(error),
        }
    }
}
