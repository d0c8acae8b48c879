//! Reading posted batches back from wherever they are.

use std::sync::Arc;

use alloy::primitives::Bytes;
use async_trait::async_trait;
use millrace_l1::{BeaconClient, BeaconError};
use millrace_proto::{DaKind, DaReadError, DaReader, PostedBatch};

#[cfg(feature = "celestia")]
use crate::backend::CelestiaBackend;
use crate::{
    archive::{ArchiveError, BlobArchive},
    backend::{
        AltDaBackend, DaBackend, L1BlobBackend, L1CalldataBackend, ObjectStoreBackend,
        check_pointer, missing_source, unpacked,
    },
};

/// Where batches can be read.
#[derive(Debug, Clone, Default)]
pub struct DaSources {
    /// A beacon node, which has blobs.
    pub beacon: Option<BeaconClient>,
    /// An object store.
    pub store: Option<ObjectStoreBackend>,
    /// An alt-DA server.
    pub alt_da: Option<AltDaBackend>,
    /// A Celestia node.
    #[cfg(feature = "celestia")]
    pub celestia: Option<CelestiaBackend>,
    /// An archive of blobs, read where the beacon node does not have them.
    pub archive: Option<BlobArchive>,
}

impl DaSources {
    /// The backend of a kind; `None` where it needs a source that is not there. Blobs need one to be read, and none to be posted.
    pub(crate) fn backend(&self, kind: DaKind) -> Option<Arc<dyn DaBackend>> {
        fn shared<B: DaBackend + Clone>(source: &Option<B>) -> Option<Arc<dyn DaBackend>> {
            source.clone().map(|backend| Arc::new(backend) as _)
        }
        match kind {
            DaKind::L1Blob => Some(Arc::new(L1BlobBackend::new(self.beacon.clone()))),
            DaKind::L1Calldata => Some(Arc::new(L1CalldataBackend)),
            DaKind::AltDa => shared(&self.alt_da),
            #[cfg(feature = "celestia")]
            DaKind::Celestia => shared(&self.celestia),
            #[cfg(not(feature = "celestia"))]
            DaKind::Celestia => None,
            DaKind::ObjectStore => shared(&self.store),
        }
    }
}

/// Reads batches of every kind that it has a source for.
#[derive(Debug, Clone)]
pub struct MultiReader {
    sources: DaSources,
}

impl MultiReader {
    /// A reader over these sources. What is in calldata needs none.
    pub const fn new(sources: DaSources) -> Self {
        Self { sources }
    }

    /// From where its kind says that it is.
    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        match self.sources.backend(batch.header.da_kind) {
            Some(backend) => backend.fetch(batch).await,
            None => Err(check_pointer(batch).err().unwrap_or_else(|| missing_source(batch))),
        }
    }

    /// From the beacon node, or from the archive if it does not have the blobs. Both are checked against the blobs' hashes, so that it makes no difference which of them has them.
    async fn read_blobs(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let error = match self.fetch(batch).await {
            Err(error) if !matches!(error, DaReadError::Invalid { .. }) => error,
            read => return read,
        };
        let Some(archive) = &self.sources.archive else { return Err(without_archive(error)) };
        match archive.blobs(&batch.blob_hashes).await {
            Ok(blobs) => unpacked(batch, &blobs),
            Err(archive) => Err(in_neither(error, archive)),
        }
    }
}

#[async_trait]
impl DaReader for MultiReader {
    async fn read(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        match batch.header.da_kind {
            DaKind::L1Blob => self.read_blobs(batch).await,
            _ => self.fetch(batch).await,
        }
    }
}

