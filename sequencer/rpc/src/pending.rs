//! Hashes of the transactions that come into the open block, for filters that are polled.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use alloy::{
    primitives::{B256, TxHash, U64},
    rpc::types::FilterChanges,
};
use futures::StreamExt;
use millrace_proto::{FrameDetail, Preconfirmations};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{context::Context, error::CallError, filters::FilterRegistry};

/// Hashes that are kept for filters that are behind.
const KEPT: usize = 65_536;
/// How often the feed looks whether there are filters left.
const LOOK: Duration = Duration::from_secs(30);

/// What came into open blocks last. It is followed only while a filter asks for it.
#[derive(Debug, Default)]
pub(crate) struct PendingHashes {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    hashes: VecDeque<TxHash>,
    /// The place of the first hash that is kept, counted from when the feed began.
    first: u64,
    /// How many feeds have ended.
    ended: u64,
    fed: bool,
}

/// How far a filter has read.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The feed that it reads, by how many ended before.
    feed: u64,
    next: Mutex<u64>,
}

impl PendingHashes {
    /// The feed's end, and whether somebody has to feed it from now on.
    fn begin(&self) -> (Cursor, bool) {
        let mut ring = self.ring.lock();
        let next = ring.first + ring.hashes.len() as u64;
        let cursor = Cursor { feed: ring.ended, next: Mutex::new(next) };
        (cursor, !std::mem::replace(&mut ring.fed, true))
    }

    fn end(&self) {
        let mut ring = self.ring.lock();
        *ring = Ring { ended: ring.ended + 1, ..Ring::default() };
    }

    fn push(&self, hashes: impl Iterator<Item = TxHash>) {
        let mut ring = self.ring.lock();
        ring.hashes.extend(hashes);
        let surplus = ring.hashes.len().saturating_sub(KEPT);
        ring.hashes.drain(..surplus);
        ring.first += surplus as u64;
    }

    /// What a filter has not read; `None` if its feed has ended, the error if it was too slow.
    fn read(&self, cursor: &Cursor) -> Option<Result<Vec<B256>, u64>> {
        let ring = self.ring.lock();
        if ring.ended != cursor.feed {
            return None;
        }
        let mut next = cursor.next.lock();
        let from = next.saturating_sub(ring.first);
        let missed = ring.first.saturating_sub(*next);
        *next = ring.first + ring.hashes.len() as u64;
        if missed > 0 {
            return Some(Err(missed));
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Some(Ok(ring.hashes.iter().skip(from).copied().collect()))
    }
}

/// Whoever feeds the hashes. The feed ends with it.
struct Feeding(Arc<PendingHashes>);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Feeding {
    async fn feed(
        self,
        mut frames: Preconfirmations,
        filters: &FilterRegistry,
        stop: &CancellationToken,
    ) {
        loop {
            let frame = tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => None,
                frame = frames.next() => Some(frame),
            };
            match frame {
                Some(Some(Ok(frame))) => self.0.push(frame.transactions.iter().map(|tx| tx.hash())),
                Some(Some(Err(error))) => {
                    debug!(target: "millrace::rpc", %error, "pending-transaction filters end");
                    break;
                }
                Some(None) => break,
                None => {}
            }
            if !filters.has_pending() {
                break;
            }
        }
    }
}

impl Context {
    /// Installs a filter for the hashes of transactions that come into the open block.
    pub(crate) async fn install_pending_filter(&self) -> Result<U64, CallError> {
        let (cursor, feed) = self.pending.begin();
        if !feed {
            return self.filters.install_pending(cursor);
        }
        // A call may be cancelled while it waits here: then, as after an error, nobody feeds, and the next one begins again.
        let feeding = Feeding(Arc::clone(&self.pending));
        let frames = self.pending_frames(FrameDetail::Receipts).await?;
        let id = self.filters.install_pending(cursor)?;
        let (filters, stop) = (Arc::clone(&self.filters), self.stop.clone());
        tokio::spawn(async move { feeding.feed(frames, &filters, &stop).await });
        Ok(id)
    }

    /// The frames of the open block.
    pub(crate) async fn pending_frames(
        &self,
        detail: FrameDetail,
    ) -> Result<Preconfirmations, CallError> {
        let none = "this node is told of no open block; ask the sequencer";
        let frames = self.pool.preconfirmations(detail).await?;
        frames.ok_or_else(|| CallError::InvalidParams(none.to_owned()))
    }

    pub(crate) fn pending_changes(
        &self,
        id: U64,
        cursor: &Cursor,
    ) -> Result<FilterChanges, CallError> {
        match self.pending.read(cursor) {
            Some(Ok(hashes)) => Ok(FilterChanges::Hashes(hashes)),
            Some(Err(missed)) => Err(CallError::Limit(format!(
                "{missed} transactions came since the last poll that are not kept any more, of which the last {KEPT} are; poll more often"
            ))),
            None => {
                self.filters.remove(id);
                Err(CallError::Halted("filter not found".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(range: std::ops::Range<u64>) -> impl Iterator<Item = B256> {
        range.map(|number| alloy::primitives::U256::from(number).into())
    }

    #[test]
    fn each_filter_reads_everything_once() {
        let pending = PendingHashes::default();
        let (early, feed) = pending.begin();
        assert!(feed);
        pending.push(hashes(0..3));
        let (late, feed) = pending.begin();
        assert!(!feed);
        pending.push(hashes(3..5));
        assert_eq!(pending.read(&early), Some(Ok(hashes(0..5).collect())));
        assert_eq!(pending.read(&late), Some(Ok(hashes(3..5).collect())));
        assert_eq!(pending.read(&early), Some(Ok(Vec::new())));
        pending.push(hashes(0..KEPT as u64 + 2));
        assert_eq!(pending.read(&early), Some(Err(2)), "the first two are gone");
        assert_eq!(pending.read(&early), Some(Ok(Vec::new())), "and it goes on");
        pending.end();
        assert_eq!(pending.read(&late), None);
    }

    #[tokio::test]
    async fn a_feed_that_is_given_up_leaves_room_for_the_next() {
        let pending = Arc::new(PendingHashes::default());
        let (cursor, feed) = pending.begin();
        assert!(feed);
        let waiting = async {
            let _feeding = Feeding(Arc::clone(&pending));
            std::future::pending::<()>().await;
        };
        assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
        assert_eq!(pending.read(&cursor), None);
        assert!(pending.begin().1, "somebody has to feed it");
    }
}
