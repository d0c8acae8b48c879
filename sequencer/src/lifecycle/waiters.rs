//! Who waits for a transaction's next step.

use alloy::primitives::{TxHash, map::B256Map};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Wakes those that wait for a transaction: one entry in a map while they wait, nothing before and after.
///
/// To miss nothing, register first, then look at the transaction, then wait.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<B256Map<Vec<oneshot::Sender<()>>>>);

impl Waiters {
    /// Resolves at the transaction's next step.
    pub(crate) fn register(&self, hash: TxHash) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.0.lock();
        let waiting = waiting.entry(hash).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(wake);
        woken
    }

    /// Takes back registrations that nobody waits for any more.
    pub(crate) fn clean(&self, hash: TxHash) {
        let mut all = self.0.lock();
        if let Some(waiting) = all.get_mut(&hash) {
            waiting.retain(|other| !other.is_closed());
            if waiting.is_empty() {
                all.remove(&hash);
            }
        }
    }

    /// Wakes everyone who waits for one of the transactions.
    pub(crate) fn wake(&self, hashes: impl Iterator<Item = TxHash>) {
        let mut woken = Vec::new();
        {
            let mut all = self.0.lock();
            if all.is_empty() {
                return;
            }
            woken.extend(hashes.filter_map(|hash| all.remove(&hash)));
        }
        for wake in woken.into_iter().flatten() {
            // It went away.
            let _ = wake.send(());
        }
    }
}
