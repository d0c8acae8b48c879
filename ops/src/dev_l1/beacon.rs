//! The path of the beacon API that serves blobs: `GET /eth/v1/beacon/blobs/{block_id}`.
//!
//! The dev L1 has a block in every slot, so a slot is a block number. It has no `/eth/v1/config/spec`, which tells clients so.

use std::{net::SocketAddr, sync::Arc};

use alloy::{consensus::Transaction, primitives::B256};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use eyre::{Result, WrapErr};
use millrace_proto::{BlockSelector, ErrorChain, Executor};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::blobs::BlobStore;

/// Serves blobs.
#[derive(Debug)]
pub(super) struct BeaconServer {
    listener: TcpListener,
    state: Beacon,
}

#[derive(Debug, Clone)]
struct Beacon {
    executor: Arc<dyn Executor>,
    blobs: Arc<BlobStore>,
}

impl BeaconServer {
    /// Binds the port.
    pub(super) async fn bind(
        listen: SocketAddr,
        executor: Arc<dyn Executor>,
        blobs: Arc<BlobStore>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .wrap_err_with(|| format!("cannot listen on {listen} for the beacon API"))?;
        Ok(Self { listener, state: Beacon { executor, blobs } })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let router = Router::new()
            .route("/eth/v1/beacon/blobs/{block_id}", get(blobs))
            .with_state(self.state);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(cancel.cancelled_owned())
            .await
            .wrap_err("beacon API failed")
    }
}

async fn blobs(
    State(beacon): State<Beacon>,
    Path(block_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let at = match block_id.as_str() {
        "head" => BlockSelector::Latest,
        "genesis" => BlockSelector::Number(0),
        id => match (id.parse(), id.parse()) {
            (Ok(number), _) => BlockSelector::Number(number),
            (_, Ok(hash)) => BlockSelector::Hash(hash),
            _ => return failure(StatusCode::BAD_REQUEST, format!("invalid block id {id:?}")),
        },
    };
    let wanted = match wanted_hashes(query.as_deref().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(problem) => return failure(StatusCode::BAD_REQUEST, problem),
    };
    let block = match beacon.executor.block(at).await {
        Ok(Some(block)) => block,
        Ok(None) => return failure(StatusCode::NOT_FOUND, format!("no block {block_id}")),
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut data = Vec::new();
    for hash in
        block.transactions.iter().flat_map(|tx| tx.tx().blob_versioned_hashes().unwrap_or_default())
    {
        if !wanted.is_empty() && !wanted.contains(hash) {
            continue;
        }
        match beacon.blobs.get(*hash) {
            Ok(Some(blob)) => data.push(blob),
            Ok(None) => {
                return failure(StatusCode::NOT_FOUND, format!("blob {hash} is not stored"));
            }
            Err(error) => {
                let problem = ErrorChain::new(&*error).to_string();
                return failure(StatusCode::INTERNAL_SERVER_ERROR, problem);
            }
        }
    }
    Json(json!({ "execution_optimistic": false, "finalized": false, "data": data })).into_response()
}

/// The `versioned_hashes` of a query string: repeated, comma-separated, or both.
fn wanted_hashes(query: &str) -> Result<Vec<B256>, String> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("versioned_hashes="))
        .flat_map(|list| list.split([',']).flat_map(|part| part.split("%2C")))
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| format!("invalid versioned hash {part:?}")))
        .collect()
}

fn failure(code: StatusCode, message: String) -> Response {
    (code, Json(json!({ "code": code.as_u16(), "message": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_however_they_are_listed() {
        let (a, b) = (B256::repeat_byte(1), B256::repeat_byte(2));
        for query in [
            format!("versioned_hashes={a}&versioned_hashes={b}"),
            format!("versioned_hashes={a},{b}"),
            format!("x=1&versioned_hashes={a}%2C{b}"),
        ] {
            assert_eq!(wanted_hashes(&query).unwrap(), [a, b], "{query}");
        }
        assert!(wanted_hashes("versioned_hashes=0x12").is_err());
        assert!(wanted_hashes("").unwrap().is_empty());
    }
}
