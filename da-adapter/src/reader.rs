//! Reading posted batches back from wherever they are.

use alloy::primitives::{B256, Bytes};
use async_trait::async_trait;
use millrace_l1::{BeaconClient, BeaconError, BlobBlock};
use millrace_proto::{DaKind, DaReadError, DaReader, PostedBatch, batch_digest};

#[cfg(feature = "celestia")]
use crate::backend::{CelestiaBackend, CelestiaError};
use crate::{
    archive::{ArchiveError, BlobArchive},
    backend::{AltDaBackend, CelestiaPointer, ObjectStoreBackend, StoredBatch, may_stand_for},
    blob,
    objects::ObjectStoreError,
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

    /// From the beacon node, or from the archive if it does not have the blobs. Both are checked against the blobs' hashes, so that it makes no difference which of them has them.
    async fn read_blobs(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let error = match self.read_beacon(batch).await {
            Err(error) if !matches!(error, DaReadError::Invalid { .. }) => error,
            read => return read,
        };
        let Some(archive) = &self.sources.archive else { return Err(error) };
        match archive.blobs(&batch.blob_hashes).await {
            Ok(blobs) => unpacked(batch, &blobs),
            Err(archive) => Err(in_neither(error, archive)),
        }
    }

    async fn read_beacon(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let number = batch.header.number;
        let beacon = self.sources.beacon.as_ref().ok_or(DaReadError::NoReader {
            batch: number,
            kind: DaKind::L1Blob.as_str(),
            hint: "give the URL of a beacon node (`--beacon`, or beacon in [l1])",
        })?;
        let block = BlobBlock { number: batch.l1.block.number, timestamp: batch.l1_timestamp };
        let blobs = beacon.blobs(block, &batch.blob_hashes).await.map_err(|error| match error {
            BeaconError::Mismatch { .. } => {
                DaReadError::Mismatch { batch: number, problem: error.to_string() }
            }
            missing @ BeaconError::BlobMissing { .. } if self.sources.archive.is_none() => {
                DaReadError::Unavailable { batch: number, source: Box::new(Dropped(missing)) }
            }
            other => DaReadError::Unavailable { batch: number, source: Box::new(other) },
        })?;
        unpacked(batch, &blobs)
    }

    async fn read_object(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let number = batch.header.number;
        let store = self.sources.store.as_ref().ok_or(DaReadError::NoReader {
            batch: number,
            kind: DaKind::ObjectStore.as_str(),
            hint: "give the URL of the object store (`--da-store`, or [da_adapter.object_store])",
        })?;
        let digest = batch.header.digest;
        let stored = store
            .read(&batch.da_pointer, digest)
            .await
            .map_err(|error: ObjectStoreError| DaReadError::Unavailable {
                batch: number,
                source: Box::new(error),
            })?
            .ok_or_else(|| DaReadError::Invalid {
                batch: number,
                problem: "its pointer is not the key of an object with its digest".to_owned(),
            })?;
        checked(number, digest, stored)
    }

    async fn read_alt_da(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let (number, digest) = (batch.header.number, batch.header.digest);
        if !may_stand_for(&batch.da_pointer, digest) {
            return Err(DaReadError::Invalid {
                batch: number,
                problem: "its pointer is no commitment to a batch with its digest".to_owned(),
            });
        }
        let server = self.sources.alt_da.as_ref().ok_or(DaReadError::NoReader {
            batch: number,
            kind: DaKind::AltDa.as_str(),
            hint: "give the URL of an alt-DA server (`--alt-da`, or [da_adapter.alt_da])",
        })?;
        let stored = server
            .get(&batch.da_pointer)
            .await
            .map_err(|error| DaReadError::Unavailable { batch: number, source: Box::new(error) })?;
        checked(number, digest, stored)
    }

    #[cfg(not(feature = "celestia"))]
    async fn read_celestia(
        &self,
        batch: &PostedBatch,
        _: CelestiaPointer,
    ) -> Result<Bytes, DaReadError> {
        Err(DaReadError::NoReader {
            batch: batch.header.number,
            kind: DaKind::Celestia.as_str(),
            hint: "this build has no client for it: build with the feature celestia",
        })
    }

    #[cfg(feature = "celestia")]
    async fn read_celestia(
        &self,
        batch: &PostedBatch,
        pointer: CelestiaPointer,
    ) -> Result<Bytes, DaReadError> {
        let number = batch.header.number;
        let node = self.sources.celestia.as_ref().ok_or(DaReadError::NoReader {
            batch: number,
            kind: DaKind::Celestia.as_str(),
            hint: "give the URL of a Celestia node (`--celestia`, or [da_adapter.celestia])",
        })?;
        let data = node.get(&pointer).await.map_err(|error| match error {
            CelestiaError::Other(_) => {
                DaReadError::Mismatch { batch: number, problem: error.to_string() }
            }
            other => DaReadError::Unavailable { batch: number, source: Box::new(other) },
        })?;
        // The commitment stands for these bytes alone, so a wrong digest is the poster's fault.
        posted(batch, data)
    }
}

