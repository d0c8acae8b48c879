//! The pool: every accepted transaction that no sealed block holds.
//!
//! A sender's transactions are **pending** as long as no nonce is missing before them, and **queued** otherwise. Pending ones have
//! a place in the order in which they became pending, which is kept when a transaction comes back from a full
//! block or is replaced; they are taken in the order of their places, or by what they offer. Transactions of the open block stay here, **framed**, until the block is sealed.
//!
//! A transaction is acknowledged when a record of the order log that holds it is on disk: until then it is fresh.

mod accounts;
mod closed;
mod durability;
mod eviction;
mod expiry;
mod frames;
mod insert;
mod order;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::Transaction,
    primitives::{
        Address, TxHash, U256,
        map::{AddressMap, B256Map},
    },
};
use millrace_proto::{
    ExecutedBlock, PoolContent, PoolStatus, RecoveredTx, RejectReason, StateDiff, SubmitError,
};
use tokio::sync::oneshot;

pub(crate) use self::{
    accounts::{Account, Loaded, load_accounts},
    closed::Closed,
    durability::Acks,
    frames::{Frame, FrameLimits, Verdict},
    insert::{Acceptance, Refusal},
};
use self::{
    eviction::WaitingSet,
    order::{OrderPolicy, Places},
    sources::Sources,
};
use crate::{
    OrderBy, PoolConfig,
    admission::{Source, most_cost},
    log::{DroppedTx, Position},
    metrics::SequencerMetrics,
};

/// The time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For durations.
    pub(crate) instant: Instant,
    /// For people, since the Unix epoch.
    pub(crate) wall: Duration,
}

/// Where a transaction stands in the order. The number is its place among the pending ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Waits for an earlier nonce.
    Queued,
    /// Can be taken.
    Pending(u64),
    /// Is in the open block.
    Framed(u64),
}

/// Whether a record that holds the transaction is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    /// In no record.
    Fresh,
    /// In a record that is on its way.
    Writing,
    /// On disk, at this record.
    Durable(Position),
}

/// Who waits for the acknowledgement.
#[derive(Debug)]
struct Ack {
    reply: oneshot::Sender<Result<(), SubmitError>>,
    /// Whether this is a repeated submission, which is told that the transaction is known.
    repeated: bool,
}

#[derive(Debug)]
struct Entry {
    tx: Arc<RecoveredTx>,
    /// Who sent it, where that counts.
    source: Option<Source>,
    /// The most that it can cost, wei.
    cost: U256,
    place: Place,
    disk: Disk,
    since: Instant,
    accepted_at: Option<Duration>,
    /// When it is dropped if it still cannot be taken.
    expires: Option<Instant>,
    /// Whether it is among those that wait, by what they offer.
    listed: bool,
    acks: Vec<Ack>,
}

impl Entry {
    fn max_fee(&self) -> u128 {
        self.tx.tx().max_fee_per_gas()
    }
}

/// One sender's account and transactions.
#[derive(Debug)]
struct Sender {
    account: Account,
    /// By nonce. Boxed, as a map moves its values whenever one goes.
    entries: BTreeMap<u64, Box<Entry>>,
    /// The first nonce that is not framed.
    next_frame: u64,
    /// The first nonce that is missing.
    next: u64,
    /// The most that the entries can cost together, wei.
    cost: U256,
}

/// What is known of a transaction that no sealed block holds.
#[derive(Debug, Clone)]
pub(crate) struct Pooled {
    /// The transaction.
    pub(crate) tx: Arc<RecoveredTx>,
    /// Whether it is acknowledged.
    pub(crate) durable: bool,
    /// When it was acknowledged, since the Unix epoch.
    pub(crate) accepted_at: Option<Duration>,
}

/// A transaction whose sender is not known yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) hash: TxHash,
    /// Its size.
    pub(crate) bytes: usize,
    /// Wei per gas.
    pub(crate) max_fee: u128,
    pub(crate) source: Option<Source>,
}

