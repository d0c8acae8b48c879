//! What waits too long is dropped.

use millrace_proto::RejectReason;

use super::{Now, Place, Pool};

impl Pool {
    /// Drops transactions that could not be taken for longer than they are kept.
    pub(crate) fn expire(&mut self, now: Now) {
        while let Some((due, hash)) = self.expiry.front().copied()
            && due <= now.instant
        {
            self.expiry.pop_front();
            let Some(entry) = self.entry(hash) else { continue };
            let waits = match entry.place {
                Place::Queued => true,
                Place::Pending(place) => self.parked.contains_key(&place),
                Place::Framed(_) => false,
            };
            if !waits || entry.expires.is_none_or(|expires| expires > now.instant) {
                continue;
            }
            if let Some((address, nonce)) = self.by_hash.get(&hash).copied()
                && let Some(entry) = self.remove(address, nonce)
            {
                self.discard(entry, RejectReason::Expired, now);
                self.refresh(address, now);
            }
        }
    }
}
