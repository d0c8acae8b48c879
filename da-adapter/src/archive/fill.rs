//! Filling the archive: with the blobs of every batch that the contract recorded and that is final on L1, whoever posted it and whatever it holds.
//!
//! L1's blocks are gone through in order. A batch's blobs are made of the outbox's own bytes, where they make what L1 recorded, and else asked from the beacon node. Batches whose
//! blobs it does not have now are asked for again and again, and hold up nothing but the cursor.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::{
    eips::eip4844::BYTES_PER_BLOB,
    primitives::{B256, Bytes},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use millrace_l1::{BeaconClient, BeaconError, BlobBlock, L1Error, RollupContract, RollupEvent};
use millrace_proto::{DaKind, ErrorChain, Outage, PostedBatch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{ArchiveError, BlobArchive, versioned_hash};
use crate::{
    blob::pack,
    error::DaAdapterRunError,
    metrics::DaMetrics,
    outbox::{Archived, Outbox, OutboxError},
};

const TARGET: &str = "millrace::da_adapter";

/// For how long beacon nodes have to keep blobs: 4,096 epochs (`MIN_EPOCHS_FOR_BLOB_SIDECARS_REQUESTS`), in seconds.
const KEPT: u64 = 4_096 * 32 * 12;
/// Batches in a look that the beacon node may turn out not to have, of those that it did not have before.
const MOST_REFUSALS: usize = 16;

/// Fills the archive as batches become final.
#[derive(Debug)]
pub(crate) struct Archiver {
    pub(crate) archive: BlobArchive,
    pub(crate) rollup: RollupContract,
    pub(crate) beacon: BeaconClient,
    /// Has the cursor, and the bytes of what was posted from here.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) metrics: DaMetrics,
    /// The longest pause between two looks.
    pub(crate) max_retry_interval: Duration,
    pub(crate) progress: Progress,
}

/// How far the archive is filled, as this process knows it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last batch that was looked at.
    last: Archived,
    /// The first L1 block to look at; `None` before the first look.
    next: Option<u64>,
    /// Batches up to `last` whose blobs were not to be had, by number.
    missing: BTreeMap<u64, Missing>,
    /// The one of them that is asked for next.
    ask_from: u64,
}

/// A batch whose blobs were not to be had.
#[derive(Debug)]
struct Missing {
    wanted: Wanted,
    /// The batch before it.
    before: Archived,
}

/// A batch in blobs, as L1 recorded it.
#[derive(Debug, Clone)]
struct Wanted {
    number: u64,
    digest: B256,
    hashes: Vec<B256>,
    block: BlobBlock,
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The archive has its blobs.
    Archived,
    /// Nobody has them now.
    Missing,
    /// No beacon node has to have them any more, and ours does not.
    Lost,
}

/// What one look at L1 has come to.
#[derive(Debug)]
struct Look {
    /// The time of L1's final block, Unix seconds.
    now: u64,
    /// Whether the beacon node does not answer as it should.
    beacon_away: bool,
    /// Why the last batch is missing.
    problem: Option<BeaconError>,
    /// How many batches are lost.
    lost: u64,
}

/// Why a look was not finished, or left something out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    L1(#[from] L1Error),
    #[error(
        "the blobs of {batches} batches, the first of them {first}, are not to be had: {source}"
    )]
    Missing {
        batches: usize,
        first: u64,
        #[source]
        source: BeaconError,
    },
    /// The end.
    #[error(transparent)]
    Run(#[from] DaAdapterRunError),
}

impl From<OutboxError> for FillError {
    fn from(error: OutboxError) -> Self {
        Self::Run(error.into())
    }
}

impl Wanted {
    fn of(batch: &PostedBatch) -> Self {
        Self {
            number: batch.header.number,
            digest: batch.header.digest,
            hashes: batch.blob_hashes.clone(),
            block: BlobBlock { number: batch.l1.block.number, timestamp: batch.l1_timestamp },
        }
    }
}

