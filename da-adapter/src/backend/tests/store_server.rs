//! What S3, Azure's blob storage and Google Cloud Storage have in common, for tests: objects by bucket and key over HTTP, in memory, as unreliable as it is told to be.
//!
//! Of the signature, it looks at whose it is; what is behind it is the clients' own business.

use std::{collections::BTreeMap, io, sync::Arc};

use alloy::primitives::{hex, keccak256};
use axum::{
    Router,
    body::Bytes as Body,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, ETAG, LAST_MODIFIED},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use url::Url;

use super::Fault;
use crate::served::{Served, failure};

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each is for one of the cargo features")]
pub(super) enum Cloud {
    S3,
    Azure,
    Google,
}

#[derive(Debug)]
struct Store {
    cloud: Cloud,
    objects: Mutex<BTreeMap<String, Body>>,
    fault: Mutex<Option<Fault>>,
}

/// A running server with one bucket. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct StoreServer {
    store: Arc<Store>,
    served: Served,
}

impl StoreServer {
    /// Who may use it: the access key's id, the token, the account.
    pub(super) const NAME: &'static str = "millrace";
    /// The bucket that there is.
    pub(super) const BUCKET: &'static str = "batches";

    pub(super) async fn start(cloud: Cloud) -> io::Result<Self> {
        let store = Arc::new(Store { cloud, objects: Mutex::default(), fault: Mutex::default() });
        let router = Router::new()
            .route("/{bucket}/{*key}", get(get_object).put(put_object))
            .with_state(store.clone());
        Ok(Self { store, served: Served::start(router).await? })
    }

    pub(super) fn url(&self) -> Url {
        self.served.url()
    }

    /// From now on, does this wrong; `None` for nothing.
    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        *self.store.fault.lock() = fault;
    }

    /// The keys of what it has.
    pub(super) fn keys(&self) -> Vec<String> {
        self.store.objects.lock().keys().cloned().collect()
    }
}

impl Store {
    /// The fault that is left, where a call is answered at all.
    fn admit(&self, bucket: &str, headers: &HeaderMap) -> Result<Option<Fault>, Response> {
        let fault = *self.fault.lock();
        if let Some(Fault::Status(status)) = fault {
            return Err(failure(status));
        }
        let name = StoreServer::NAME;
        let wanted = match self.cloud {
            Cloud::S3 => format!("AWS4-HMAC-SHA256 Credential={name}/"),
            Cloud::Azure => format!("SharedKey {name}:"),
            Cloud::Google => format!("Bearer {name}"),
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given {
            None => Err(StatusCode::UNAUTHORIZED.into_response()),
            Some(given) if !given.starts_with(&wanted) => {
                Err(StatusCode::FORBIDDEN.into_response())
            }
            _ if bucket != StoreServer::BUCKET => Err(StatusCode::NOT_FOUND.into_response()),
            _ => Ok(fault),
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>,
/// <https://learn.microsoft.com/rest/api/storageservices/put-blob>,
/// <https://cloud.google.com/storage/docs/xml-api/put-object>
async fn put_object(
    State(store): State<Arc<Store>>,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
    data: Body,
) -> Response {
    let fault = match store.admit(&bucket, &headers) {
        Ok(fault) => fault,
        Err(refusal) => return refusal,
    };
    let is_blob = headers.get("x-ms-blob-type").is_some_and(|kind| kind == "BlockBlob");
    if store.cloud == Cloud::Azure && !is_blob {
        return (StatusCode::BAD_REQUEST, "not a block blob").into_response();
    }
    let tag = tag(&data);
    if fault != Some(Fault::Forgets) {
        store.objects.lock().insert(key, data);
    }
    let status = if store.cloud == Cloud::Azure { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(ETAG, tag)]).into_response()
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>,
/// <https://learn.microsoft.com/rest/api/storageservices/get-blob>,
/// <https://cloud.google.com/storage/docs/xml-api/get-object>
async fn get_object(
    State(store): State<Arc<Store>>,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let fault = match store.admit(&bucket, &headers) {
        Ok(fault) => fault,
        Err(refusal) => return refusal,
    };
    let found = store.objects.lock().get(&key).cloned();
    match found.filter(|_| fault != Some(Fault::Forgets)) {
        Some(data) => {
            let lie = Body::from_static(b"something else");
            let data = if fault == Some(Fault::Lies) { lie } else { data };
            let modified = "Thu, 01 Jan 2026 00:00:00 GMT".to_owned();
            ([(ETAG, tag(&data)), (LAST_MODIFIED, modified)], data).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn tag(data: &Body) -> String {
    format!("\"{}\"", hex::encode(&keccak256(data)[..16]))
}
