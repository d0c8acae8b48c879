//! The clouds' object stores: which client, with which settings, and how patient it is.

use std::{ffi::OsString, sync::Arc};

use object_store::{Error as StoreError, ObjectStore, ObjectStoreScheme, path::Path};
use url::Url;

/// What the names of the environment's variables that are for a store begin with, in lower case.
const FOR_STORES: [&str; 3] = ["aws_", "azure_", "google_"];

/// The environment's settings, named in lower case as the clients have them. Names of the clients' own without the cloud's (`TOKEN`, `ENDPOINT`) may
/// be anybody's, and are not taken.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
    };
    let for_stores =
        |(name, _): &(String, String)| FOR_STORES.iter().any(|prefix| name.starts_with(prefix));
    std::env::vars_os().filter_map(text).filter(for_stores)
}

/// Builds a client; settings that are not its own are another's.
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
macro_rules! client {
    ($builder:ty, $url:expr, $settings:expr) => {{
        let mut builder = <$builder>::new().with_url($url.as_str()).with_retry(retries());
        for (name, value) in $settings {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        Arc::new(builder.build()?) as Arc<dyn ObjectStore>
    }};
}

/// How often a client tries again by itself: whoever uses it does so too, and has other backends to turn to.
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 2,
        retry_timeout: std::time::Duration::from_secs(30),
        ..object_store::RetryConfig::default()
    }
}

/// A client of the store that a URL names, and where in it the URL points.
pub(super) fn open(
    url: &Url,
    settings: impl IntoIterator<Item = (String, String)>,
) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
    let (scheme, root) = ObjectStoreScheme::parse(url)?;
    #[cfg(feature = "aws")]
    if scheme == ObjectStoreScheme::AmazonS3 {
        return Ok((client!(object_store::aws::AmazonS3Builder, url, settings), root));
    }
    #[cfg(feature = "azure")]
    if scheme == ObjectStoreScheme::MicrosoftAzure {
        return Ok((client!(object_store::azure::MicrosoftAzureBuilder, url, settings), root));
    }
    #[cfg(feature = "gcp")]
    if scheme == ObjectStoreScheme::GoogleCloudStorage {
        return Ok((client!(object_store::gcp::GoogleCloudStorageBuilder, url, settings), root));
    }
    drop((root, settings));
    let problem = format!("this build has no client for {scheme:?}");
    Err(StoreError::NotSupported { source: problem.into() })
}

/// The HTTP status of an answer that is an error, which the clients only have in words.
pub(crate) fn status(error: &StoreError) -> Option<u16> {
    let text = error.to_string();
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}
