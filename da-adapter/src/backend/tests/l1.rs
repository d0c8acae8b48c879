//! What the posting transaction carries: blobs, with a beacon node to read them from, and calldata.

use std::{sync::Arc, time::Duration};

use alloy::eips::eip4844::BYTES_PER_BLOB;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use millrace_l1::{BeaconClient, blob_versioned_hash};
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::served::{Served, failure};

/// A beacon node with the blobs of the last batch, asked for by block number.
struct Beacon {
    backend: L1BlobBackend,
    client: BeaconClient,
    state: Arc<Mutex<Chain>>,
    _served: Served,
}

#[derive(Default)]
struct Chain {
    blobs: Vec<Bytes>,
    fault: Option<Fault>,
}

impl Beacon {
    async fn start() -> Self {
        let state = Arc::new(Mutex::new(Chain::default()));
        let router = Router::new()
            .route("/eth/v1/beacon/blobs/{block}", get(blobs))
            .with_state(state.clone());
        let served = Served::start(router).await.unwrap();
        let client = BeaconClient::new(served.url(), Duration::from_secs(10), 0).unwrap();
        let backend = L1BlobBackend::new(Some(client.clone()));
        Self { backend, client, state, _served: served }
    }
}

async fn blobs(State(state): State<Arc<Mutex<Chain>>>) -> Response {
    let state = state.lock();
    let mut blobs = state.blobs.clone();
    match state.fault {
        Some(Fault::Status(status)) => return failure(status),
        Some(Fault::Forgets) => return StatusCode::NOT_FOUND.into_response(),
        Some(Fault::Lies) => blobs.fill(vec![0; BYTES_PER_BLOB].into()),
        None => {}
    }
    Json(json!({ "data": blobs })).into_response()
}

#[async_trait]
impl Layer for Beacon {
    fn backend(&self) -> &dyn DaBackend {
        &self.backend
    }

    fn sources(&self) -> DaSources {
        DaSources { beacon: Some(self.client.clone()), ..DaSources::default() }
    }

    async fn post(&self, digest: B256, prepared: Prepared) -> PostedBatch {
        let hash = |blob| blob_versioned_hash(blob).unwrap();
        let blob_hashes = prepared.blobs.iter().map(hash).collect();
        self.state.lock().blobs = prepared.blobs.iter().map(|blob| blob.to_vec().into()).collect();
        PostedBatch { blob_hashes, ..posted(DaKind::L1Blob, digest, prepared.da_pointer) }
    }

    fn breaks(&self, fault: Option<Fault>) -> bool {
        self.state.lock().fault = fault;
        true
    }

    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
        // No blobs hold no batch.
        let none = PostedBatch { blob_hashes: Vec::new(), ..good.clone() };
        vec![of_other_bytes(good), none]
    }
}

struct Calldata;

impl Layer for Calldata {
    fn backend(&self) -> &dyn DaBackend {
        &L1CalldataBackend
    }

    fn sources(&self) -> DaSources {
        DaSources::default()
    }

    fn breaks(&self, _: Option<Fault>) -> bool {
        false
    }

    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch> {
        vec![of_other_bytes(good), pointing_to(good, &b"other"[..]), pointing_to(good, &b""[..])]
    }
}

#[tokio::test]
async fn blobs_conform() {
    conforms(&Beacon::start().await).await;
}

#[tokio::test]
async fn calldata_conforms() {
    conforms(&Calldata).await;
}
