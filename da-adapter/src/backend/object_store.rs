//! An object store: a local folder, or a bucket of a cloud.

use std::sync::Arc;

use alloy::primitives::{B256, Bytes, U256, hex};
use async_trait::async_trait;
use futures::TryStreamExt;
use millrace_l1::Market;
use millrace_proto::{BatchLimits, DaKind, DaReadError, ErrorChain, PostedBatch};
use object_store::{Error as StoreError, path::Path};
use tracing::warn;

use super::{
    Availability, BackendError, DaBackend, POST_GAS, Prepared, StoredBatch, StoredBatchBuilder,
    SubmitRequest, gas_cost, invalid, unavailable,
};
use crate::{
    availability::{Attester, AvailabilityAttestation, SUFFIX},
    config::ObjectStoreConfig,
    objects::{self, ObjectStoreError, Objects, path_of},
};

/// Keeps batches under their digest. Clones share the connection.
#[derive(Debug, Clone)]
pub struct ObjectStoreBackend {
    objects: Objects,
    /// Attests what is put there, if anyone does.
    attester: Option<Arc<Attester>>,
}

impl ObjectStoreBackend {
    /// Opens the store; makes the folder of a `file:` URL. How a cloud's store is reached, and with which credentials, comes from the environment.
    ///
    /// # Errors
    /// When the URL, the prefix or a setting in the environment cannot be used.
    pub fn open(config: &ObjectStoreConfig) -> Result<Self, ObjectStoreError> {
        Ok(Self { objects: Objects::open(config)?, attester: None })
    }

