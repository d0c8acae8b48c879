//! What waits too long is dropped.

use millrace_proto::RejectReason;

use super::{Now, Place, Pool};

/// Times of expiry that are kept whatever is here.
const SLACK: usize = 1024;

impl Pool {
    /// Drops transactions that could not be taken for longer than they are kept.
    pub(crate) fn expire(&mut self, now: Now) {
        // What left by other ways is in here until its time: not more of that than what is here.
        if self.expiry.len() > 2 * self.by_hash.len() + SLACK {
            self.expiry.retain(|(_, hash)| self.by_hash.contains_key(hash));
        }
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
            if entry.expires.is_none_or(|expires| expires > now.instant) {
                continue;
            }
            if !waits {
                // It can be taken now. When it has to wait again, that gives it a new time.
                if let Some(entry) = self.entry_mut(hash) {
                    entry.expires = None;
                }
                continue;
            }
            if let Some((address, nonce)) = self.by_hash.get(&hash).copied()
                && let Some(entry) = self.remove(address, nonce)
            {
                self.discard(*entry, RejectReason::Expired, now);
                self.refresh(address, now);
            }
        }
    }
}
