//! In which order executable transactions are taken.
//!
//! Whatever the policy, only the next transaction of each sender is ever offered, its head: a later nonce never comes before an
//! earlier one. The policy says which sender's head comes first.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use alloy::{
    consensus::Transaction,
    primitives::{
        Address,
        map::{AddressMap, AddressSet},
    },
};

use super::{Place, Sender};
use crate::OrderBy;

/// Pending transactions, by the place that they got when they became so: sender and nonce.
pub(super) type Places = BTreeMap<u64, (Address, u64)>;

/// Place, sender and nonce.
pub(super) type Next = (u64, Address, u64);

/// What a policy chooses from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting<'a> {
    /// Those that can be taken once they are their sender's next.
    pub(super) ready: &'a Places,
    pub(super) senders: &'a AddressMap<Sender>,
}

impl Waiting<'_> {
    /// The transaction that a sender can have taken next, as a bid; `None` if there is none, or it is parked.
    fn head(&self, address: Address) -> Option<Bid> {
        let sender = self.senders.get(&address)?;
        let entry = sender.entries.get(&sender.next_frame)?;
        let Place::Pending(place) = entry.place else { return None };
        let tx = entry.tx.tx();
        let (max_fee, max_tip) = (tx.max_fee_per_gas(), tx.priority_fee_or_price());
        self.ready.contains_key(&place).then_some(Bid { place, max_fee, max_tip })
    }
}

/// Decides which executable transaction is taken next.
pub(super) trait OrderPolicy: fmt::Debug + Send + Sync {
    /// What can be taken of these senders, or their next nonce, may have changed.
    fn changed(&mut self, senders: &mut dyn Iterator<Item = Address>);

    /// The next one at a block's base fee, wei per gas: its place, sender and nonce. `None` if nothing is ready. It may be one that cannot be taken at that base
    /// fee, which the caller parks, and only then are others.
    fn next(&mut self, waiting: Waiting<'_>, base_fee: u64) -> Option<Next>;
}

/// The policy that the settings name.
pub(super) fn policy(by: OrderBy) -> Box<dyn OrderPolicy> {
    match by {
        OrderBy::Arrival => Box::new(Arrival),
        OrderBy::PriorityFee => Box::<PriorityFee>::default(),
    }
}

/// By place: first come, first served. Keeps nothing of its own.
#[derive(Debug)]
struct Arrival;

impl OrderPolicy for Arrival {
    fn changed(&mut self, _senders: &mut dyn Iterator<Item = Address>) {}

    fn next(&mut self, waiting: Waiting<'_>, _base_fee: u64) -> Option<Next> {
        let (&place, &(address, nonce)) = waiting.ready.first_key_value()?;
        Some((place, address, nonce))
    }
}

/// What a head offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bid {
    place: u64,
    /// Wei per gas.
    max_fee: u128,
    /// Wei per gas; a legacy transaction's gas price.
    max_tip: u128,
}

/// The better, the lower. `None` as a tip: it cannot be taken at this base fee.
type Rank = (Reverse<Option<u128>>, u64);

impl Bid {
    fn rank(&self, base_fee: u64) -> Rank {
        let above = self.max_fee.checked_sub(base_fee.into());
        (Reverse(above.map(|above| above.min(self.max_tip))), self.place)
    }
}

/// By effective tip a gas, the highest first, and by place where they are equal: the best of the senders' heads, then the best of
/// what is left with that sender's next one among them, and so on. A change of a head costs O(log n) of n senders; a
/// change of the base fee, which comes once a block, sorts the heads anew.
#[derive(Debug, Default)]
struct PriorityFee {
    base_fee: u64,
    heads: BTreeMap<Rank, Address>,
    bids: AddressMap<Bid>,
    /// Senders to look at again.
    changed: AddressSet,
}

impl PriorityFee {
    fn update(&mut self, address: Address, bid: Option<Bid>) {
        let before = match bid {
            Some(bid) => self.bids.insert(address, bid),
            None => self.bids.remove(&address),
        };
        if before == bid {
            return;
        }
        if let Some(before) = before {
            self.heads.remove(&before.rank(self.base_fee));
        }
        if let Some(bid) = bid {
            self.heads.insert(bid.rank(self.base_fee), address);
        }
    }
}

impl OrderPolicy for PriorityFee {
    fn changed(&mut self, senders: &mut dyn Iterator<Item = Address>) {
        self.changed.extend(senders);
    }

    fn next(&mut self, waiting: Waiting<'_>, base_fee: u64) -> Option<Next> {
        if self.base_fee != base_fee {
            self.base_fee = base_fee;
            let bids = self.bids.iter();
            self.heads = bids.map(|(address, bid)| (bid.rank(base_fee), *address)).collect();
        }
        let mut changed = std::mem::take(&mut self.changed);
        for address in changed.drain() {
            self.update(address, waiting.head(address));
        }
        // Its room is used again.
        self.changed = changed;
        // Before anything is taken, what cannot be is offered, to be parked: it is known to wait then, and gives way in a full pool.
        let last = self.heads.last_key_value().filter(|((tip, _), _)| tip.0.is_none());
        let ((_, place), _) = last.or_else(|| self.heads.first_key_value())?;
        let (address, nonce) = *waiting.ready.get(place)?;
        Some((*place, address, nonce))
    }
}