    /// The same with settings from elsewhere ([`Objects::open_with`]).
    #[cfg(all(test, any(feature = "aws", feature = "azure", feature = "gcp")))]
    pub(super) fn open_with(
        config: &ObjectStoreConfig,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ObjectStoreError> {
        Ok(Self { objects: Objects::open_with(config, settings)?, attester: None })
    }

    /// The same store, with an attestation beside each batch that is put there.
    pub(crate) fn attested_by(self, attester: Attester) -> Self {
        Self { attester: Some(Arc::new(attester)), ..self }
    }

    /// What is attested of the batch that a posted pointer names; `Ok(None)` if nothing is, or what is there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn attestation(
        &self,
        pointer: &[u8],
    ) -> Result<Option<AvailabilityAttestation>, ObjectStoreError> {
        let key = std::str::from_utf8(pointer).unwrap_or_default();
        let Some(location) = self.objects.location(&format!("{key}{SUFFIX}")) else {
            return Ok(None);
        };
        match self.read_at(&location).await {
            Ok(stored) => {
                let data = stored.data.unwrap_or_default();
                Ok(serde_json::from_slice(&data).ok())
            }
            Err(ObjectStoreError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts an attestation beside a batch that is there, unless there is one that holds for long. Posting does not wait for it: whoever asks for one that is missing sees that it is.
    async fn attest(&self, request: &SubmitRequest, key: &str) {
        let Some(attester) = &self.attester else { return };
        let known = self.attestation(key.as_bytes()).await.ok().flatten();
        if known.is_some_and(|known| attester.is_as_good(&known, request, key)) {
            return;
        }
        if let Err(error) = self.put_attestation(attester, request, key).await {
            let error = ErrorChain::new(&*error);
            warn!(target: "millrace::da_adapter", batch = request.number, %error, "nothing is attested of a batch on the object store");
        }
    }

    async fn put_attestation(
        &self,
        attester: &Attester,
        request: &SubmitRequest,
        key: &str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let name = format!("{key}{SUFFIX}");
        let location = self.location(&name)?;
        let attestation = attester.attest(request, key).await?;
        let text = serde_json::to_vec_pretty(&attestation)?;
        self.objects.put(&location, text.into()).await?;
        Ok(())
    }

    /// What is posted on L1 for a batch: `<prefix>/<digest in hex>`.
    fn key(&self, digest: B256) -> String {
        self.objects.key(&hex::encode(digest))
    }

    fn location(&self, key: &str) -> Result<Path, ObjectStoreError> {
        self.objects.location(key).ok_or_else(|| ObjectStoreError::Prefix(key.to_owned()))
    }

    /// Reads the object that a key names, in memory bounded by the largest batch.
    async fn read_key(&self, key: &str) -> Result<StoredBatch, ObjectStoreError> {
        self.read_at(&self.location(key)?).await
    }

    async fn read_at(&self, location: &Path) -> Result<StoredBatch, ObjectStoreError> {
        let mut stream = self.objects.get(location).await?.into_stream();
        let mut batch = StoredBatchBuilder::default();
        while let Some(chunk) = stream.try_next().await? {
            batch.push(&chunk);
        }
        Ok(batch.finish())
    }
}

/// The key of a batch with this digest that a pointer is; `None` if it is none, whatever any store holds.
fn key_in(pointer: &[u8], digest: B256) -> Option<&str> {
    let key = std::str::from_utf8(pointer).ok()?;
    let ends = key.ends_with(&hex::encode(digest));
    path_of(key).filter(|_| ends).map(|_| key)
}

/// The key that was posted for a batch.
pub(super) fn key_of(batch: &PostedBatch) -> Result<&str, DaReadError> {
    key_in(&batch.da_pointer, batch.header.digest)
        .ok_or_else(|| invalid(batch, "its pointer is not the key of an object with its digest"))
}

#[async_trait]
impl DaBackend for ObjectStoreBackend {
    fn kind(&self) -> DaKind {
        DaKind::ObjectStore
    }

    fn max_size(&self) -> usize {
        BatchLimits::default().max_encoded
    }

    fn l1_cost(&self, _: usize, market: &Market) -> U256 {
        gas_cost(POST_GAS, market)
    }

    fn place_of(&self, digest: B256) -> Option<Bytes> {
        Some(self.key(digest).into_bytes().into())
    }

    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        let max = self.max_size();
        let size = request.size_within(max)?;
        let key = self.key(request.digest);
        let location = self.location(&key).map_err(|error| BackendError::Fatal(Box::new(error)))?;
        let pointer = key.clone().into_bytes().into();
        let prepared = Prepared { da_pointer: pointer, blobs: Vec::new() };
        // The key is the digest: what is there and right was put there before.
        if let Ok(stored) = self.read_at(&location).await
            && stored.digest == request.digest
        {
            self.attest(&request, &key).await;
            return Ok(prepared);
        }
        let put = self.objects.put(&location, request.data.clone()).await;
        put.map_err(|error| classify(error, size, max))?;
        // What cannot be read back is not available, whatever the answer to the put was.
        let stored =
            self.read_at(&location).await.map_err(|error| BackendError::Retry(Box::new(error)))?;
        if stored.digest != request.digest {
            let problem = format!(
                "the store holds {} under {location} after it took {}",
                stored.digest, request.digest
            );
            return Err(BackendError::UseNext(problem.into()));
        }
        self.attest(&request, &key).await;
        Ok(prepared)
    }

    async fn status(&self, digest: B256, pointer: &[u8]) -> Result<Availability, BackendError> {
        let Some(key) = key_in(pointer, digest) else { return Ok(Availability::Missing) };
        match self.read_key(key).await {
            Ok(stored) => Ok(stored.availability(digest)),
            Err(ObjectStoreError::Store(StoreError::NotFound { .. })) => Ok(Availability::Missing),
            Err(error) => Err(BackendError::Retry(error.into())),
        }
    }

    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let key = key_of(batch)?;
        let stored = self.read_key(key).await.map_err(|error| unavailable(batch, error))?;
        stored.checked(batch)
    }
}

/// What is to be done after a store did not take `size` bytes.
fn classify(error: StoreError, size: usize, max: usize) -> BackendError {
    match &error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            BackendError::UseNext(error.into())
        }
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => BackendError::Fatal(error.into()),
        _ => match objects::status(&error) {
            Some(status) => BackendError::from_status(status, error.into(), size, max),
            None => BackendError::Retry(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use millrace_proto::batch_digest;
    use url::Url;

    use super::*;

    fn open(folder: &std::path::Path, prefix: &str) -> ObjectStoreBackend {
        let url = Url::from_directory_path(folder).unwrap();
        ObjectStoreBackend::open(&ObjectStoreConfig { url, prefix: prefix.to_owned() }).unwrap()
    }

    fn request(data: &[u8]) -> SubmitRequest {
        SubmitRequest { number: 1, digest: batch_digest(data), data: data.to_vec().into() }
    }

    #[test]
    fn a_stores_errors_say_what_to_do() {
        let (path, source) = ("there".to_owned(), || "told so".into());
        let denied = StoreError::PermissionDenied { path: path.clone(), source: source() };
        let unknown = StoreError::Unauthenticated { path: path.clone(), source: source() };
        for error in [denied, unknown] {
            assert!(matches!(classify(error, 9, 9), BackendError::UseNext(_)));
        }
        let setting = StoreError::UnknownConfigurationKey { store: "S3", key: path };
        assert!(matches!(classify(setting, 9, 9), BackendError::Fatal(_)));
        let away = StoreError::Generic { store: "S3", source: source() };
        assert!(matches!(classify(away, 9, 9), BackendError::Retry(_)));
    }

    #[tokio::test]
    async fn a_batch_comes_back_under_its_digest_whatever_prefix_is_written_now() {
        let folder = tempfile::tempdir().unwrap();
        for prefix in ["", "chain/7077"] {
            let store = open(folder.path(), prefix);
            let request = request(b"batch");
            let prepared = store.submit(request.clone()).await.unwrap();
            assert!(prepared.da_pointer.starts_with(prefix.as_bytes()));
            let again = open(folder.path(), "another prefix to write, the same store");
            let status = again.status(request.digest, &prepared.da_pointer).await.unwrap();
            assert_eq!(status, Availability::Available);
        }
    }

    #[tokio::test]
    async fn a_broken_object_is_put_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), "");
        let request = request(b"batch");
        fs::write(folder.path().join(hex::encode(request.digest)), b"torn").unwrap();
        store.submit(request.clone()).await.unwrap();
        assert_eq!(
            store.read_key(&store.key(request.digest)).await.unwrap().digest,
            request.digest
        );
    }

    #[test]
    fn a_pointer_that_is_no_key_names_nothing() {
        let digest = batch_digest(b"batch");
        let name = hex::encode(digest);
        assert_eq!(key_in(name.as_bytes(), digest), Some(name.as_str()));
        let (outside, absolute) = (format!("../{name}"), format!("/{name}"));
        for pointer in [&b""[..], b"\xff", b"other", outside.as_bytes(), absolute.as_bytes()] {
            assert_eq!(key_in(pointer, digest), None, "{pointer:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_takes_nothing_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = open(&path, "");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, b"a file in its place").unwrap();
        let error = store.submit(request(b"batch")).await.unwrap_err();
        assert!(matches!(error, BackendError::Retry(_)), "{error}");
    }

    #[test]
    fn prefixes_that_would_change_are_refused() {
        let url = Url::parse("file:///nowhere").unwrap();
        for prefix in ["/absolute", "trailing/", "a//b", ".."] {
            let config = ObjectStoreConfig { url: url.clone(), prefix: prefix.to_owned() };
            assert!(ObjectStoreBackend::open(&config).is_err(), "{prefix}");
        }
    }
}
