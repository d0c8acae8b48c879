//! The blob archive: every blob that the contract recorded for a batch, in an object store, for when beacon nodes have dropped it.
//!
//! An object is a blob's 131,072 bytes under its versioned hash, so that anyone can check each by itself: the hash of its KZG commitment is its name (EIP-4844). What the blobs
//! hold is not the archive's affair: who derives the chain has to see the very bytes to judge them, also where they hold no batch.

mod fill;

use alloy::{
    consensus::Blob,
    eips::eip4844::BYTES_PER_BLOB,
    primitives::{B256, Bytes, hex},
};
use futures::future::try_join_all;
use millrace_l1::blob_versioned_hash;
use object_store::{Error as StoreError, path::Path};
use tokio::task::{JoinError, spawn_blocking};

pub(crate) use self::fill::{Archiver, Progress};
use crate::{
    config::ObjectStoreConfig,
    objects::{ObjectStoreError, Objects},
};

/// Blobs in an object store, each under its versioned hash in lower-case hexadecimal. Clones share the connection.
#[derive(Debug, Clone)]
pub struct BlobArchive {
    objects: Objects,
}

/// Why the archive did not give a blob, or did not take one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It has none under this hash.
    #[error("the archive does not have blob {0}")]
    Missing(B256),
    /// What it has under this hash is not the blob.
    #[error("what the archive holds under {hash} is not that blob: {problem}")]
    Wrong {
        /// The versioned hash.
        hash: B256,
        /// What is wrong.
        problem: String,
    },
    /// It does not answer, or refuses.
    #[error("the archive: {0}")]
    Store(#[from] ObjectStoreError),
    /// The process ends.
    #[error("checking a blob was broken off: {0}")]
    Worker(#[from] JoinError),
}

impl BlobArchive {
    /// Opens the store; makes the folder of a `file:` URL.
    ///
    /// # Errors
    /// When the URL or the prefix cannot be used.
    pub fn open(config: &ObjectStoreConfig) -> Result<Self, ObjectStoreError> {
        Ok(Self { objects: Objects::open(config)? })
    }

    /// The blobs with these versioned hashes, in this order, each checked: its KZG commitment was computed again.
    pub(crate) async fn blobs(&self, hashes: &[B256]) -> Result<Vec<Bytes>, ArchiveError> {
        try_join_all(hashes.iter().map(|hash| self.blob(*hash))).await
    }

    async fn blob(&self, hash: B256) -> Result<Bytes, ArchiveError> {
        let blob = self.object(hash).await?.ok_or(ArchiveError::Missing(hash))?;
        let checked = blob.clone();
        let problem = match spawn_blocking(move || versioned_hash(&checked)).await? {
            Ok(found) if found == hash => return Ok(blob),
            Ok(found) => format!("its versioned hash is {found}"),
            Err(problem) => problem,
        };
        Err(ArchiveError::Wrong { hash, problem })
    }

    /// Puts a blob there, whose versioned hash the caller has checked. Returns once it was read back; what is there already is left alone if it is right.
    async fn put(&self, hash: B256, blob: Bytes) -> Result<(), ArchiveError> {
        if self.object(hash).await.is_ok_and(|there| there.as_ref() == Some(&blob)) {
            return Ok(());
        }
        let location = self.location(hash)?;
        let put = self.objects.put(&location, blob.clone()).await;
        put.map_err(ObjectStoreError::Store)?;
        match self.object(hash).await? {
            Some(there) if there == blob => Ok(()),
            Some(_) => {
                let problem = "it is not what was just put there".to_owned();
                Err(ArchiveError::Wrong { hash, problem })
            }
            None => Err(ArchiveError::Missing(hash)),
        }
    }

    /// What is there under a hash, if it is as long as a blob.
    async fn object(&self, hash: B256) -> Result<Option<Bytes>, ArchiveError> {
        let found = match self.objects.get(&self.location(hash)?).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            found => found.map_err(ObjectStoreError::Store)?,
        };
        // Before it is read: it may be of any size.
        if found.meta.size != BYTES_PER_BLOB as u64 {
            let problem = format!("it has {} bytes, a blob has {BYTES_PER_BLOB}", found.meta.size);
            return Err(ArchiveError::Wrong { hash, problem });
        }
        Ok(Some(found.bytes().await.map_err(ObjectStoreError::Store)?.into()))
    }

    fn location(&self, hash: B256) -> Result<Path, ObjectStoreError> {
        let key = self.objects.key(&hex::encode(hash));
        self.objects.location(&key).ok_or(ObjectStoreError::Prefix(key))
    }
}

/// The versioned hash of a blob's bytes, or what is wrong with them. Takes some 40 milliseconds.
fn versioned_hash(bytes: &[u8]) -> Result<B256, String> {
    let blob = <&Blob>::try_from(bytes)
        .map_err(|_| format!("it has {} bytes, a blob has {BYTES_PER_BLOB}", bytes.len()))?;
    blob_versioned_hash(blob)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::blob::pack;

    fn open(folder: &std::path::Path, prefix: &str) -> BlobArchive {
        let url = Url::from_directory_path(folder).unwrap();
        BlobArchive::open(&ObjectStoreConfig { url, prefix: prefix.to_owned() }).unwrap()
    }

    fn blob(data: &[u8]) -> (B256, Bytes) {
        let packed = pack(data).unwrap();
        (versioned_hash(&packed).unwrap(), packed.into())
    }

    #[tokio::test]
    async fn an_object_is_a_blob_under_its_versioned_hash() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path(), "chain/7077");
        let (one, other) = (blob(b"one"), blob(b"other"));
        assert!(
            matches!(archive.blobs(&[one.0]).await, Err(ArchiveError::Missing(hash)) if hash == one.0)
        );
        for (hash, blob) in [&one, &other, &one] {
            archive.put(*hash, blob.clone()).await.unwrap();
        }
        let read = archive.blobs(&[other.0, one.0, other.0]).await.unwrap();
        assert_eq!(read, [other.1.clone(), one.1.clone(), other.1]);
        // Anyone can check it who has the file.
        let file = folder.path().join("chain/7077").join(hex::encode(one.0));
        let bytes = std::fs::read(file).unwrap();
        let bytes = <&Blob>::try_from(bytes.as_slice()).unwrap();
        assert_eq!(blob_versioned_hash(bytes).unwrap(), one.0);
        assert_eq!(one.0[0], 1);
    }

    #[tokio::test]
    async fn another_object_is_not_believed_and_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path(), "");
        let (hash, right) = blob(b"right");
        let file = folder.path().join(hex::encode(hash));
        let no_blob = vec![0xff; BYTES_PER_BLOB];
        for wrong in [&right[1..], &[], &no_blob, &blob(b"wrong").1] {
            std::fs::write(&file, wrong).unwrap();
            let error = archive.blobs(&[hash]).await.unwrap_err();
            assert!(matches!(error, ArchiveError::Wrong { hash: of, .. } if of == hash), "{error}");
            archive.put(hash, right.clone()).await.unwrap();
            assert_eq!(archive.blobs(&[hash]).await.unwrap(), std::slice::from_ref(&right));
        }
    }
}
