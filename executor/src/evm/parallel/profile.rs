//! How much of a block could be executed at the same time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{
    Address,
    map::{AddressMap, HashMap},
};
use millrace_proto::RecoveredTx;

use super::{
    front::{Front, Prepared},
    lane::Lane,
    run::Run,
    state::{AccountWrite, Life, SlotKey, SlotWrite},
};
use crate::evm::ExecutionError;

/// What bounds the execution of a block on any number of threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkProfile {
    /// The time that all transactions take together.
    pub total: Duration,
    /// The time that the longest chain of transactions takes that depend on each other. No number of threads is faster.
    pub critical: Duration,
}

/// When the last transaction that wrote something was done, counted from the block's start, with as many threads as it takes.
#[derive(Default)]
struct Written {
    slots: HashMap<SlotKey, Duration>,
    balances: AddressMap<Duration>,
    nonces: AddressMap<Duration>,
    /// Code, existence, storage as a whole.
    rest: AddressMap<Duration>,
}

/// Executes transactions in order, each as if it were run ahead, and follows what depends on what. Plain transfers depend on
/// nothing: the front moves the ether of all of them in one go.
pub(super) fn profile(
    front: &mut Front,
    lane: &mut Lane,
    transactions: &[Arc<RecoveredTx>],
) -> Result<WorkProfile, ExecutionError> {
    let mut written = Written::default();
    let mut profile = WorkProfile::default();
    for tx in transactions {
        let started = Instant::now();
        let plain = front.rules().and_then(|rules| rules.of(tx)).is_some();
        let prepared = match plain || tx.tx().is_deposit() {
            true => Prepared::Nothing,
            false => match lane.run_ahead(front.index, tx) {
                Ok(run) => Prepared::Run(run),
                Err(_) => Prepared::Nothing,
            },
        };
        let ran = started.elapsed();
        let (after, writes) = match &prepared {
            Prepared::Run(run) => (written.ready(run, tx.sender()), Some(written.keys(run))),
            _ => (Duration::ZERO, None),
        };
        let committing = Instant::now();
        front.step(lane, tx, prepared)?;
        let time = ran + committing.elapsed();
        profile.total += time;
        profile.critical = profile.critical.max(after + time);
        if let Some(writes) = writes {
            written.note(writes, after + time);
        }
    }
    Ok(profile)
}

/// What a run writes.
struct Keys {
    slots: Vec<SlotKey>,
    accounts: Vec<(Address, bool, bool, bool)>,
}

impl Written {
    /// When everything is there that a run depends on. A sender's nonce is known up front.
    fn ready(&self, run: &Run, sender: Address) -> Duration {
        let slots = run.slots.iter().filter_map(|read| self.slots.get(&read.key));
        let rest = run.accounts.iter().filter_map(|read| self.rest.get(&read.address));
        let exact = run.accounts.iter().filter(|read| read.exact);
        let balances = exact.filter_map(|read| self.balances.get(&read.address));
        let others = run.accounts.iter().filter(|read| read.address != sender);
        let nonces = others.filter_map(|read| self.nonces.get(&read.address));
        slots.chain(rest).chain(balances).chain(nonces).max().copied().unwrap_or_default()
    }

    fn keys(&self, run: &Run) -> Keys {
        let slot = |write: &SlotWrite| {
            let account = &run.writes[write.account as usize];
            let read = run.accounts.iter().find(|read| read.address == account.address);
            let generation = read.map_or(0, |read| read.seen.generation);
            SlotKey { address: account.address, generation, slot: write.slot }
        };
        let account = |write: &AccountWrite| {
            let rest = write.code_hash.is_some() || write.life != Life::Goes;
            (write.address, !write.balance.is_zero(), write.nonce.is_some(), rest)
        };
        Keys {
            slots: run.slot_writes.iter().map(slot).collect(),
            accounts: run.writes.iter().map(account).collect(),
        }
    }

    fn note(&mut self, keys: Keys, done: Duration) {
        self.slots.extend(keys.slots.into_iter().map(|key| (key, done)));
        for (address, balance, nonce, rest) in keys.accounts {
            for (changed, times) in
                [(balance, &mut self.balances), (nonce, &mut self.nonces), (rest, &mut self.rest)]
            {
                if changed {
                    times.insert(address, done);
                }
            }
        }
    }
}
