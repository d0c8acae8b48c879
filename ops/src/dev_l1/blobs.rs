//! Blobs by versioned hash, one compressed file each.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::PathBuf,
};

use alloy::{eips::eip4844::Blob, primitives::B256};
use eyre::{Result, WrapErr, ensure};

/// The dev L1's blobs. Kept for good: a development chain is small, and `verify` wants all of them.
#[derive(Debug)]
pub(super) struct BlobStore {
    dir: PathBuf,
}

impl BlobStore {
    /// Opens the folder.
    pub(super) fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).wrap_err_with(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Stores a blob; storing it again changes nothing.
    pub(super) fn put(&self, versioned_hash: B256, blob: &Blob) -> Result<()> {
        let path = self.path(versioned_hash);
        if path.exists() {
            return Ok(());
        }
        let partial = path.with_extension("partial");
        let compressed = zstd::bulk::compress(blob.as_slice(), 1)?;
        let mut file = File::create(&partial)?;
        file.write_all(&compressed)?;
        file.sync_data()?;
        fs::rename(&partial, &path).wrap_err("cannot store a blob")
    }

    /// A blob, or `None` if no transaction ever carried it.
    pub(super) fn get(&self, versioned_hash: B256) -> Result<Option<Box<Blob>>> {
        let compressed = match fs::read(self.path(versioned_hash)) {
            Ok(compressed) => compressed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).wrap_err("cannot read a blob"),
        };
        let mut blob = Box::new(Blob::ZERO);
        let size = zstd::bulk::decompress_to_buffer(&compressed, blob.as_mut_slice())
            .wrap_err("a stored blob is damaged")?;
        ensure!(size == blob.len(), "a stored blob is cut short");
        Ok(Some(blob))
    }

    fn path(&self, versioned_hash: B256) -> PathBuf {
        self.dir.join(format!("{versioned_hash:x}.zst"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path().join("blobs")).unwrap();
        let blob = Blob::repeat_byte(7);
        let hash = B256::repeat_byte(1);
        store.put(hash, &blob).unwrap();
        store.put(hash, &blob).unwrap();
        assert_eq!(*store.get(hash).unwrap().unwrap(), blob);
        assert!(store.get(B256::ZERO).unwrap().is_none());
    }
}
