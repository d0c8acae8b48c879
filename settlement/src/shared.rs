//! What the service's tasks share: the store, the status, and whether the service has halted.

use std::sync::Arc;

use alloy::eips::BlockNumHash;
use millrace_proto::{BatchPoint, SettlementStatus};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, info};

use crate::{
    finality,
    halt::HaltReason,
    metrics::SettlementMetrics,
    store::{Store, StoreError},
};

/// Work that stands still until something outside of the service is mended. Unlike a halt it goes on by itself then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stalled {
    /// Following L1.
    Following,
    /// Reading batches from DA.
    Reading,
    /// Waiting for the sequencer to take over what L1 holds.
    Comparing,
    /// Waiting for the sequencer to have again what was verified.
    Watching,
    /// Committing.
    Committing,
}

/// What the sequencer may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// What was verified before.
    Verified,
    /// The batch that is to be verified next.
    Next,
}

/// Shared by the tasks of one service.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) metrics: SettlementMetrics,
    inner: Arc<Inner>,
}

struct Inner {
    status: watch::Sender<SettlementStatus>,
    /// Counts changes of the store, so that tasks can wait for one.
    revision: watch::Sender<u64>,
    halt: watch::Sender<Option<Arc<HaltReason>>>,
    /// Why, by [`Stalled`].
    stalls: Mutex<[Option<String>; 5]>,
    /// The ends of batches that are right and that the sequencer does not have, by [`Unmatched`].
    unmatched: Mutex<[Option<BlockNumHash>; 2]>,
    /// Held while the status is computed, so that an older one never replaces a newer one.
    computing: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(store: Store) -> Result<Self, StoreError> {
        let l1_head = store.l1_points()?.pop().unwrap_or_default();
        let shared = Self {
            store,
            metrics: SettlementMetrics::default(),
            inner: Arc::new(Inner {
                status: watch::Sender::new(SettlementStatus::default()),
                revision: watch::Sender::new(0),
                halt: watch::Sender::new(None),
                stalls: Mutex::default(),
                unmatched: Mutex::default(),
                computing: Mutex::new(()),
            }),
        };
        shared.refresh(Some(l1_head))?;
        Ok(shared)
    }

    /// The status, and its changes.
    pub(crate) fn status(&self) -> watch::Receiver<SettlementStatus> {
        self.inner.status.subscribe()
    }

    /// Tells of every change of the store from now on.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// Why the service has halted, if it has.
    pub(crate) fn halted(&self) -> Option<Arc<HaltReason>> {
        self.inner.halt.borrow().clone()
    }

    /// Whether the service has halted.
    pub(crate) fn is_halted(&self) -> bool {
        self.inner.halt.borrow().is_some()
    }

    /// Halts the service. The first reason stays.
    pub(crate) fn halt(&self, reason: HaltReason) -> Result<(), StoreError> {
        error!(target: "millrace::settlement", %reason, "halted: nothing is verified or committed any more");
        self.inner.halt.send_if_modified(|halt| {
            let first = halt.is_none();
            if first {
                *halt = Some(Arc::new(reason));
            }
            first
        });
        self.refresh(None)
    }

    /// Says why a part of the work stands still, or that it does not. Loud once for each reason.
    pub(crate) fn stall(&self, what: Stalled, reason: Option<String>) -> Result<(), StoreError> {
        let mut stalls = self.inner.stalls.lock();
        let slot = &mut stalls[what as usize];
        if *slot == reason {
            return Ok(());
        }
        match &reason {
            Some(reason) => {
                error!(target: "millrace::settlement", ?what, reason, "halted until this is mended")
            }
            None => info!(target: "millrace::settlement", ?what, "goes on"),
        }
        *slot = reason;
        drop(stalls);
        self.refresh(None)
    }

    /// Why a part of the work stands still, if it does.
    pub(crate) fn stalled(&self, what: Stalled) -> Option<String> {
        self.inner.stalls.lock()[what as usize].clone()
    }

    /// Says that the sequencer does not have what is derived up to a block, or that it has all.
    pub(crate) fn unmatched(
        &self,
        what: Unmatched,
        end: Option<BlockNumHash>,
    ) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut self.inner.unmatched.lock()[what as usize], end);
        if before == end { Ok(()) } else { self.refresh(None) }
    }

    /// What to tell an operator.
    fn standstill(&self) -> Option<String> {
        let halt = self.inner.halt.borrow().as_ref().map(|reason| reason.to_string());
        halt.or_else(|| self.inner.stalls.lock().iter().flatten().next().cloned())
    }

    /// Computes the status again after the store changed, and wakes who waits for a change. `l1_head` is L1's new head, if
    /// there is one.
    pub(crate) fn refresh(&self, l1_head: Option<BlockNumHash>) -> Result<(), StoreError> {
        {
            let _computing = self.inner.computing.lock();
            let status = self.compute(l1_head)?;
            self.metrics.show(&status);
            self.inner.status.send_if_modified(|current| {
                let changed = *current != status;
                *current = status;
                changed
            });
        }
        self.inner.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        Ok(())
    }

    fn compute(&self, l1_head: Option<BlockNumHash>) -> Result<SettlementStatus, StoreError> {
        let store = &self.store;
        let verified = store.last_verified(None)?.map(|verified| verified.point());
        finality::advance(store)?;
        let finalized = store.finalized()?;
        // What others committed beyond what is verified here shows once it is verified here.
        let committed = match verified {
            Some(verified) => store.commitments_down(Some(verified.batch)).next().transpose()?,
            None => None,
        };
        Ok(SettlementStatus {
            l1_head: l1_head.unwrap_or_else(|| self.inner.status.borrow().l1_head),
            posted: store.last_joined()?,
            verified,
            committed: committed.map(|commitment| BatchPoint {
                batch: commitment.batch,
                last_block: commitment.last_block,
                last_block_hash: Some(commitment.last_block_hash),
            }),
            finalized,
            l1_fees: store.fees()?,
            halted: self.standstill(),
            unmatched: self.inner.unmatched.lock().iter().flatten().next().copied(),
        })
    }
}
