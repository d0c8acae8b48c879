//! The blob archive: every batch that went into blobs, in an object store, for when beacon nodes have dropped them.
//!
//! An object is the batch under its digest, as with the backend `object_store`. What comes out of the archive is checked against L1's record: the digest,
//! and the versioned hashes of the blobs that the batch makes.

use std::{sync::Arc, time::Duration};

use alloy::{consensus::Blob, eips::eip4844::BYTES_PER_BLOB, primitives::B256};
use backon::{BackoffBuilder, ExponentialBuilder};
use millrace_l1::blob_versioned_hash;
use millrace_proto::DaKind;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    backend::{BackendError, DaBackend, ObjectStoreBackend, SubmitRequest},
    blob::pack,
    error::DaAdapterRunError,
    metrics::DaMetrics,
    outbox::{Outbox, OutboxError},
};

const TARGET: &str = "millrace::da_adapter";

/// Fills the archive as batches are posted.
#[derive(Debug)]
pub(crate) struct Archiver {
    pub(crate) store: ObjectStoreBackend,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) metrics: DaMetrics,
    pub(crate) max_retry_interval: Duration,
}

/// Why a batch was not archived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The store: tried again.
    #[error(transparent)]
    Store(#[from] BackendError),
    /// The outbox: the end.
    #[error(transparent)]
    Run(#[from] DaAdapterRunError),
}

impl From<OutboxError> for ArchiveError {
    fn from(error: OutboxError) -> Self {
        Self::Run(error.into())
    }
}

impl Archiver {
    /// Runs until it is told to stop. A store that does not answer is waited for; batches stay in the outbox until they are in the archive.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), DaAdapterRunError> {
        let backoff = ExponentialBuilder::new()
            .with_max_delay(self.max_retry_interval)
            .with_jitter()
            .without_max_times();
        let mut pauses = backoff.build();
        let mut changed = self.outbox.watch();
        loop {
            changed.mark_unchanged();
            let archived = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                archived = self.archive() => archived,
            };
            let pause = match archived {
                Ok(()) => {
                    pauses = backoff.build();
                    None
                }
                Err(ArchiveError::Run(error)) => return Err(error),
                Err(ArchiveError::Store(error)) => {
                    self.metrics.archive_retried();
                    let pause = pauses.next().unwrap_or(self.max_retry_interval);
                    warn!(target: TARGET, %error, ?pause, "not archived; trying again");
                    Some(pause)
                }
            };
            let wait = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => drop(changed.changed().await),
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = wait => {}
            }
        }
    }

    /// Archives what was posted and is not in the archive yet.
    pub(crate) async fn archive(&self) -> Result<(), ArchiveError> {
        loop {
            let next = self.outbox.entry_after(self.outbox.archived());
            let Some(entry) = next.filter(|entry| entry.post.is_some()) else { return Ok(()) };
            let number = entry.number;
            let kind = self.outbox.submitted(number)?.map(|submitted| submitted.kind);
            if kind.is_none_or(|kind| kind == DaKind::L1Blob) {
                let outbox = self.outbox.clone();
                let data = tokio::task::spawn_blocking(move || outbox.data(number))
                    .await
                    .map_err(DaAdapterRunError::Worker)??;
                // Bytes are missing only of a batch that was final before there was an archive.
                if let Some(data) = data {
                    self.store.submit(SubmitRequest { number, digest: entry.digest, data }).await?;
                    debug!(target: TARGET, batch = number, "archived");
                }
            }
            self.outbox.mark_archived(number, entry.digest)?;
            self.metrics.archived(number);
        }
    }
}

/// The versioned hashes of the blobs that a batch is laid into; `None` if it is too long for any. Takes some 40 milliseconds a blob.
pub(crate) fn blob_hashes(data: &[u8]) -> Option<Vec<B256>> {
    let packed = pack(data)?;
    let hash = |blob: &[u8]| blob_versioned_hash(<&Blob>::try_from(blob).ok()?).ok();
    packed.chunks_exact(BYTES_PER_BLOB).map(hash).collect()
}
