//! What is on disk: acknowledgements, drops, and what must be written again.

use std::{sync::Arc, time::Duration};

use alloy::primitives::TxHash;
use millrace_proto::{RecoveredTx, RejectReason, SequencerError, SubmitError};

use super::{Ack, Closed, Disk, Entry, Now, Pool};
use crate::log::{AcceptTimes, DroppedTx, Position};

/// Acknowledgements to send once the pool is unlocked.
#[derive(Debug, Default)]
#[must_use = "callers wait for these"]
pub(crate) struct Acks {
    waiting: Vec<(TxHash, Ack)>,
    /// Transactions that are acknowledged for the first time.
    pub(crate) accepted: Vec<TxHash>,
}

impl Acks {
    /// Sends them.
    pub(crate) fn send(self) {
        for (hash, ack) in self.waiting {
            let answer =
                if ack.repeated { Err(RejectReason::AlreadyKnown { hash }.into()) } else { Ok(()) };
            // A caller that went away does not want the answer any more.
            let _ = ack.reply.send(answer);
        }
    }
}

impl Pool {
    /// Fresh transactions, in order of arrival; they count as being written from now on, and as accepted at this time, since the Unix epoch, once they are.
    pub(crate) fn take_fresh(&mut self, wall: Duration) -> Vec<Arc<RecoveredTx>> {
        let mut taken = Vec::new();
        for hash in std::mem::take(&mut self.fresh) {
            if let Some(entry) = self.entry_mut(hash)
                && entry.disk == Disk::Fresh
            {
                entry.disk = Disk::Writing;
                entry.accepted_at = Some(wall);
                taken.push(entry.tx.clone());
            }
        }
        taken
    }

    /// Whether there are transactions or drops that no record was made for yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.fresh.is_empty() || !self.unrecorded.is_empty() || !self.gone.is_empty()
    }

    /// Transactions that were discarded before they were in any record.
    pub(crate) fn take_gone(&mut self) -> Vec<TxHash> {
        std::mem::take(&mut self.gone)
    }

    /// Drops that no record was made for yet.
    pub(crate) fn take_drops(&mut self) -> Vec<DroppedTx> {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        unrecorded.iter().filter_map(|hash| self.leaving.get(hash).cloned()).collect()
    }

    /// Transactions whose last record is before `position`, and when each was accepted.
    pub(crate) fn older_than(&self, position: Position) -> (Vec<Arc<RecoveredTx>>, AcceptTimes) {
        let entries = self.senders.values().flat_map(|sender| sender.entries.values());
        entries
            .filter(|entry| matches!(entry.disk, Disk::Durable(at) if at < position))
            .map(|entry| (entry.tx.clone(), entry.accepted_at))
            .unzip()
    }

    /// Notes that a record that holds these transactions is on disk.
    pub(crate) fn written(
        &mut self,
        txs: &[Arc<RecoveredTx>],
        position: Position,
        now: Now,
        acks: &mut Acks,
    ) {
        let metrics = self.metrics.clone();
        for tx in txs {
            let hash = tx.hash();
            let Some(entry) = self.entry_mut(hash) else { continue };
            // It was dropped meanwhile and submitted again: this record does not stand for the new submission.
            if !Arc::ptr_eq(&entry.tx, tx) {
                continue;
            }
            if !matches!(entry.disk, Disk::Durable(_)) {
                metrics.accepted.increment(1);
                metrics.accept_seconds.record(now.instant.duration_since(entry.since));
                acks.accepted.push(hash);
            }
            entry.disk = Disk::Durable(position);
            acks.waiting.extend(entry.acks.drain(..).map(|ack| (hash, ack)));
        }
    }

    /// Notes that the record of these drops is on disk.
    pub(crate) fn drops_written(&mut self, drops: &[DroppedTx]) {
        for dropped in drops {
            let hash = dropped.tx.hash();
            if self.leaving.get(&hash).is_some_and(|leaving| Arc::ptr_eq(&leaving.tx, &dropped.tx))
            {
                self.leaving.remove(&hash);
            }
        }
    }

    /// Why nothing is taken any more, if that is so.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed.clone()
    }

    /// Stops taking transactions.
    pub(crate) fn close(&mut self, closed: Closed) {
        self.closed.get_or_insert(closed);
    }

    /// Stops taking transactions, and answers everyone who still waits for an acknowledgement that it is not known whether
    /// the transaction was taken.
    pub(crate) fn fail(&mut self, closed: Closed) {
        self.closed = Some(closed.clone());
        for entry in self.senders.values_mut().flat_map(|sender| sender.entries.values_mut()) {
            for ack in entry.acks.drain(..) {
                let error = SubmitError::Failed(SequencerError::from(closed.clone()));
                let _ = ack.reply.send(Err(error));
            }
        }
    }

    /// Drops an entry that was taken out. A transaction that was never in a record is refused, as if it had not come.
    pub(super) fn discard(&mut self, mut entry: Entry, reason: RejectReason, now: Now) {
        for ack in entry.acks.drain(..) {
            let _ = ack.reply.send(Err(reason.clone().into()));
        }
        if entry.disk == Disk::Fresh {
            self.gone.push(entry.tx.hash());
            return;
        }
        self.metrics.dropped(&reason);
        let hash = entry.tx.hash();
        let accepted_at = entry.accepted_at;
        self.leaving.insert(hash, DroppedTx { tx: entry.tx, reason, at: now.wall, accepted_at });
        self.unrecorded.push(hash);
    }
}