impl Archiver {
    /// Runs until it is told to stop. What does not answer is waited for; batches stay in the outbox until their blobs are in the archive.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DaAdapterRunError> {
        let backoff = ExponentialBuilder::new()
            .with_max_delay(self.max_retry_interval)
            .with_jitter()
            .without_max_times();
        let mut pauses = backoff.build();
        let mut outage = Outage::new();
        self.metrics.archived(self.outbox.archived().batch);
        loop {
            let filled = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                filled = self.fill() => filled,
            };
            let pause = match filled {
                Ok(()) => {
                    if let Some(past) = outage.over() {
                        info!(target: TARGET, lasted = ?past.lasted, tries = past.failures, "the archive is filled again");
                    }
                    pauses = backoff.build();
                    self.max_retry_interval
                }
                Err(FillError::Run(error)) => return Err(error),
                Err(error) => {
                    self.metrics.archive_retried();
                    let pause = pauses.next().unwrap_or(self.max_retry_interval);
                    let error = ErrorChain::new(&error);
                    if outage.failed() {
                        warn!(target: TARGET, %error, ?pause, "the archive is not complete; trying again");
                    } else {
                        debug!(target: TARGET, %error, ?pause, "the archive is not complete; trying again");
                    }
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Archives what has become final on L1, and what was not to be had before. After an error it goes on where it was.
    pub(crate) async fn fill(&mut self) -> Result<(), FillError> {
        let Some(finalized) = self.rollup.client().finalized().await? else { return Ok(()) };
        if self.progress.next.is_none() {
            self.progress.last = self.outbox.archived();
            self.go_back_to_last().await?;
        }
        let mut look =
            Look { now: finalized.timestamp, beacon_away: false, problem: None, lost: 0 };
        let mut looked = self.ask_again(&mut look).await;
        if looked.is_ok() {
            looked = self.scan(finalized.number, &mut look).await;
        }
        self.tell_lost(&look);
        looked?;
        match (self.progress.missing.first_key_value(), look.problem) {
            (Some((first, _)), Some(source)) => {
                let batches = self.progress.missing.len();
                Err(FillError::Missing { batches, first: *first, source })
            }
            _ => Ok(()),
        }
    }

    /// Asks again for what was not to be had, in turn.
    async fn ask_again(&mut self, look: &mut Look) -> Result<(), FillError> {
        let Progress { missing, ask_from, .. } = &self.progress;
        let numbers = missing.range(ask_from..).chain(missing.range(..ask_from));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        let mut refusals = 0;
        for number in numbers {
            self.progress.ask_from = number;
            if look.beacon_away || refusals == MOST_REFUSALS {
                break;
            }
            let Some(Missing { wanted, .. }) = self.progress.missing.get(&number) else { continue };
            if self.archive(wanted, look).await? == Fate::Missing {
                refusals += 1;
                continue;
            }
            self.progress.missing.remove(&number);
            self.note()?;
        }
        Ok(())
    }

    /// Goes on through L1's blocks, to one that is final.
    async fn scan(&mut self, to: u64, look: &mut Look) -> Result<(), FillError> {
        let step = self.rollup.client().options().log_range.max(1);
        if self.progress.next.is_none_or(|next| next > to) {
            return Ok(());
        }
        self.check_last().await?;
        let count = self.rollup.batch_count_at(to).await?;
        while let Some(from) = self.progress.next.filter(|next| *next <= to) {
            let upto = to.min(from.saturating_add(step - 1));
            for event in self.rollup.events(from, upto).await? {
                if let RollupEvent::Posted(batch) = event {
                    self.take(&batch, look).await?;
                }
            }
            self.progress.next = Some(upto.saturating_add(1));
        }
        let last = self.progress.last.batch;
        if last == count {
            return Ok(());
        }
        self.go_back_to_last().await?;
        let problem = format!(
            "the contract has recorded {count} batches up to L1 block {to}, the node's events end with batch {last}"
        );
        Err(L1Error::Inconsistent(problem).into())
    }

    /// Whether L1 still has the block with the last batch. If not, others may be in the place of any before it.
    async fn check_last(&mut self) -> Result<(), FillError> {
        let Archived { batch, block } = self.progress.last;
        if batch == 0 {
            return Ok(());
        }
        let found = self.rollup.client().block(block.number).await?;
        let found = found.ok_or_else(|| L1Error::BlockMissing(block.number.to_string()))?;
        if found.hash != block.hash {
            warn!(target: TARGET, batch, block = block.number, "an L1 reorg took what was final: the archive is looked through again from the first batch on");
            self.progress = Progress::default();
            self.go_back_to_last().await?;
            self.note()?;
        }
        Ok(())
    }

    /// What comes next is behind the last batch that was looked at.
    async fn go_back_to_last(&mut self) -> Result<(), L1Error> {
        let Archived { batch, block } = self.progress.last;
        let next = if batch == 0 { self.rollup.deployed_at().await? } else { block.number };
        self.progress.next = Some(next);
        Ok(())
    }

    /// The next batch, unless it was looked at before.
    async fn take(&mut self, batch: &PostedBatch, look: &mut Look) -> Result<(), FillError> {
        let (number, before) = (batch.header.number, self.progress.last);
        if number <= before.batch {
            return Ok(());
        }
        if number != before.batch + 1 {
            // The node has left some out, now or before.
            self.go_back_to_last().await?;
            let problem = format!("batch {number} follows batch {} in its events", before.batch);
            return Err(L1Error::Inconsistent(problem).into());
        }
        if batch.header.da_kind == DaKind::L1Blob {
            let wanted = Wanted::of(batch);
            if self.archive(&wanted, look).await? == Fate::Missing {
                self.progress.missing.insert(number, Missing { wanted, before });
            }
        }
        self.progress.last = Archived { batch: number, block: batch.l1.block };
        self.note()
    }

    /// Notes how far the archive is complete.
    fn note(&self) -> Result<(), FillError> {
        let Progress { last, missing, .. } = &self.progress;
        let archived = missing.first_key_value().map_or(*last, |(_, missing)| missing.before);
        if archived != self.outbox.archived() {
            self.outbox.mark_archived(archived)?;
        }
        self.metrics.archived(archived.batch);
        self.metrics.archive_missing(missing.len());
        Ok(())
    }

    fn tell_lost(&self, look: &Look) {
        let batches = look.lost;
        if batches > 0 {
            warn!(target: TARGET, batches, upto = self.progress.last.batch, "neither the archive nor the beacon node has the blobs of batches that are older than beacon nodes have to keep them: they are given up. If you find them elsewhere, put each into the archive yourself, under its versioned hash");
        }
    }

    /// Brings a batch's blobs into the archive, if they are to be had.
    async fn archive(&self, wanted: &Wanted, look: &mut Look) -> Result<Fate, FillError> {
        if let Some(blobs) = self.own(wanted).await? {
            return self.put(wanted, blobs).await;
        }
        let unread = match self.archive.blobs(&wanted.hashes).await {
            Ok(_) => return Ok(Fate::Archived),
            Err(ArchiveError::Missing(_) | ArchiveError::Wrong { .. }) => None,
            // Some stores refuse to say that they do not have something.
            Err(error) => Some(error),
        };
        if look.beacon_away {
            return Ok(Fate::Missing);
        }
        let error = match self.beacon.blobs(wanted.block, &wanted.hashes).await {
            Ok(blobs) => {
                let blobs = blobs.iter().map(|blob| Bytes::copy_from_slice(blob.as_slice()));
                return self.put(wanted, blobs.collect()).await;
            }
            Err(error) => error,
        };
        if let Some(unread) = unread {
            return Err(unread.into());
        }
        let is_missing = matches!(error, BeaconError::BlobMissing { .. });
        if is_missing && look.now.saturating_sub(wanted.block.timestamp) > KEPT {
            look.lost += 1;
            self.metrics.archive_lost(1);
            return Ok(Fate::Lost);
        }
        debug!(target: TARGET, batch = wanted.number, %error, "not archived yet");
        look.beacon_away |= !is_missing;
        look.problem = Some(error);
        Ok(Fate::Missing)
    }

    /// Puts a batch's blobs into the archive.
    async fn put(&self, wanted: &Wanted, blobs: Vec<Bytes>) -> Result<Fate, FillError> {
        for (hash, blob) in wanted.hashes.iter().zip(blobs) {
            self.archive.put(*hash, blob).await?;
        }
        debug!(target: TARGET, batch = wanted.number, blobs = wanted.hashes.len(), "archived");
        Ok(Fate::Archived)
    }

    /// The blobs of a batch out of the outbox, if it holds the batch, and that is what L1 recorded.
    async fn own(&self, wanted: &Wanted) -> Result<Option<Vec<Bytes>>, FillError> {
        let Wanted { number, digest, .. } = *wanted;
        if self.outbox.entry(number).is_none_or(|entry| entry.digest != digest) {
            return Ok(None);
        }
        let (outbox, hashes) = (self.outbox.clone(), wanted.hashes.clone());
        let own = spawn_blocking(move || {
            Ok::<_, OutboxError>(outbox.data(number)?.and_then(|data| packed_as(&data, &hashes)))
        });
        Ok(own.await.map_err(DaAdapterRunError::Worker)??)
    }
}

/// The blobs that a batch is laid into, if they have these versioned hashes. Takes some 40 milliseconds a blob.
fn packed_as(data: &[u8], hashes: &[B256]) -> Option<Vec<Bytes>> {
    let packed = Bytes::from(pack(data)?);
    if packed.len() != hashes.len() * BYTES_PER_BLOB {
        return None;
    }
    let blobs = (0..packed.len()).step_by(BYTES_PER_BLOB);
    let blobs: Vec<_> = blobs.map(|at| packed.slice(at..at + BYTES_PER_BLOB)).collect();
    let are_these = blobs
        .iter()
        .zip(hashes)
        .all(|(blob, hash)| versioned_hash(blob).is_ok_and(|found| found == *hash));
    are_these.then_some(blobs)
}
