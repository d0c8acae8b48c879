//! The checks against the sender's state, and the way into the queues.

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::Transaction,
    primitives::{Address, TxHash, U256},
};
use millrace_proto::{RecoveredTx, RejectReason, SubmitError};
use tokio::sync::oneshot;

use super::{
    Ack, Closed, Disk, Entry, Loaded, Now, Place, Pool, Sender,
    eviction::{Newcomer, bumped},
};
use crate::{admission::Source, log::Position};

/// Tells when the transaction is acknowledged, or why it never will be.
pub(crate) type Acceptance = oneshot::Receiver<Result<(), SubmitError>>;

/// Why a transaction was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It breaks a rule.
    Rejected(RejectReason),
    /// Nothing is taken any more.
    Closed(Closed),
    /// The sender's account must be read, or read again.
    AccountNeeded,
}

impl From<RejectReason> for Refusal {
    fn from(reason: RejectReason) -> Self {
        Self::Rejected(reason)
    }
}

impl Pool {
    /// Takes a checked transaction of a client.
    pub(crate) fn insert(
        &mut self,
        tx: Arc<RecoveredTx>,
        source: Option<Source>,
        loaded: &Loaded,
        now: Now,
    ) -> Result<Acceptance, Refusal> {
        if let Some(closed) = &self.closed {
            return Err(Refusal::Closed(closed.clone()));
        }
        let hash = tx.hash();
        if self.by_hash.contains_key(&hash) {
            return self.follow(hash);
        }
        let (address, nonce) = (tx.sender(), tx.tx().nonce());
        let (per_sender, gap) = (self.limits.max_per_sender, self.limits.max_nonce_gap);
        let bump = self.limits.replacement_bump_percent;

        let mut entry = Box::new(Entry::new(tx, source, Disk::Fresh, now));
        let sender = self.sender_or_load(address, loaded).ok_or(Refusal::AccountNeeded)?;
        if sender.account.is_contract {
            return Err(RejectReason::SenderIsContract { sender: address }.into());
        }
        if nonce < sender.next_frame {
            return Err(
                RejectReason::NonceTooLow { got: nonce, expected: sender.next_frame }.into()
            );
        }
        let old = sender.entries.get(&nonce).map(|old| &**old);
        match old {
            // An authorization (EIP-7702) used a nonce before it inside the open block: it may be included there.
            Some(Entry { place: Place::Framed(_), .. }) => {
                return Err(RejectReason::NonceTooLow { got: nonce, expected: nonce + 1 }.into());
            }
            Some(old) => check_bump(old, &entry, bump)?,
            None => {
                if nonce > sender.next.saturating_add(gap) {
                    let (expected, limit) = (sender.next, gap);
                    return Err(RejectReason::NonceTooFar { got: nonce, expected, limit }.into());
                }
                if sender.entries.len() >= per_sender {
                    return Err(RejectReason::PoolFull { limit: per_sender as u64 }.into());
                }
            }
        }
        check_funds(sender, old, &entry)?;
        let (is_new, bytes) = (old.is_none(), entry.tx.encoded().len());
        let grows = bytes.saturating_sub(old.map_or(0, |old| old.tx.encoded().len()));
        let is_its_own = old.is_some_and(|old| old.source == source);
        let (transactions, more) = if is_its_own { (0, grows) } else { (1, bytes) };
        self.sources.check(&self.limits, source, transactions, more)?;
        if !is_new && grows > 0 && self.bytes.saturating_add(grows) > self.limits.max_bytes {
            let limit = self.limits.max_transactions as u64;
            return Err(RejectReason::PoolFull { limit }.into());
        }
        let victims = if is_new {
            let (max_fee, waits) = (entry.max_fee(), self.would_wait(address, nonce));
            let has_gap = self.senders.get(&address).is_none_or(|sender| nonce != sender.next);
            self.victims(Newcomer { address, bytes, max_fee, waits, has_gap })?
        } else {
            // It takes the room of what it replaces, and there is room for what it is larger.
            Vec::new()
        };

        let (reply, acceptance) = oneshot::channel();
        entry.acks.push(Ack { reply, repeated: false });
        self.fresh.push(hash);
        self.enter(entry, now);
        self.evict(victims, now);
        Ok(acceptance)
    }