#[async_trait]
impl DaReader for MultiReader {
    async fn read(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        match batch.header.da_kind {
            DaKind::L1Blob => self.read_blobs(batch).await,
            DaKind::L1Calldata => posted(batch, batch.da_pointer.clone()),
            DaKind::ObjectStore => self.read_object(batch).await,
            DaKind::AltDa => self.read_alt_da(batch).await,
            DaKind::Celestia => {
                let pointer = CelestiaPointer::parse(&batch.da_pointer).ok_or_else(|| {
                    let problem = "its pointer is no place on Celestia".to_owned();
                    DaReadError::Invalid { batch: batch.header.number, problem }
                })?;
                self.read_celestia(batch, pointer).await
            }
        }
    }
}

/// Blobs that the beacon node does not have, and there is no archive.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}. Beacon nodes drop blobs after 18 days: name an archive that has them (`--archive`, or [da_adapter.archive])"
)]
struct Dropped(#[source] BeaconError);

/// Blobs that neither gave.
#[derive(Debug, thiserror::Error)]
#[error("{beacon}; and {archive}")]
struct InNeither {
    #[source]
    beacon: Box<dyn std::error::Error + Send + Sync>,
    archive: ArchiveError,
}

/// What neither the beacon node nor the archive gave.
fn in_neither(beacon: DaReadError, archive: ArchiveError) -> DaReadError {
    match (beacon, archive) {
        (DaReadError::Unavailable { batch, source: beacon }, archive) => match archive {
            ArchiveError::Wrong { .. } => {
                DaReadError::Mismatch { batch, problem: format!("{beacon}; and {archive}") }
            }
            archive => {
                let source = Box::new(InNeither { beacon, archive });
                DaReadError::Unavailable { batch, source }
            }
        },
        (DaReadError::Mismatch { batch, problem }, archive) => {
            DaReadError::Mismatch { batch, problem: format!("{problem}; and {archive}") }
        }
        (other, _) => other,
    }
}

/// The batch that blobs hold. They are those that L1 recorded: what is wrong with them is the poster's fault.
fn unpacked<B: AsRef<[u8]>>(batch: &PostedBatch, blobs: &[B]) -> Result<Bytes, DaReadError> {
    let data = blob::unpack(blobs).map_err(|error| DaReadError::Invalid {
        batch: batch.header.number,
        problem: error.to_string(),
    })?;
    posted(batch, data.into())
}

/// Bytes from somebody who may have others than those that were posted.
fn checked(number: u64, digest: B256, stored: StoredBatch) -> Result<Bytes, DaReadError> {
    if stored.digest != digest {
        let problem =
            format!("the digest of what is there is {}, L1 recorded {digest}", stored.digest);
        return Err(DaReadError::Mismatch { batch: number, problem });
    }
    stored.data.ok_or_else(|| DaReadError::Invalid {
        batch: number,
        problem: "it is larger than any batch".to_owned(),
    })
}

/// Bytes that are certainly those that were posted, if they have the posted digest.
fn posted(batch: &PostedBatch, data: Bytes) -> Result<Bytes, DaReadError> {
    let digest = batch_digest(&data);
    if digest == batch.header.digest {
        return Ok(data);
    }
    Err(DaReadError::Invalid {
        batch: batch.header.number,
        problem: format!("the posted bytes have the digest {digest}, not {}", batch.header.digest),
    })
}

#[cfg(test)]
mod tests {
    use alloy::{eips::BlockNumHash, primitives::hex};
    use millrace_proto::{BatchHeader, L1Ref};
    use url::Url;

    use super::*;
    use crate::{
        backend::{DaBackend, SubmitRequest},
        config::ObjectStoreConfig,
    };

    fn posted(da_kind: DaKind, da_pointer: &[u8], digest: B256) -> PostedBatch {
        PostedBatch {
            header: BatchHeader {
                number: 3,
                first_block: 1,
                last_block: 2,
                deposits_end: 0,
                deposits_hash: B256::ZERO,
                digest,
                da_kind,
            },
            batch_hash: B256::ZERO,
            blob_hashes: Vec::new(),
            da_pointer: da_pointer.to_vec().into(),
            l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
            l1_timestamp: 0,
        }
    }

    #[tokio::test]
    async fn an_object_is_checked_against_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(folder.path()).unwrap();
        let store =
            ObjectStoreBackend::open(&ObjectStoreConfig { url, prefix: "p".to_owned() }).unwrap();
        let reader =
            MultiReader::new(DaSources { store: Some(store.clone()), ..DaSources::default() });
        let (digest, data) = (batch_digest(b"batch"), Bytes::from_static(b"batch"));
        let pointer = format!("p/{}", hex::encode(digest));
        let batch = posted(DaKind::ObjectStore, pointer.as_bytes(), digest);

        let error = reader.read(&batch).await.unwrap_err();
        assert!(matches!(error, DaReadError::Unavailable { batch: 3, .. }), "{error}");

        store.submit(SubmitRequest { number: 3, digest, data: data.clone() }).await.unwrap();
        assert_eq!(reader.read(&batch).await.unwrap(), data);

        std::fs::write(folder.path().join(&pointer), b"another").unwrap();
        let error = reader.read(&batch).await.unwrap_err();
        assert!(matches!(error, DaReadError::Mismatch { batch: 3, .. }), "{error}");

        let error =
            reader.read(&posted(DaKind::ObjectStore, b"elsewhere", digest)).await.unwrap_err();
        assert!(matches!(error, DaReadError::Invalid { batch: 3, .. }), "{error}");
    }

    #[tokio::test]
    async fn calldata_is_the_pointer_itself() {
        let reader = MultiReader::new(DaSources::default());
        let digest = batch_digest(b"batch");
        let read = reader.read(&posted(DaKind::L1Calldata, b"batch", digest)).await.unwrap();
        assert_eq!(read.as_ref(), b"batch");
        let error = reader.read(&posted(DaKind::L1Calldata, b"other", digest)).await.unwrap_err();
        assert!(matches!(error, DaReadError::Invalid { .. }), "{error}");
    }

    #[tokio::test]
    async fn without_a_source_it_says_which_is_missing() {
        let reader = MultiReader::new(DaSources::default());
        for kind in [DaKind::L1Blob, DaKind::ObjectStore, DaKind::AltDa, DaKind::Celestia] {
            let pointer: &[u8] = match kind {
                // A generic commitment, which may stand for anything.
                DaKind::AltDa => &[1, 2],
                DaKind::Celestia => &[1; 51],
                _ => b"",
            };
            let error = reader.read(&posted(kind, pointer, B256::ZERO)).await.unwrap_err();
            assert!(
                matches!(error, DaReadError::NoReader { kind: name, .. } if name == kind.as_str())
            );
        }
    }
}
