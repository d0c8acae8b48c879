//! Room in a full pool: what cannot be taken now gives way, the cheapest first.
//!
//! A transaction **waits** if it is queued, or if its fee or an earlier nonce's is below the base fee. Only those that wait are
//! evicted, never one that can be executed and never one in the open block; and of one sender the last nonce first, so that nothing
//! is left behind a gap that eviction made. It gives way to one that offers more: at all, if that can be executed at once; by as much as a replacement has to
//! offer more, if that would wait itself. So where all offer the same, nothing that was taken is evicted. What is queued takes only the place of what is: it may never
//! be executed, and would cost its sender nothing.

use std::{cmp::Reverse, collections::BTreeSet, time::Instant};

use alloy::{
    consensus::Transaction,
    primitives::{Address, TxHash, map::AddressSet},
};
use millrace_proto::RejectReason;

use super::{Entry, Now, Place, Pool};

/// Transactions that are looked at for one newcomer. Looking costs less than what was paid for finding its sender; so a large one finds no room where
/// many small ones would have to go.
const MOST_STEPS: usize = 128;

/// A transaction that waits: the cheapest is the least, and of equals the one that came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waits {
    /// Wei per gas.
    max_fee: u128,
    /// Wei per gas.
    max_tip: u128,
    since: Reverse<Instant>,
    address: Address,
    nonce: u64,
}

impl Waits {
    fn of(entry: &Entry) -> Self {
        let tx = entry.tx.tx();
        Self {
            max_fee: tx.max_fee_per_gas(),
            max_tip: tx.priority_fee_or_price(),
            since: Reverse(entry.since),
            address: entry.tx.sender(),
            nonce: tx.nonce(),
        }
    }
}

/// What a newcomer is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    pub(super) address: Address,
    /// Its size.
    pub(super) bytes: usize,
    /// Wei per gas.
    pub(super) max_fee: u128,
    /// Whether it would wait.
    pub(super) waits: bool,
    /// Whether its nonce does not come yet.
    pub(super) has_gap: bool,
}

/// More by so many percent, and by 1 at least.
pub(super) fn bumped(fee: u128, percent: u32) -> u128 {
    fee.saturating_add(fee.saturating_mul(u128::from(percent)).div_ceil(100).max(1))
}

/// Transactions that wait, and some that did a moment ago.
#[derive(Debug, Default)]
pub(super) struct WaitingSet(BTreeSet<Waits>);

impl WaitingSet {
    /// Notes that a transaction waits.
    pub(super) fn note(&mut self, entry: &mut Entry) {
        if !entry.listed {
            entry.listed = true;
            self.0.insert(Waits::of(entry));
        }
    }