/// Blobs that the beacon node does not have, and there is no archive.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}. Beacon nodes drop blobs after 18 days: name an archive that has them (`--archive`, or [da_adapter.archive])"
)]
struct Dropped(#[source] Box<dyn std::error::Error + Send + Sync>);

/// What a beacon node did not give, where there is no archive to turn to.
fn without_archive(error: DaReadError) -> DaReadError {
    let is_gone = |source: &(dyn std::error::Error + Send + Sync + 'static)| {
        matches!(source.downcast_ref(), Some(BeaconError::BlobMissing { .. }))
    };
    match error {
        DaReadError::Unavailable { batch, source } if is_gone(&*source) => {
            DaReadError::Unavailable { batch, source: Box::new(Dropped(source)) }
        }
        other => other,
    }
}

/// Blobs that neither gave.
#[derive(Debug, thiserror::Error)]
#[error("{beacon}; and {archive}")]
struct InNeither {
    #[source]
    beacon: Box<dyn std::error::Error + Send + Sync>,
    archive: ArchiveError,
}

/// Blobs that the beacon node did not give, and an archive that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{beacon}; and {archive}")]
struct ArchiveAway {
    beacon: Box<dyn std::error::Error + Send + Sync>,
    #[source]
    archive: ArchiveError,
}

/// What neither the beacon node nor the archive gave.
fn in_neither(beacon: DaReadError, archive: ArchiveError) -> DaReadError {
    match (beacon, archive) {
        (DaReadError::Unavailable { batch, source: beacon }, archive) => match archive {
            ArchiveError::Wrong { .. } => {
                DaReadError::Mismatch { batch, problem: format!("{beacon}; and {archive}") }
            }
            ArchiveError::Missing(_) => {
                let source = Box::new(InNeither { beacon, archive });
                DaReadError::Unavailable { batch, source }
            }
            // Whatever the beacon node says for good, the archive may answer later.
            archive => {
                let source = Box::new(ArchiveAway { beacon, archive });
                DaReadError::Unavailable { batch, source }
            }
        },
        (DaReadError::Mismatch { batch, problem }, archive) => {
            DaReadError::Mismatch { batch, problem: format!("{problem}; and {archive}") }
        }
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use alloy::{eips::BlockNumHash, primitives::B256};
    use millrace_proto::{BatchHeader, L1Ref};

    use super::*;
    use crate::objects::ObjectStoreError;

    fn posted(da_kind: DaKind, da_pointer: &[u8]) -> PostedBatch {
        PostedBatch {
            header: BatchHeader {
                number: 3,
                first_block: 1,
                last_block: 2,
                deposits_end: 0,
                deposits_hash: B256::ZERO,
                digest: B256::ZERO,
                da_kind,
            },
            batch_hash: B256::ZERO,
            blob_hashes: Vec::new(),
            da_pointer: da_pointer.to_vec().into(),
            l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
            l1_timestamp: 0,
        }
    }

    /// Whoever looks for how long that lasts looks at the causes: a beacon API that is none stays so, an archive comes back.
    #[test]
    fn an_archive_that_is_away_is_why_blobs_cannot_be_read() {
        let caused_by_beacon = |archive| {
            let path = String::new();
            let none = BeaconError::Status { path, status: 405, body: String::new() };
            let beacon = DaReadError::Unavailable { batch: 3, source: Box::new(none) };
            let DaReadError::Unavailable { source, .. } = in_neither(beacon, archive) else {
                panic!("nobody answers")
            };
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
            while let Some(error) = cause {
                if error.is::<BeaconError>() {
                    return true;
                }
                cause = error.source();
            }
            false
        };
        assert!(caused_by_beacon(ArchiveError::Missing(B256::ZERO)));
        assert!(!caused_by_beacon(ArchiveError::Store(ObjectStoreError::Prefix(String::new()))));
    }

    #[tokio::test]
    async fn without_a_source_it_says_which_is_missing_unless_l1_tells_that_there_is_no_batch() {
        let reader = MultiReader::new(DaSources::default());
        let key = "0".repeat(64);
        let pointers: [(DaKind, &[u8]); 4] = [
            (DaKind::L1Blob, b""),
            // A generic commitment, which may stand for anything.
            (DaKind::AltDa, &[1, 2]),
            (DaKind::Celestia, &[1; 51]),
            (DaKind::ObjectStore, key.as_bytes()),
        ];
        for (kind, pointer) in pointers {
            let error = reader.read(&posted(kind, pointer)).await.unwrap_err();
            assert!(
                matches!(error, DaReadError::NoReader { kind: name, .. } if name == kind.as_str()),
                "{error}"
            );
        }
        for kind in [DaKind::L1Calldata, DaKind::AltDa, DaKind::Celestia, DaKind::ObjectStore] {
            let error = reader.read(&posted(kind, b"elsewhere")).await.unwrap_err();
            assert!(matches!(error, DaReadError::Invalid { batch: 3, .. }), "{error}");
        }
    }
}
