//! Objects in a store, a local folder or a bucket of a cloud, below a prefix.

use std::{fs, path::PathBuf, sync::Arc};

use alloy::primitives::Bytes;
use object_store::{
    Error as StoreError, GetResult, ObjectStore, ObjectStoreExt, PutPayload,
    local::LocalFileSystem, parse_url_opts, path::Path,
};

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
    /// Opens the store; makes the folder of a `file:` URL.
    pub(crate) fn open(config: &ObjectStoreConfig) -> Result<Self, ObjectStoreError> {
        let prefix = config.prefix.clone();
        if !Path::parse(&prefix).is_ok_and(|path| path.as_ref() == prefix) {
            return Err(ObjectStoreError::Prefix(prefix));
        }
        if config.url.scheme() == "file" {
            let path = config
                .url
                .to_file_path()
                .map_err(|()| ObjectStoreError::NotAFolder(config.url.clone()))?;
            fs::create_dir_all(&path)
                .map_err(|source| ObjectStoreError::Folder { path: path.clone(), source })?;
            let store = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
            return Ok(Self { store: Arc::new(store), root: Path::default(), prefix });
        }
        let options = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
        let (store, root) = parse_url_opts(&config.url, options).map_err(|source| {
            ObjectStoreError::Url { url: Box::new(config.url.clone()), source }
        })?;
        Ok(Self { store: store.into(), root, prefix })
    }

    /// The key of an object with this name: `<prefix>/<name>`.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// The object that a key names; `None` if no key looks like this.
    pub(crate) fn location(&self, key: &str) -> Option<Path> {
        let path = Path::parse(key).ok().filter(|path| path.as_ref() == key && !key.is_empty())?;
        Some(self.root.parts().chain(path.parts()).collect())
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
