//! Object stores: a local folder, and the clouds' with their own clients.

use std::{fs, path::PathBuf};

use alloy::primitives::hex;
use parking_lot::Mutex;
use url::Url;

use super::*;
use crate::config::ObjectStoreConfig;

/// Records that name no object with the batch's digest.
fn invalid_keys(good: &PostedBatch) -> Vec<PostedBatch> {
    let name = hex::encode(good.header.digest);
    let mut invalid = [String::new(), "elsewhere".to_owned(), format!("../{name}")]
        .map(|key| pointing_to(good, key.into_bytes()))
        .to_vec();
    invalid.push(of_other_bytes(good));
    invalid
}

struct Folder {
    store: ObjectStoreBackend,
    path: tempfile::TempDir,
    /// What was in the place of what is broken.
    whole: Mutex<Vec<(PathBuf, Vec<u8>)>>,
}

impl Folder {
    fn objects(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.path.path().join("chain/1")).unwrap();
        found.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Layer for Folder {
    fn backend(&self) -> &dyn DaBackend {
        &self.store
    }

    fn sources(&self) -> DaSources {
        DaSources { store: Some(self.store.clone()), ..DaSources::default() }
    }

    fn breaks(&self, fault: Option<Fault>) -> bool {
        for (path, data) in self.whole.lock().drain(..) {
            fs::write(path, data).unwrap();
        }
        if let Some(Fault::Status(_)) = fault {
            return false;
        }
        for path in self.objects().into_iter().filter(|_| fault.is_some()) {
            let data = fs::read(&path).unwrap();
            match fault {
                Some(Fault::Lies) => fs::write(&path, b"something else").unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
            self.whole.lock().push((path, data));
        }
        true
    }

    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
        invalid_keys(good)
    }
}

#[tokio::test]
async fn a_local_folder_conforms() {
    let path = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(path.path()).unwrap();
    let config = ObjectStoreConfig { url, prefix: "chain/1".to_owned() };
    let store = ObjectStoreBackend::open(&config).unwrap();
    conforms(&Folder { store, path, whole: Mutex::default() }).await;
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod clouds {
    use super::{
        super::store_server::{Cloud, StoreServer},
        *,
    };

    impl Cloud {
        /// How an operator would set it up to be at `url`, with credentials of this name.
        fn settings(self, url: &Url, name: &str) -> Vec<(String, String)> {
            let url = url.as_str().trim_end_matches('/');
            let settings: &[(&str, &str)] = match self {
                Self::S3 => &[
                    ("aws_endpoint_url", url),
                    ("aws_access_key_id", name),
                    ("aws_secret_access_key", "secret"),
                    ("aws_allow_http", "true"),
                ],
                Self::Google => &[
                    ("google_base_url", url),
                    ("google_bearer_token", name),
                    ("google_allow_http", "true"),
                ],
                Self::Azure => &[
                    ("azure_storage_endpoint", url),
                    ("azure_storage_account_name", name),
                    ("azure_storage_account_key", "c2VjcmV0"),
                    ("azure_allow_http", "true"),
                ],
            };
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            settings.iter().map(owned).collect()
        }

        fn open(self, server: &Url, name: &str, bucket: &str) -> ObjectStoreBackend {
            let scheme = match self {
                Self::S3 => "s3",
                Self::Google => "gs",
                Self::Azure => "az",
            };
            let url = format!("{scheme}://{bucket}/below/it").parse().unwrap();
            let config = ObjectStoreConfig { url, prefix: "chain/1".to_owned() };
            ObjectStoreBackend::open_with(&config, self.settings(server, name)).unwrap()
        }
    }

    struct Bucket {
        cloud: Cloud,
        server: StoreServer,
        store: ObjectStoreBackend,
    }

    impl Layer for Bucket {
        fn backend(&self) -> &dyn DaBackend {
            &self.store
        }

        fn sources(&self) -> DaSources {
            DaSources { store: Some(self.store.clone()), ..DaSources::default() }
        }

        fn breaks(&self, fault: Option<Fault>) -> bool {
            self.server.set_fault(fault);
            true
        }

        fn takes_batches(&self) -> bool {
            true
        }

        fn nowhere(&self) -> Option<Box<dyn DaBackend>> {
            let nowhere = "http://127.0.0.1:9".parse().unwrap();
            Some(Box::new(self.cloud.open(&nowhere, StoreServer::NAME, StoreServer::BUCKET)))
        }

        fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
            invalid_keys(good)
        }
    }

    async fn bucket_conforms(cloud: Cloud) {
        let server = StoreServer::start(cloud).await.unwrap();
        let store = cloud.open(&server.url(), StoreServer::NAME, StoreServer::BUCKET);
        let bucket = Bucket { cloud, server, store };
        conforms(&bucket).await;
        assert!(bucket.server.keys().iter().all(|key| key.starts_with("below/it/chain/1/")));

        let submit = async |name, bucket_name| {
            let store = cloud.open(&bucket.server.url(), name, bucket_name);
            store.submit(request(noise(10, 1))).await.unwrap_err()
        };
        let error = submit("somebody", StoreServer::BUCKET).await;
        assert!(matches!(error, BackendError::UseNext(_)), "{error}");
        let error = submit(StoreServer::NAME, "another").await;
        assert!(matches!(error, BackendError::Fatal(_)), "{error}");
    }

    #[cfg(feature = "aws")]
    #[tokio::test]
    async fn s3_conforms() {
        bucket_conforms(Cloud::S3).await;
    }

    #[cfg(feature = "azure")]
    #[tokio::test]
    async fn azure_conforms() {
        bucket_conforms(Cloud::Azure).await;
    }

    #[cfg(feature = "gcp")]
    #[tokio::test]
    async fn google_cloud_storage_conforms() {
        bucket_conforms(Cloud::Google).await;
    }
}
