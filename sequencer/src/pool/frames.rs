//! Taking transactions into frames, and what becomes of them there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::Transaction,
    primitives::{Address, TxHash, map::AddressSet},
};
use millrace_proto::{ExecutedBlock, RecoveredTx, RejectReason, StateDiff};

use super::{Disk, Loaded, Now, Place, Pool, order::Waiting};
use crate::log::AcceptTimes;

/// What a frame may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameLimits {
    /// Transactions.
    pub(crate) count: usize,
    /// Gas that the block has left.
    pub(crate) gas_left: u64,
    /// Bytes that the block has left: a batch must be able to hold it.
    pub(crate) bytes_left: usize,
    /// Bytes that may be taken now.
    pub(crate) allowed: usize,
    /// The block's, wei per gas.
    pub(crate) base_fee: u64,
    /// The time now, since the Unix epoch: when those are accepted that are in no record yet.
    pub(crate) wall: Duration,
}

/// The next transactions.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) txs: Vec<Arc<RecoveredTx>>,
    /// When each was accepted.
    pub(crate) accepted_at: AcceptTimes,
    /// Whether the one after them waits, and the block has no room for it.
    pub(crate) is_full: bool,
}

/// What the executor made of a framed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In the block.
    Included,
    /// Back to its place among the pending ones: valid later.
    Returned,
    /// Never valid.
    Dropped(RejectReason),
}

impl Pool {
    /// Whether a transaction can be taken at a base fee. Parks those whose fee is below it.
    pub(crate) fn has_executable(&mut self, base_fee: u64) -> bool {
        self.park_until(base_fee, Duration::ZERO, |_, _| false)
    }

    /// Makes what was parked at the last block's base fee available again.
    pub(crate) fn unpark(&mut self) {
        self.order.changed(&mut self.parked.values().map(|(address, _)| *address));
        self.ready.append(&mut self.parked);
    }

    /// Takes the next transactions in order.
    ///
    /// Gas limits are upper bounds, so the one that crosses what the block has left is taken as well, as the last: it may fit.
    /// But when the first does not fit, the block is full: nobody overtakes it.
    pub(crate) fn take_frame(&mut self, limits: FrameLimits) -> Frame {
        let mut frame = Frame { txs: Vec::new(), accepted_at: Vec::new(), is_full: false };
        let mut gas = 0_u64;
        let mut bytes = 0;
        self.park_until(limits.base_fee, limits.wall, |tx, accepted_at| {
            if frame.txs.len() == limits.count || gas > limits.gas_left {
                return false;
            }
            gas = gas.saturating_add(tx.tx().gas_limit());
            bytes += tx.batch_bytes();
            let no_gas = gas > limits.gas_left && frame.txs.is_empty();
            frame.is_full = no_gas || bytes > limits.bytes_left;
            if frame.is_full || bytes > limits.allowed {
                return false;
            }
            frame.txs.push(tx.clone());
            frame.accepted_at.push(accepted_at);
            true
        });
        frame
    }

    /// Goes through the pending transactions in order. Those that cannot be taken at this base fee are parked; each other one
    /// is offered, with when it is accepted, and framed if it is taken. Returns true at the first that is not taken, false at the end.
    fn park_until(
        &mut self,
        base_fee: u64,
        wall: Duration,
        mut take: impl FnMut(&Arc<RecoveredTx>, Option<Duration>) -> bool,
    ) -> bool {
        loop {
            let waiting = Waiting { ready: &self.ready, senders: &self.senders };
            let Some((place, address, nonce)) = self.order.next(waiting, base_fee) else {
                return false;
            };
            let entry = self
                .senders
                .get_mut(&address)
                .filter(|sender| sender.next_frame == nonce)
                .and_then(|sender| Some((sender.entries.get_mut(&nonce)?, &mut sender.next_frame)))
                .filter(|(entry, _)| entry.max_fee() >= u128::from(base_fee));
            let Some((entry, next_frame)) = entry else {
                self.park(place, address, nonce);
                continue;
            };
            let is_fresh = entry.disk == Disk::Fresh;
            let accepted_at = if is_fresh { Some(wall) } else { entry.accepted_at };
            if !take(&entry.tx, accepted_at) {
                return true;
            }
            entry.place = Place::Framed(place);
            if is_fresh {
                entry.disk = Disk::Writing;
                entry.accepted_at = accepted_at;
            }
            *next_frame = nonce + 1;
            self.ready.remove(&place);
            self.order_changed(address);
        }
    }

    /// Parks a sender's pending transaction, and those that cannot be taken before it.
    fn park(&mut self, place: u64, address: Address, nonce: u64) {
        self.ready.remove(&place);
        self.parked.insert(place, (address, nonce));
        self.order_changed(address);
        let expires = Instant::now() + self.limits.queued_lifetime;
        let Some(sender) = self.senders.get_mut(&address) else { return };
        for (nonce, entry) in sender.entries.range_mut(nonce..) {
            let Place::Pending(place) = entry.place else { break };
            if self.ready.remove(&place).is_some() {
                self.parked.insert(place, (address, *nonce));
            }
            self.waiting.note(entry);
            if entry.expires.is_none() {
                entry.expires = Some(expires);
                self.expiry.push_back((expires, entry.tx.hash()));
            }
        }
    }

    /// Takes over what became of framed transactions.
    pub(crate) fn settle_frame(&mut self, verdicts: Vec<(TxHash, Verdict)>, now: Now) {
        let mut concerned = AddressSet::default();
        for (hash, verdict) in verdicts {
            let Some((address, nonce)) = self.by_hash.get(&hash).copied() else { continue };
            match verdict {
                Verdict::Included => continue,
                Verdict::Returned => {
                    let Some(entry) = self.entry_mut(hash) else { continue };
                    if let Place::Framed(place) = entry.place {
                        entry.place = Place::Pending(place);
                        self.ready.insert(place, (address, nonce));
                    }
                }
                Verdict::Dropped(reason) => {
                    if let Some(entry) = self.remove(address, nonce) {
                        self.discard(*entry, reason, now);
                    }
                }
            }
            concerned.insert(address);
        }
        for address in concerned {
            self.refresh(address, now);
        }
    }

    /// Takes a sealed block's transactions out and brings the accounts up to date: with the block's changes, or with accounts
    /// that were read after it. Returns since when each of the transactions was here.
    pub(crate) fn sealed(
        &mut self,
        block: &ExecutedBlock,
        changes: Result<Arc<StateDiff>, Loaded>,
        now: Now,
    ) -> Vec<Instant> {
        let mut concerned = AddressSet::default();
        let mut since = Vec::with_capacity(block.transactions.len());
        for tx in &block.transactions {
            if let Some((address, nonce)) = self.by_hash.get(&tx.hash()).copied()
                && let Some(entry) = self.remove(address, nonce)
            {
                since.push(entry.since);
                concerned.insert(address);
            }
        }
        concerned.extend(match changes {
            Ok(diff) => self.apply_diff(block.number(), diff),
            Err(loaded) => self.apply_loaded(loaded),
        });
        for address in concerned {
            self.refresh(address, now);
        }
        self.unpark();
        since
    }
}
