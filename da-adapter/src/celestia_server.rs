//! A Celestia node for tests: `blob.Submit` and `blob.Get` of its JSON-RPC, in memory, with real commitments, and as unreliable as it is told to be.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::post,
};
use celestia_types::{Blob, Commitment, nmt::Namespace};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use crate::served::{Served, failure};

/// What a node does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CelestiaFault {
    /// Answers everything with this HTTP status.
    Status(u16),
    /// Answers everything with an error of this text.
    Says(&'static str),
    /// Takes everything, and has nothing.
    Forgets,
    /// Gives back something else.
    Lies,
    /// Takes everything, and says that it is in a block that cannot be.
    NoHeight,
}

#[derive(Debug)]
struct Store {
    /// The token that every call has to have, if any.
    token: Option<String>,
    /// What each call of `blob.Submit` brought; the first is in block 1.
    blocks: Mutex<Vec<Vec<Blob>>>,
    /// What the last call asked of its transaction.
    options: Mutex<Value>,
    fault: Mutex<Option<CelestiaFault>>,
}

/// A running node. It ends when this is dropped.
#[derive(Debug)]
pub struct CelestiaServer {
    store: Arc<Store>,
    served: Served,
}

impl CelestiaServer {
    /// Starts a node on a free port of this machine. Without a token, it asks for none, as with `--rpc.skip-auth`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(token: Option<&str>) -> io::Result<Self> {
        let store = Arc::new(Store {
            token: token.map(str::to_owned),
            blocks: Mutex::default(),
            options: Mutex::default(),
            fault: Mutex::default(),
        });
        let router = Router::new().route("/", post(call)).with_state(store.clone());
        Ok(Self { store, served: Served::start(router).await? })
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        self.served.url()
    }

    /// From now on, does this wrong; `None` for nothing.
    pub fn set_fault(&self, fault: Option<CelestiaFault>) {
        *self.store.fault.lock() = fault;
    }

    /// What the last `blob.Submit` asked of its transaction: gas price and so on, as JSON.
    pub fn options(&self) -> Value {
        self.store.options.lock().clone()
    }

    /// How many blocks it has: one for each time that something was put.
    pub fn height(&self) -> usize {
        self.store.blocks.lock().len()
    }
}

impl Store {
    fn submit(&self, params: Value) -> Result<Value, String> {
        let (blobs, options): (Vec<Blob>, Value) = parse(params)?;
        for blob in &blobs {
            blob.validate().map_err(|error| error.to_string())?;
        }
        *self.options.lock() = options;
        let fault = *self.fault.lock();
        let kept = if fault == Some(CelestiaFault::Forgets) { Vec::new() } else { blobs };
        let mut blocks = self.blocks.lock();
        blocks.push(kept);
        Ok(if fault == Some(CelestiaFault::NoHeight) { 0.into() } else { blocks.len().into() })
    }

    fn get(&self, params: Value) -> Result<Value, String> {
        let (height, namespace, commitment): (usize, Namespace, Commitment) = parse(params)?;
        let fault = *self.fault.lock();
        if fault == Some(CelestiaFault::Forgets) {
            return Err("blob: not found".to_owned());
        }
        let blocks = self.blocks.lock();
        let block = height.checked_sub(1).and_then(|at| blocks.get(at));
        let block = block.ok_or("header: given height is from the future")?;
        let mut found =
            block.iter().filter(|it| it.namespace == namespace && it.commitment == commitment);
        let mut blob = found.next().cloned().ok_or("blob: not found")?;
        if fault == Some(CelestiaFault::Lies) {
            blob.data = b"something else".to_vec();
        }
        serde_json::to_value(blob).map_err(|error| error.to_string())
    }
}

fn parse<T: serde::de::DeserializeOwned>(params: Value) -> Result<T, String> {
    serde_json::from_value(params).map_err(|error| error.to_string())
}

/// One call, answered as celestia-node's JSON-RPC library does: every error of a method has the code 1.
async fn call(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    Json(mut request): Json<Value>,
) -> Response {
    let fault = *store.fault.lock();
    if let Some(CelestiaFault::Status(status)) = fault {
        return failure(status);
    }
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let wanted = store.token.as_ref().map(|token| format!("Bearer {token}"));
    if given.is_some() && wanted.is_some() && given != wanted.as_ref().map(String::as_bytes) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let params = request.get_mut("params").map(Value::take).unwrap_or_default();
    let answer = match (fault, request["method"].as_str()) {
        (Some(CelestiaFault::Says(text)), _) => Err(text.to_owned()),
        (_, Some(method)) if given.is_none() && wanted.is_some() => {
            Err(format!("missing permission to invoke '{method}'"))
        }
        (_, Some("blob.Submit")) => store.submit(params),
        (_, Some("blob.Get")) => store.get(params),
        _ => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let (name, value) = match answer {
        Ok(result) => ("result", result),
        Err(message) => ("error", json!({ "code": 1, "message": message })),
    };
    Json(json!({ "jsonrpc": "2.0", "id": request["id"], name: value })).into_response()
}
