//! A server of the alt-DA interface for tests: in memory, and as unreliable as it is told to be.

use std::{collections::HashMap, io, sync::Arc};

use alloy::primitives::{Bytes, hex, keccak256};
use axum::{
    Router,
    body::Bytes as Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use url::Url;

use crate::served::{Served, failure};

/// The byte that names this server's DA layer in generic commitments.
const LAYER: u8 = 0x7e;

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AltDaFault {
    /// Answers everything with this status.
    Status(u16),
    /// Takes everything, and has nothing.
    Forgets,
    /// Gives back something else.
    Lies,
}

#[derive(Debug, Default)]
struct Store {
    batches: Mutex<HashMap<Vec<u8>, Body>>,
    fault: Mutex<Option<AltDaFault>>,
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct AltDaServer {
    store: Arc<Store>,
    served: Served,
}

impl AltDaServer {
    /// Starts a server on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        let store = Arc::new(Store::default());
        let router = Router::new()
            .route("/put", post(put_generic))
            .route("/put/{commitment}", post(put_keccak))
            .route("/get/{commitment}", get(get_batch))
            .with_state(store.clone());
        Ok(Self { store, served: Served::start(router).await? })
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        self.served.url()
    }

    /// From now on, does this wrong; `None` for nothing.
    pub fn set_fault(&self, fault: Option<AltDaFault>) {
        *self.store.fault.lock() = fault;
    }

    /// How many batches it has.
    pub fn len(&self) -> usize {
        self.store.batches.lock().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Store {
    fn put(&self, commitment: Vec<u8>, batch: Body) -> Option<Response> {
        match *self.fault.lock() {
            Some(AltDaFault::Status(status)) => return Some(failure(status)),
            Some(AltDaFault::Forgets) => {}
            _ => drop(self.batches.lock().insert(commitment, batch)),
        }
        None
    }
}

async fn put_generic(State(store): State<Arc<Store>>, batch: Body) -> Response {
    // Another one for each put, as where a DA layer's block is part of it.
    let count = store.batches.lock().len() as u8;
    let answer = [&[LAYER, count], &keccak256(&batch)[..16]].concat();
    let commitment = [&[1], answer.as_slice()].concat();
    store.put(commitment, batch).unwrap_or_else(|| answer.into_response())
}

async fn put_keccak(
    State(store): State<Arc<Store>>,
    Path(commitment): Path<Bytes>,
    batch: Body,
) -> Response {
    if commitment.first() != Some(&0) || commitment[1..] != keccak256(&batch)[..] {
        return (StatusCode::BAD_REQUEST, "not its commitment").into_response();
    }
    store.put(commitment.to_vec(), batch).unwrap_or_else(|| StatusCode::OK.into_response())
}

async fn get_batch(State(store): State<Arc<Store>>, Path(commitment): Path<String>) -> Response {
    let fault = *store.fault.lock();
    if let Some(AltDaFault::Status(status)) = fault {
        return failure(status);
    }
    let Ok(commitment) = hex::decode(&commitment) else {
        return (StatusCode::BAD_REQUEST, "not a commitment").into_response();
    };
    match store.batches.lock().get(&commitment) {
        _ if fault == Some(AltDaFault::Forgets) => StatusCode::NOT_FOUND.into_response(),
        Some(_) if fault == Some(AltDaFault::Lies) => "something else".into_response(),
        Some(batch) => batch.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