    /// Takes back a transaction that was accepted before a restart. What was promised is not checked again: the executor has
    /// the last word. `loaded` must hold its sender.
    pub(crate) fn restore(
        &mut self,
        tx: Arc<RecoveredTx>,
        loaded: &Loaded,
        (position, accepted_at): (Position, Option<Duration>),
        now: Now,
    ) {
        let (address, nonce) = (tx.sender(), tx.tx().nonce());
        if self.by_hash.contains_key(&tx.hash()) {
            return;
        }
        let mut entry = Box::new(Entry::new(tx, None, Disk::Durable(position), now));
        entry.accepted_at = accepted_at;
        let Some(sender) = self.sender_or_load(address, loaded) else { return };
        if nonce < sender.account.nonce {
            let expected = sender.account.nonce;
            self.discard(*entry, RejectReason::NonceTooLow { got: nonce, expected }, now);
        } else if let Some(other) =
            sender.entries.get(&nonce).filter(|other| other.max_fee() >= entry.max_fee())
        {
            let by = other.tx.hash();
            self.discard(*entry, RejectReason::Replaced { by }, now);
        } else {
            self.enter(entry, now);
        }
    }

    /// Puts an entry in its place; what it replaces is dropped.
    fn enter(&mut self, mut entry: Box<Entry>, now: Now) {
        let (address, nonce) = (entry.tx.sender(), entry.tx.tx().nonce());
        let by = entry.tx.hash();
        let Some(old) = self.remove(address, nonce) else {
            let is_next = self.senders.get(&address).is_some_and(|sender| sender.next == nonce);
            if !is_next {
                let expires = now.instant + self.limits.queued_lifetime;
                entry.expires = Some(expires);
                self.expiry.push_back((expires, by));
            }
            if !is_next {
                self.waiting.note(&mut entry);
            }
            self.put(address, nonce, entry);
            if is_next {
                self.promote(address);
            }
            return;
        };
        let place = old.place;
        if place == Place::Queued {
            self.waiting.note(&mut entry);
        }
        if let Some(expires) = old.expires {
            entry.expires = Some(expires);
            self.expiry.push_back((now.instant + self.limits.queued_lifetime, by));
        }
        self.put(address, nonce, entry);
        if let Place::Pending(number) = place {
            self.take_place(address, nonce, number);
        }
        self.discard(*old, RejectReason::Replaced { by }, now);
    }

    /// Gives a queued entry the place of the one that it replaces.
    fn take_place(&mut self, address: Address, nonce: u64, place: u64) {
        self.order_changed(address);
        let Some(sender) = self.senders.get_mut(&address) else { return };
        let Some(entry) = sender.entries.get_mut(&nonce) else { return };
        entry.place = Place::Pending(place);
        entry.expires = None;
        self.queued -= 1;
        self.ready.insert(place, (address, nonce));
        // A better fee may free what waited behind a poor one.
        for (nonce, entry) in sender.entries.range(nonce..) {
            if let Place::Pending(place) = entry.place
                && self.parked.remove(&place).is_some()
            {
                self.ready.insert(place, (address, *nonce));
            }
        }
    }

    /// A repeated submission: known if it is acknowledged, and told so when it is otherwise.
    fn follow(&mut self, hash: TxHash) -> Result<Acceptance, Refusal> {
        let known = Refusal::from(RejectReason::AlreadyKnown { hash });
        let Some(entry) = self.entry_mut(hash) else { return Err(known) };
        if matches!(entry.disk, Disk::Durable(_)) {
            return Err(known);
        }
        let (reply, acceptance) = oneshot::channel();
        entry.acks.push(Ack { reply, repeated: true });
        Ok(acceptance)
    }
}

/// A replacement must offer more of both fees.
fn check_bump(old: &Entry, new: &Entry, percent: u32) -> Result<(), RejectReason> {
    let required = bumped(old.max_fee(), percent);
    let (old, new) = (old.tx.tx(), new.tx.tx());
    let tip = bumped(old.priority_fee_or_price(), percent);
    if new.max_fee_per_gas() < required || new.priority_fee_or_price() < tip.min(required) {
        return Err(RejectReason::Underpriced { required });
    }
    Ok(())
}

/// The balance must cover the most that all of the sender's transactions here can cost.
fn check_funds(sender: &Sender, old: Option<&Entry>, new: &Entry) -> Result<(), RejectReason> {
    let others = sender.cost.saturating_sub(old.map_or(U256::ZERO, |old| old.cost));
    let cost = others.saturating_add(new.cost);
    let balance = sender.account.balance;
    if cost > balance {
        return Err(RejectReason::InsufficientFunds { sender: new.tx.sender(), balance, cost });
    }
    Ok(())
}
