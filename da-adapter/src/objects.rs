//! Objects in a store, a local folder or a bucket of a cloud, below a prefix.

mod clouds;

use std::{fs, path::PathBuf, sync::Arc};

use alloy::primitives::Bytes;
use object_store::{
    Error as StoreError, GetResult, ObjectStore, ObjectStoreExt, PutPayload,
    local::LocalFileSystem, path::Path,
};

pub(crate) use self::clouds::status;
use crate::config::ObjectStoreConfig;

/// A store. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// What the URL names inside of the store; no part of keys.
    root: Path,
    /// What keys begin with.
    prefix: String,
}

/// Why an object store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStoreError {
    /// A `file:` URL that is no path.
    #[error("{0} is not the URL of a folder")]
    NotAFolder(url::Url),
    /// The local folder cannot be made.
    #[error("folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// A prefix that would not come back as it is.
    #[error("prefix {0:?} is not a plain relative path")]
    Prefix(String),
    /// The store refuses, or does not answer.
    #[error("object store: {0}")]
    Store(#[from] StoreError),
    /// A URL of a kind that this build has no client for.
    #[error(
        "no object store client for {url}: {source} (s3, gs and az URLs need the features aws, gcp \
         and azure)"
    )]
    Url {
        /// The URL.
        url: Box<url::Url>,
        /// What failed.
        #[source]
        source: StoreError,
    },
}

impl Objects {
    /// Opens the store; makes the folder of a `file:` URL. How a cloud's store is reached, and with which credentials, comes from the environment.
    pub(crate) fn open(config: &ObjectStoreConfig) -> Result<Self, ObjectStoreError> {
        Self::open_with(config, clouds::environment())
    }

    /// Opens the store; `settings` are how a cloud's is reached, under the names of the environment's variables in lower case.
    pub(crate) fn open_with(
        config: &ObjectStoreConfig,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ObjectStoreError> {
        let (url, prefix) = (&config.url, config.prefix.clone());
        if !Path::parse(&prefix).is_ok_and(|path| path.as_ref() == prefix) {
            return Err(ObjectStoreError::Prefix(prefix));
        }
        let (store, root) = match url.scheme() {
            "file" => (local(url)?, Path::default()),
            _ => clouds::open(url, settings).map_err(|source| {
                let url = Box::new(url.clone());
                ObjectStoreError::Url { url, source }
            })?,
        };
        Ok(Self { store, root, prefix })
    }

    /// The key of an object with this name: `<prefix>/<name>`.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// The object that a key names; `None` if no key looks like this.
    pub(crate) fn location(&self, key: &str) -> Option<Path> {
        Some(self.root.parts().chain(path_of(key)?.parts()).collect())
    }

    /// An object, not read yet.
    pub(crate) async fn get(&self, location: &Path) -> Result<GetResult, StoreError> {
        self.store.get(location).await
    }

    /// Puts an object there, as a whole, in the place of what was there.
    pub(crate) async fn put(&self, location: &Path, data: Bytes) -> Result<(), StoreError> {
        self.store.put(location, PutPayload::from_bytes(data.0)).await.map(|_| ())
    }
}

/// A local folder, which is made.
fn local(url: &url::Url) -> Result<Arc<dyn ObjectStore>, ObjectStoreError> {
    let path = url.to_file_path().map_err(|()| ObjectStoreError::NotAFolder(url.clone()))?;
    fs::create_dir_all(&path)
        .map_err(|source| ObjectStoreError::Folder { path: path.clone(), source })?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true)))
}

/// The path that is written as this key is; `None` if none is.
pub(crate) fn path_of(key: &str) -> Option<Path> {
    Path::parse(key).ok().filter(|path| path.as_ref() == key && !key.is_empty())
}
