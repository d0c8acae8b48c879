//! Following what the contract holds: whose epoch it is, which batches it has, and how long it still takes the others.

use std::time::Duration;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_proto::{BlockSelector, QueueMark, RefusedBlocks, num_hash};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Finality, OverdueBatch, Poster, Refusal, Step, StepError, TARGET, reason, taken_back, today,
};
use crate::{
    batcher::unix_millis,
    outbox::{BatchEntry, Cursor, Post, Rejoined},
    resume::Resume,
    window::Window,
};

/// How often the sequencing window is looked at.
const WINDOW_EVERY: Duration = Duration::from_secs(10);
/// How long posting a batch may take, until L1 has it: what is overdue by then is due now.
const POSTING: Duration = Duration::from_secs(600);

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
        let seen = self.target.window(consumed, self.window_margin.min(POSTING)).await?;
        let now = Instant::now();
        self.window.send_replace(Some(Window::new(consumed, seen, now)));
        self.window_seen = Some(now);
        Ok(())
    }

    /// How many entries of L1's queue the contract insists on, if this batch consumes fewer: it takes nothing that consumes no more.
    pub(super) async fn overdue(&self, entry: &BatchEntry) -> Result<Option<u64>, StepError> {
        let window = self.target.window(entry.deposits_end, Duration::ZERO).await?;
        Ok((window.left == 0).then_some(window.due))
    }

    /// The next batch leaves out what is overdue, and could be posted otherwise. Closes it again, as it may reach further then; if that was of no use, the sequencer has to
    /// take its blocks back.
    pub(super) async fn close_again(&mut self, batch: OverdueBatch) -> Result<Step, StepError> {
        let OverdueBatch { entry, outline, due } = batch;
        let Some(before) = self.outbox.cursor() else { return Ok(Step::Idle) };
        let parent = BlockSelector::Hash(outline.parent_hash);
        let parent = self.executor.header(parent).await;
        let parent = parent.map_err(|error| StepError::Retry(Box::new(error)))?;
        let parent = parent.ok_or_else(|| taken_back(entry.number))?;
        let queue = QueueMark::of(&parent).unwrap_or_default();
        let cursor = Cursor::new(entry.number - 1, num_hash(&parent), queue);
        if self.closed_again != Some(cursor) {
            warn!(target: TARGET, batch = entry.number, consumed = entry.deposits_end, due, "the sequencing window has ended: entries of L1's queue are overdue that the next batch leaves out; closing it again, so that it reaches further");
            self.outbox.unwind(before, cursor)?;
            // Unless another batch was closed just now.
            if self.outbox.entry(entry.number).is_none() {
                self.closed_again = Some(cursor);
            }
            return Ok(Step::Posted);
        }
        // What is overdue by now, as long as this batch is the next.
        let digest = entry.digest;
        if self.refusal.borrow().is_none_or(|refusal| refusal.digest != digest) {
            let last = BlockNumHash::new(outline.last_block, outline.last_block_hash);
            let blocks = RefusedBlocks { after: cursor.block.number, last, due };
            self.refusal.send_replace(Some(Refusal { digest, blocks }));
        }
        Err(StepError::Retry(reason::overdue(&entry).into()))
    }

    /// Other blocks are in the place of those that the contract did not take.
    pub(super) fn not_refused(&mut self) {
        if self.refusal.send_replace(None).is_some() {
            self.closed_again = None;
        }
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
    pub(super) async fn sync(&mut self, count: u64) -> Result<(), StepError> {
        let posted = self.outbox.summary().posted;
        if count < posted {
            warn!(target: TARGET, count, posted, "an L1 reorg removed batches; posting them again");
            self.metrics.reorged(posted - count);
            self.outbox.unmark_after(count)?;
        }
        let seen = count.min(posted);
        self.check_chain(seen).await?;
        // One behind it was seen, and it was not: another has its number.
        if let Some(missing) = self.outbox.missing_upto(seen) {
            return Err(StepError::Foreign(reason::another_batch(missing.number)));
        }
        if count <= posted {
            return Ok(());
        }
        let mut foreign = None;
        for record in self.target.records(posted + 1, count).await? {
            let number = record.header.number;
            let Some(entry) = self.outbox.entry(number) else { continue };
            if record.header.digest != entry.digest {
                foreign.get_or_insert_with(|| reason::foreign_batch(&record, &entry));
                continue;
            }
            let fee = self.target.fee(record.l1.tx_hash).await?;
            self.outbox.mark_posted(number, Post { l1: record.l1, fee }, Some(today()))?;
            if foreign.is_none() {
                self.known = Some((number, record.batch_hash));
            }
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
        foreign.map_or(Ok(()), |why| Err(StepError::Foreign(why)))
    }

    /// Makes sure that L1 has the batches that were seen there, `count` of them: a reorg may have put others in the place of some. The contract's hash of a batch
    /// covers all before it.
    async fn check_chain(&mut self, count: u64) -> Result<(), StepError> {
        if let Some(Rejoined { batch, hash, .. }) = self.outbox.rejoined()
            && (1..=count).contains(&batch)
            && self.target.batch_hash(batch).await? != hash
        {
            self.look_again(count).await?;
            return Err(StepError::Foreign(reason::another_batch(batch)));
        }
        let unchanged = match self.known {
            Some((number, hash)) if number <= count => {
                number == 0 || self.target.batch_hash(number).await? == hash
            }
            _ => false,
        };
        if !unchanged {
            self.known = self.look_again(count).await?.or(Some((0, B256::ZERO)));
        }
        Ok(())
    }

    /// Reads again where L1 has the posted batches of the outbox, up to `count`. Returns the last of them, with the contract's hash of it.
    async fn look_again(&self, count: u64) -> Result<Option<(u64, B256)>, StepError> {
        let entries = self.outbox.entries();
        let posted: Vec<_> =
            entries.iter().filter(|entry| entry.post.is_some() && entry.number <= count).collect();
        let (Some(first), Some(last)) = (posted.first(), posted.last()) else { return Ok(None) };
        let records = self.target.records(first.number, last.number).await?;
        let mut known = None;
        for (entry, record) in posted.iter().filter_map(|entry| {
            let record = records.iter().find(|record| record.header.number == entry.number)?;
            Some((*entry, record))
        }) {
            if record.header.digest != entry.digest {
                self.outbox.unmark_after(entry.number - 1)?;
                return Err(StepError::Foreign(reason::foreign_batch(record, entry)));
            }
            if entry.post.as_ref().is_none_or(|post| post.l1 != record.l1) {
                let fee = self.target.fee(record.l1.tx_hash).await?;
                self.outbox.mark_posted(entry.number, Post { l1: record.l1, fee }, None)?;
            }
            known = Some((entry.number, record.batch_hash));
        }
        Ok(known)
    }

    /// Goes on after the last valid batch that the contract holds, whoever posted it, once the executor has its blocks.
    pub(super) async fn rejoin(&mut self, why: String) -> Result<Step, StepError> {
        let resume = Resume {
            executor: &self.executor,
            target: self.target.as_ref(),
            settlement: &self.settlement,
        };
        match resume.find().await {
            Ok((cursor, hash)) => {
                let moved = self.outbox.cursor() != Some(cursor);
                self.outbox.rejoin(cursor, hash)?;
                self.known = Some((cursor.batch, hash));
                if !moved {
                    // L1's nodes do not agree, perhaps.
                    return Err(StepError::Retry(why.into()));
                }
                warn!(target: TARGET, why, batch = cursor.batch, block = cursor.block.number, "batches go on after what L1 holds");
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

    /// Drops what is final on L1, and in the archive if there is one.
    pub(super) async fn prune(&self) -> Result<(), StepError> {
        let entries = self.outbox.entries();
        let archived = if self.archives { self.outbox.archived().batch } else { u64::MAX };
        // The oldest entry stays behind after a prune, without its bytes. What waits for the archive, however much that is, is not asked for.
        let mut candidates =
            entries.iter().filter(|entry| entry.post.is_some() && entry.number <= archived);
        let Some(oldest) = candidates.next() else { return Ok(()) };
        let Some((newest, finality)) = self.newest_final(oldest, candidates).await? else {
            return Ok(());
        };
        if finality == Finality::Gone {
            // It was included again elsewhere, or it would not count as posted.
            return self.look_again(newest.number).await.map(|_| ());
        }
        Ok(self.outbox.prune(newest.number)?)
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
                Finality::Gone => return Ok(Some((entry, Finality::Gone))),
                Finality::Final => found = Some((entry, Finality::Final)),
            }
        }
        Ok(found)
    }
}
