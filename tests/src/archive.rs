//! A folder that a chain keeps its blobs in.

use eyre::{Result, ensure, eyre};
use millrace_l1::{L1Config, RollupEvent};
use tempfile::TempDir;
use url::Url;

use crate::{Ready, eventually};

/// Bytes of a blob.
const BLOB: u64 = 131_072;

/// An archive of blobs in a folder of its own, which goes with it.
#[derive(Debug)]
pub struct BlobArchive {
    folder: TempDir,
    url: String,
}

impl BlobArchive {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no room for a folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("millrace-archive-").tempdir()?;
        let url = Url::from_directory_path(folder.path())
            .map_err(|()| eyre!("{} is not absolute", folder.path().display()))?;
        Ok(Self { url: url.into(), folder })
    }

    /// The command line's options that name it.
    pub fn options(&self) -> [&str; 2] {
        ["--archive", &self.url]
    }

    /// Waits until it has the blobs of every batch that L1 holds, each under its versioned hash.
    ///
    /// # Errors
    /// When it does not get them in time, or there are none.
    pub async fn complete(&self, chain: &Ready) -> Result<()> {
        let rollup = L1Config::new(chain.l1.clone(), chain.rollup).rollup()?;
        eventually("the blobs of all batches in the archive", || async {
            let head = rollup.client().head().await?.number;
            let mut blobs = 0;
            for event in rollup.events(0, head).await? {
                let RollupEvent::Posted(batch) = event else { continue };
                for hash in batch.blob_hashes {
                    let name = hash.to_string();
                    let file = self.folder.path().join(name.trim_start_matches("0x"));
                    let Ok(metadata) = file.metadata() else { return Ok(None) };
                    ensure!(metadata.len() == BLOB, "{} is no blob", file.display());
                    blobs += 1;
                }
            }
            ensure!(blobs > 0, "no batch is in blobs");
            Ok(Some(()))
        })
        .await
    }
}