/// The pool. Plain data behind the service's lock: nothing in here waits.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: PoolConfig,
    metrics: SequencerMetrics,
    /// The block after which the accounts are as they are here.
    head: u64,
    /// How often blocks were taken back.
    unwound: u64,
    /// What the last blocks changed, oldest first: brings accounts that were read a moment ago up to date.
    recent: VecDeque<(u64, Arc<StateDiff>)>,
    senders: AddressMap<Sender>,
    by_hash: B256Map<(Address, u64)>,
    /// Pending transactions by their place in the order.
    ready: Places,
    /// Pending transactions whose fee, or whose predecessor's, is below this block's base fee.
    parked: Places,
    /// Which of those that are ready comes next.
    order: Box<dyn OrderPolicy>,
    order_by: OrderBy,
    next_place: u64,
    /// Those that cannot be taken now, by what they offer: what is evicted from a full pool.
    waiting: WaitingSet,
    sources: Sources,
    /// In order of arrival; may name some that were written or left since.
    fresh: Vec<TxHash>,
    /// Dropped, and not yet on disk as such.
    leaving: B256Map<DroppedTx>,
    /// Those of `leaving` that no record was made for yet.
    unrecorded: Vec<TxHash>,
    /// Discarded before they were in any record: whoever waits for one has to look again.
    gone: Vec<TxHash>,
    /// By time of expiry; may name some that were taken or left since.
    expiry: VecDeque<(Instant, TxHash)>,
    /// Senders without entries, the longest idle first; may name some that came back since.
    idle: VecDeque<Address>,
    bytes: usize,
    queued: usize,
    closed: Option<Closed>,
}

impl Pool {
    /// An empty pool at a block.
    pub(crate) fn new(
        limits: PoolConfig,
        order_by: OrderBy,
        metrics: SequencerMetrics,
        head: u64,
    ) -> Self {
        Self {
            limits,
            order: order::policy(order_by),
            order_by,
            metrics,
            head,
            unwound: 0,
            recent: VecDeque::new(),
            senders: AddressMap::default(),
            by_hash: B256Map::default(),
            ready: BTreeMap::new(),
            parked: BTreeMap::new(),
            next_place: 0,
            waiting: WaitingSet::default(),
            sources: Sources::default(),
            fresh: Vec::new(),
            leaving: B256Map::default(),
            unrecorded: Vec::new(),
            gone: Vec::new(),
            expiry: VecDeque::new(),
            idle: VecDeque::new(),
            bytes: 0,
            queued: 0,
            closed: None,
        }
    }

    /// An empty pool at an earlier block, in place of this one.
    pub(crate) fn unwound_to(&self, head: u64) -> Self {
        let pool = Self::new(self.limits.clone(), self.order_by, self.metrics.clone(), head);
        Self { unwound: self.unwound + 1, ..pool }
    }

    /// How full it is.
    pub(crate) fn status(&self) -> PoolStatus {
        PoolStatus {
            pending: (self.ready.len() + self.parked.len()) as u64,
            queued: self.queued as u64,
        }
    }

    /// The acknowledged transactions in no order, or one sender's by nonce; `None` if there are more than `limit`.
    pub(crate) fn content(&self, sender: Option<Address>, limit: usize) -> Option<PoolContent> {
        let mut content = PoolContent::default();
        let mut list = |entry: &Entry| match (entry.disk, entry.place) {
            (Disk::Fresh | Disk::Writing, _) => {}
            (Disk::Durable(_), Place::Queued) => content.queued.push(entry.tx.clone()),
            (Disk::Durable(_), Place::Pending(_) | Place::Framed(_)) => {
                content.pending.push(entry.tx.clone());
            }
        };
        match sender {
            Some(sender) => {
                let entries = self.senders.get(&sender).map(|sender| &sender.entries);
                if entries.is_some_and(|entries| entries.len() > limit) {
                    return None;
                }
                entries.into_iter().flat_map(BTreeMap::values).for_each(|entry| list(entry));
            }
            // Without a look at senders that have nothing here: there may be many.
            None if self.by_hash.len() > limit => return None,
            None => self.by_hash.keys().filter_map(|hash| self.entry(*hash)).for_each(&mut list),
        }
        Some(content)
    }

