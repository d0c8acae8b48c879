//! An object store: a local folder, or a bucket of a cloud.

use std::sync::Arc;

use alloy::primitives::{B256, U256, hex};
use async_trait::async_trait;
use futures::TryStreamExt;
use millrace_l1::Market;
use millrace_proto::{BatchLimits, DaKind, ErrorChain};
use object_store::{Error as StoreError, path::Path};
use tracing::warn;

use super::{
    BackendError, DaBackend, POST_GAS, Prepared, StoredBatch, StoredBatchBuilder, SubmitRequest,
    gas_cost,
};
use crate::{
    availability::{Attester, AvailabilityAttestation, SUFFIX},
    config::ObjectStoreConfig,
    objects::{ObjectStoreError, Objects},
};

/// Keeps batches under their digest. Clones share the connection.
#[derive(Debug, Clone)]
pub struct ObjectStoreBackend {
    /// The prefix of their keys is part of what is posted.
    objects: Objects,
    /// Attests what is put there, if anyone does.
    attester: Option<Arc<Attester>>,
}

impl ObjectStoreBackend {
    /// Opens the store; makes the folder of a `file:` URL.
    ///
    /// # Errors
    /// When the URL or the prefix cannot be used.
    pub fn open(config: &ObjectStoreConfig) -> Result<Self, ObjectStoreError> {
        Ok(Self { objects: Objects::open(config)?, attester: None })
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
        let Some(location) = self.location(&format!("{key}{SUFFIX}")) else { return Ok(None) };
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
        let location = self.location(&name).ok_or(ObjectStoreError::Prefix(name))?;
        let attestation = attester.attest(request, key).await?;
        let text = serde_json::to_vec_pretty(&attestation)?;
        self.objects.put(&location, text.into()).await?;
        Ok(())
    }

    /// What is posted on L1 for a batch: `<prefix>/<digest in hex>`.
    fn key(&self, digest: B256) -> String {
        self.objects.key(&hex::encode(digest))
    }

    fn location(&self, key: &str) -> Option<Path> {
        self.objects.location(key)
    }

    /// Reads the object that a posted pointer names, in memory bounded by the largest batch.
    /// `Ok(None)`: the pointer is none of ours, whatever the store holds.
    pub(crate) async fn read(
        &self,
        pointer: &[u8],
        digest: B256,
    ) -> Result<Option<StoredBatch>, ObjectStoreError> {
        let key =
            std::str::from_utf8(pointer).ok().filter(|key| key.ends_with(&hex::encode(digest)));
        let Some(location) = key.and_then(|key| self.location(key)) else { return Ok(None) };
        self.read_at(&location).await.map(Some)
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

    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        request.size_within(self.max_size())?;
        let key = self.key(request.digest);
        let location = self
            .location(&key)
            .ok_or_else(|| BackendError::Fatal(Box::new(ObjectStoreError::Prefix(key.clone()))))?;
        let pointer = key.clone().into_bytes().into();
        let prepared = Prepared { da_pointer: pointer, blobs: Vec::new() };
        // The key is the digest: what is there and right was put there before.
        if let Ok(stored) = self.read_at(&location).await
            && stored.digest == request.digest
        {
            self.attest(&request, &key).await;
            return Ok(prepared);
        }
        self.objects.put(&location, request.data.clone()).await.map_err(classify)?;
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
}

fn classify(error: StoreError) -> BackendError {
    match error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            BackendError::UseNext(Box::new(error))
        }
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => BackendError::Fatal(Box::new(error)),
        _ => BackendError::Retry(Box::new(error)),
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
            assert!(matches!(classify(error), BackendError::UseNext(_)));
        }
        let setting = StoreError::UnknownConfigurationKey { store: "S3", key: path };
        assert!(matches!(classify(setting), BackendError::Fatal(_)));
        let away = StoreError::Generic { store: "S3", source: source() };
        assert!(matches!(classify(away), BackendError::Retry(_)));
    }

    #[tokio::test]
    async fn a_batch_comes_back_under_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        for prefix in ["", "chain/7077"] {
            let store = open(&folder.path().join("made"), prefix);
            let request = request(b"batch");
            let prepared = store.submit(request.clone()).await.unwrap();
            assert_eq!(store.submit(request.clone()).await.unwrap(), prepared);
            assert!(prepared.blobs.is_empty());
            assert!(prepared.da_pointer.starts_with(prefix.as_bytes()));

            let read = store.read(&prepared.da_pointer, request.digest).await.unwrap().unwrap();
            assert_eq!(read.data.unwrap(), request.data);
            let again =
                open(&folder.path().join("made"), "another prefix to write, the same store");
            assert!(again.read(&prepared.da_pointer, request.digest).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn a_broken_object_is_put_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), "");
        let request = request(b"batch");
        fs::write(folder.path().join(hex::encode(request.digest)), b"torn").unwrap();
        let prepared = store.submit(request.clone()).await.unwrap();
        let read = store.read(&prepared.da_pointer, request.digest).await.unwrap().unwrap();
        assert_eq!(read.digest, request.digest);
    }

    #[tokio::test]
    async fn a_pointer_that_is_no_key_names_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), "");
        let digest = batch_digest(b"batch");
        let outside = format!("../{}", hex::encode(digest));
        for pointer in [&b""[..], b"\xff", b"other", outside.as_bytes()] {
            assert!(store.read(pointer, digest).await.unwrap().is_none());
        }
        let missing = hex::encode(digest);
        let error = store.read(missing.as_bytes(), digest).await.unwrap_err();
        assert!(matches!(error, ObjectStoreError::Store(StoreError::NotFound { .. })));
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
