//! Following what the contract holds: whose epoch it is, which batches it has, and how long it still takes the others.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Finality, Poster, Step, StepError, TARGET, reason, today};
use crate::{
    batcher::unix_millis,
    outbox::{BatchEntry, Post},
    resume::Resume,
    window::Window,
};

/// How often the sequencing window is looked at.
const WINDOW_EVERY: Duration = Duration::from_secs(10);

impl Poster {
    /// Looks now and then how long the contract still takes what waits behind batch `count`.
    pub(super) async fn look_at_window(
        &mut self,
        count: u64,
        closed: u64,
    ) -> Result<(), StepError> {
        let consumed = self.outbox.entry(count + 1).map_or(closed, |next| next.deposits_end);
        let known = self.window.borrow().is_some_and(|window| window.consumed == consumed);
        if known && self.window_seen.is_some_and(|seen| seen.elapsed() < WINDOW_EVERY) {
            return Ok(());
        }
        let seen = self.target.window(consumed).await?;
        let now = Instant::now();
        self.window.send_replace(Some(Window::new(consumed, seen, now)));
        self.window_seen = Some(now);
        Ok(())
    }

    /// Whether the contract still takes this adapter's posts.
    pub(super) async fn check_epoch(&self) -> Result<(), StepError> {
        let (ours, current) = (self.outbox.epoch(), self.target.epoch().await?);
        if current > ours {
            return Err(StepError::Halt(reason::other_epoch(ours, current)));
        }
        if current < ours {
            warn!(target: TARGET, ours, current, "an L1 reorg took back the beginning of this adapter's epoch; beginning it again");
            let begun = self.target.begin_epoch(current + 1).await;
            begun.map_err(|error| StepError::Retry(Box::new(error)))?;
            return Err(StepError::Retry("its epoch has just begun again".into()));
        }
        Ok(())
    }

    /// Notes which batches the contract holds, as L1 shows it now.
    pub(super) async fn sync(&self, count: u64) -> Result<(), StepError> {
        let posted = self.outbox.summary().posted;
        if count < posted {
            warn!(target: TARGET, count, posted, "an L1 reorg removed batches; posting them again");
            self.metrics.reorged(posted - count);
            self.outbox.unmark_after(count)?;
        }
        if count <= posted {
            return self.check_newest().await;
        }
        for record in self.target.records(posted + 1, count).await? {
            let number = record.header.number;
            let Some(entry) = self.outbox.entry(number) else { continue };
            if record.header.digest != entry.digest {
                return Err(StepError::Foreign(reason::foreign_batch(&record, &entry)));
            }
            let fee = self.target.fee(record.l1.tx_hash).await?;
            self.outbox.mark_posted(number, Post { l1: record.l1, fee }, Some(today()))?;
            let latency = Duration::from_millis(unix_millis().saturating_sub(entry.closed_at));
            self.metrics.posted(entry.size, entry.transactions, fee, latency);
            info!(
                target: TARGET,
                batch = number,
                l1_block = record.l1.block.number,
                tx = %record.l1.tx_hash,
                %fee,
                ?latency,
                "batch posted"
            );
        }
        Ok(())
    }

    /// Makes sure that L1 has the newest posted batch where it was, and with it all before: a reorg may have put another one in its place.
    async fn check_newest(&self) -> Result<(), StepError> {
        let entries = self.outbox.entries();
        let newest = entries.iter().rev().find_map(|entry| Some((entry, entry.post.as_ref()?)));
        match newest {
            Some((entry, post)) if !self.target.is_canonical(&post.l1).await? => {
                self.look_again(entry).await
            }
            _ => Ok(()),
        }
    }

    /// Reads again where L1 has a posted batch.
    async fn look_again(&self, entry: &BatchEntry) -> Result<(), StepError> {
        for record in self.target.records(entry.number, entry.number).await? {
            if record.header.digest != entry.digest {
                self.outbox.unmark_after(entry.number - 1)?;
                return Err(StepError::Foreign(reason::foreign_batch(&record, entry)));
            }
            let fee = self.target.fee(record.l1.tx_hash).await?;
            self.outbox.mark_posted(entry.number, Post { l1: record.l1, fee }, None)?;
        }
        Ok(())
    }

    /// Goes on after the last valid batch that the contract holds, whoever posted it, once the executor has its blocks.
    pub(super) async fn rejoin(&self, why: String) -> Result<Step, StepError> {
        let resume = Resume {
            executor: &self.executor,
            target: self.target.as_ref(),
            settlement: &self.settlement,
        };
        match resume.find_cursor().await {
            // Nothing has changed: L1's nodes do not agree.
            Ok(cursor) if self.outbox.cursor() == Some(cursor) => Err(StepError::Retry(why.into())),
            Ok(cursor) => {
                warn!(target: TARGET, why, batch = cursor.batch, block = cursor.block.number, "batches go on after what L1 holds");
                self.outbox.rejoin(cursor)?;
                self.metrics.rejoined();
                Ok(Step::Posted)
            }
            Err(error) => {
                let reason = reason::not_rejoined(&why, &error);
                Err(match error.halt() {
                    Some(_) => StepError::Halt(reason),
                    None => StepError::Retry(reason.into()),
                })
            }
        }
    }

    /// Drops what is final on L1.
    pub(super) async fn prune(&self) -> Result<(), StepError> {
        let entries = self.outbox.entries();
        // The oldest entry stays behind after a prune, without its bytes.
        let mut candidates = entries.iter().filter(|entry| entry.post.is_some());
        let Some(oldest) = candidates.next() else { return Ok(()) };
        let Some((newest, finality)) = self.newest_final(oldest, candidates).await? else {
            return Ok(());
        };
        if finality == Finality::Gone {
            // It was included again elsewhere, or it would not count as posted.
            return self.look_again(newest).await;
        }
        let archived = if self.archives { self.outbox.archived() } else { u64::MAX };
        Ok(self.outbox.prune(newest.number.min(archived))?)
    }

    /// The newest posted batch that L1 calls final, if the oldest is.
    async fn newest_final<'a>(
        &self,
        oldest: &'a BatchEntry,
        newer: impl Iterator<Item = &'a BatchEntry>,
    ) -> Result<Option<(&'a BatchEntry, Finality)>, StepError> {
        let mut found = None;
        for entry in std::iter::once(oldest).chain(newer) {
            let Some(post) = &entry.post else { break };
            match self.target.finality(&post.l1).await? {
                Finality::Pending => break,
                finality => found = Some((entry, finality)),
            }
        }
        Ok(found)
    }
}