    /// A transaction that is here, or leaving.
    pub(crate) fn get(&self, hash: TxHash) -> Option<Pooled> {
        if let Some(entry) = self.entry(hash) {
            let durable = matches!(entry.disk, Disk::Durable(_));
            return Some(Pooled { tx: entry.tx.clone(), durable, accepted_at: entry.accepted_at });
        }
        let leaving = self.leaving.get(&hash)?;
        let DroppedTx { tx, accepted_at, .. } = leaving.clone();
        Some(Pooled { tx, durable: true, accepted_at })
    }

    /// Whether a transaction may find room, as far as that can be told without its sender; the error is why not. What is here already needs none, and a closed pool says so when it is given one.
    pub(crate) fn has_room_for(&self, asked: Asked) -> Result<(), RejectReason> {
        if self.closed.is_some() || self.holds(asked.hash) {
            return Ok(());
        }
        self.sources.check(&self.limits, asked.source, 1, asked.bytes)?;
        if self.excess(asked.bytes) != (0, 0) && !self.outbids(asked.max_fee) {
            return Err(RejectReason::PoolFull { limit: self.limits.max_transactions as u64 });
        }
        Ok(())
    }

    /// When each transaction of a block was acknowledged, since the Unix epoch, as far as they are here.
    pub(crate) fn accepted_at(&self, block: &ExecutedBlock) -> Vec<Option<Duration>> {
        let accepted = |hash| self.entry(hash)?.accepted_at;
        block.transactions.iter().map(|tx| accepted(tx.hash())).collect()
    }

    /// Whether a transaction is here.
    pub(crate) fn holds(&self, hash: TxHash) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// Whether a transaction is here and acknowledged.
    pub(crate) fn is_acknowledged(&self, hash: TxHash) -> bool {
        self.entry(hash).is_some_and(|entry| matches!(entry.disk, Disk::Durable(_)))
    }

    /// The nonce after the sender's transactions without a gap, or `None` if its account is not known here.
    pub(crate) fn next_nonce(&self, sender: Address) -> Option<u64> {
        self.senders.get(&sender).map(|sender| sender.next)
    }

    /// The block after which the accounts are as they are here.
    pub(crate) const fn head(&self) -> u64 {
        self.head
    }

    /// How often blocks were taken back.
    pub(crate) const fn unwound(&self) -> u64 {
        self.unwound
    }

    fn entry(&self, hash: TxHash) -> Option<&Entry> {
        let (address, nonce) = self.by_hash.get(&hash)?;
        self.senders.get(address)?.entries.get(nonce).map(|entry| &**entry)
    }

    fn entry_mut(&mut self, hash: TxHash) -> Option<&mut Entry> {
        let (address, nonce) = self.by_hash.get(&hash)?;
        self.senders.get_mut(address)?.entries.get_mut(nonce).map(|entry| &mut **entry)
    }

    /// Tells the order that what can be taken of a sender may be another transaction.
    fn order_changed(&mut self, address: Address) {
        self.order.changed(&mut iter::once(address));
    }

    /// Takes an entry out. The sender's other entries keep their places: [`Self::refresh`] comes after.
    fn remove(&mut self, address: Address, nonce: u64) -> Option<Box<Entry>> {
        let sender = self.senders.get_mut(&address)?;
        let mut entry = sender.entries.remove(&nonce)?;
        self.waiting.forget(&mut entry);
        sender.cost = sender.cost.saturating_sub(entry.cost);
        self.by_hash.remove(&entry.tx.hash());
        let bytes = entry.tx.encoded().len();
        self.bytes -= bytes;
        self.sources.remove(entry.source, bytes);
        match entry.place {
            Place::Queued => self.queued -= 1,
            Place::Pending(place) => {
                self.ready.remove(&place);
                self.parked.remove(&place);
            }
            Place::Framed(_) => {}
        }
        Some(entry)
    }