    /// Forgets it.
    pub(super) fn forget(&mut self, entry: &mut Entry) {
        if std::mem::take(&mut entry.listed) {
            self.0.remove(&Waits::of(entry));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn names(&self, entry: &Entry) -> bool {
        self.0.contains(&Waits::of(entry))
    }
}

impl Pool {
    /// Whether a transaction that is not here yet would have to wait: for an earlier nonce, or for a lower base fee behind one that does.
    pub(super) fn would_wait(&self, address: Address, nonce: u64) -> bool {
        let Some(sender) = self.senders.get(&address) else { return true };
        let head = sender.entries.get(&sender.next_frame).map(|entry| entry.place);
        let is_parked = |place| self.parked.contains_key(&place);
        nonce != sender.next || matches!(head, Some(Place::Pending(place)) if is_parked(place))
    }

    /// Whether a transaction that offers so much, wei per gas, offers enough to take the place of one that waits.
    pub(super) fn outbids(&self, max_fee: u128) -> bool {
        let percent = self.limits.replacement_bump_percent;
        self.waiting.0.first().is_some_and(|cheapest| bumped(cheapest.max_fee, percent) <= max_fee)
    }

    /// What has to go for a transaction of so many bytes: transactions, and bytes. No more than it brings, also where more is here than there may be, as
    /// after a start with smaller limits.
    pub(super) fn excess(&self, bytes: usize) -> (usize, usize) {
        let count = (self.by_hash.len() + 1).saturating_sub(self.limits.max_transactions);
        let over = (self.bytes + bytes).saturating_sub(self.limits.max_bytes);
        (count.min(1), over.min(bytes))
    }

    /// Takes out what `victims` named, after the newcomer has come in.
    pub(super) fn evict(&mut self, victims: Vec<TxHash>, now: Now) {
        let mut concerned = AddressSet::default();
        for hash in victims {
            if let Some((address, nonce)) = self.by_hash.get(&hash).copied()
                && let Some(entry) = self.remove(address, nonce)
            {
                concerned.insert(address);
                self.discard(*entry, RejectReason::Evicted, now);
            }
        }
        for address in concerned {
            self.refresh(address, now);
        }
    }

    /// What has to go for a newcomer: nothing if there is room.
    ///
    /// # Errors
    /// If all that may go is not enough.
    pub(super) fn victims(&mut self, newcomer: Newcomer) -> Result<Vec<TxHash>, RejectReason> {
        let (mut count, mut bytes) = self.excess(newcomer.bytes);
        if count == 0 && bytes == 0 {
            return Ok(Vec::new());
        }
        let percent = self.limits.replacement_bump_percent;
        let (mut victims, mut steps) = (Vec::new(), 0);
        // Of each sender, the nonce from which on everything goes.
        let mut taken: Vec<(Address, u64)> = Vec::new();
        let mut moved_on = Vec::new();
        for waits in &self.waiting.0 {
            if count == 0 && bytes == 0 || steps >= MOST_STEPS {
                break;
            }
            steps += 1;
            let least = match newcomer.waits {
                true => bumped(waits.max_fee, percent),
                false => waits.max_fee.saturating_add(1),
            };
            if newcomer.max_fee < least {
                break;
            }
            // It follows them, or they follow it.
            if waits.address == newcomer.address {
                continue;
            }
            let Some(sender) = self.senders.get(&waits.address) else { continue };
            let is_waiting =
                sender.entries.get(&waits.nonce).is_some_and(|entry| match entry.place {
                    Place::Queued => true,
                    Place::Pending(place) => self.parked.contains_key(&place),
                    Place::Framed(_) => false,
                });
            if !is_waiting {
                moved_on.push((waits.address, waits.nonce));
                continue;
            }
            let is_queued =
                sender.entries.get(&waits.nonce).is_some_and(|entry| entry.place == Place::Queued);
            if newcomer.has_gap && !is_queued {
                continue;
            }
            let at = taken.iter().position(|(address, _)| *address == waits.address);
            let end = at.map_or(u64::MAX, |at| taken[at].1);
            let mut first = end;
            for (nonce, entry) in sender.entries.range(waits.nonce..end.max(waits.nonce)).rev() {
                let is_framed = matches!(entry.place, Place::Framed(_));
                if count == 0 && bytes == 0 || steps >= MOST_STEPS || is_framed {
                    break;
                }
                steps += 1;
                first = *nonce;
                count = count.saturating_sub(1);
                bytes = bytes.saturating_sub(entry.tx.encoded().len());
                victims.push(entry.tx.hash());
            }
            match at {
                Some(at) => taken[at].1 = first,
                None => taken.push((waits.address, first)),
            }
        }
        for (address, nonce) in moved_on {
            if let Some(entry) =
                self.senders.get_mut(&address).and_then(|sender| sender.entries.get_mut(&nonce))
            {
                self.waiting.forget(entry);
            }
        }
        let limit = self.limits.max_transactions as u64;
        if count == 0 && bytes == 0 { Ok(victims) } else { Err(RejectReason::PoolFull { limit }) }
    }
}