    /// Puts an entry in as queued. [`Self::promote`] or [`Self::refresh`] comes after.
    fn put(&mut self, address: Address, nonce: u64, entry: Box<Entry>) {
        debug_assert_eq!(entry.place, Place::Queued, "places are given by promotion");
        let Some(sender) = self.senders.get_mut(&address) else { return };
        self.by_hash.insert(entry.tx.hash(), (address, nonce));
        let bytes = entry.tx.encoded().len();
        self.bytes += bytes;
        self.sources.add(entry.source, bytes);
        self.queued += 1;
        sender.cost = sender.cost.saturating_add(entry.cost);
        sender.entries.insert(nonce, entry);
    }

    /// Makes the sender's entries pending from its first missing nonce on, as far as none is missing.
    fn promote(&mut self, address: Address) {
        self.order_changed(address);
        let Some(sender) = self.senders.get_mut(&address) else { return };
        while let Some(entry) = sender.entries.get_mut(&sender.next) {
            if entry.place == Place::Queued {
                entry.place = Place::Pending(self.next_place);
                entry.expires = None;
                self.waiting.forget(entry);
                self.ready.insert(self.next_place, (address, sender.next));
                self.next_place += 1;
                self.queued -= 1;
            }
            sender.next += 1;
        }
    }

    /// Brings a sender's entries in line with its account: drops those whose nonce is used, and finds the pending and the queued
    /// ones again.
    fn refresh(&mut self, address: Address, now: Now) {
        let Some(sender) = self.senders.get(&address) else { return };
        let expected = sender.account.nonce;
        let used: Vec<u64> = sender.entries.range(..expected).map(|(nonce, _)| *nonce).collect();
        for got in used {
            if let Some(entry) = self.remove(address, got) {
                self.discard(*entry, RejectReason::NonceTooLow { got, expected }, now);
            }
        }

        let Some(sender) = self.senders.get_mut(&address) else { return };
        let is_framed = |entry: &Entry| matches!(entry.place, Place::Framed(_));
        sender.next_frame = expected;
        while sender.entries.get(&sender.next_frame).is_some_and(|entry| is_framed(entry)) {
            sender.next_frame += 1;
        }
        sender.next = sender.next_frame;
        self.promote(address);

        let lifetime = self.limits.queued_lifetime;
        let Some(sender) = self.senders.get_mut(&address) else { return };
        for (_, entry) in sender.entries.range_mut(sender.next..) {
            if let Place::Pending(place) = entry.place {
                self.ready.remove(&place);
                self.parked.remove(&place);
                entry.place = Place::Queued;
                self.queued += 1;
            }
            self.waiting.note(entry);
            if entry.expires.is_none() {
                let expires = now.instant + lifetime;
                entry.expires = Some(expires);
                self.expiry.push_back((expires, entry.tx.hash()));
            }
        }
        if sender.entries.is_empty() {
            self.idle.push_back(address);
            self.forget_idle();
        }
    }

    fn forget_idle(&mut self) {
        while self.idle.len() > self.limits.cached_senders {
            let Some(address) = self.idle.pop_front() else { return };
            if self.senders.get(&address).is_some_and(|sender| sender.entries.is_empty()) {
                self.senders.remove(&address);
            }
        }
    }
}

impl Sender {
    fn new(account: Account) -> Self {
        let (next, next_frame) = (account.nonce, account.nonce);
        Self { account, entries: BTreeMap::new(), next_frame, next, cost: U256::ZERO }
    }
}

impl Entry {
    fn new(tx: Arc<RecoveredTx>, source: Option<Source>, disk: Disk, now: Now) -> Self {
        let cost = most_cost(tx.tx());
        Self {
            tx,
            source,
            cost,
            place: Place::Queued,
            disk,
            since: now.instant,
            accepted_at: None,
            expires: None,
            listed: false,
            acks: Vec::new(),
        }
    }
}
