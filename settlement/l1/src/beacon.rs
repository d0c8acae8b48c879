//! Reading blobs back through the beacon API.

mod error;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, slice, sync::Arc, time::Duration};

use alloy::{
    eips::eip4844::{AsCkzg, Blob, env_settings::EnvKzgSettings, kzg_to_versioned_hash},
    primitives::{B256, Bytes},
};
use backon::{ExponentialBuilder, Retryable};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::OnceCell;
use tracing::debug;
use url::Url;

pub use self::error::BeaconError;
use crate::{blocking, config};

/// The most bytes that a reply may have: more blobs than a block will hold for years, in hexadecimal.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The L1 block whose blobs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobBlock {
    /// Its number.
    pub number: u64,
    /// Its timestamp, Unix seconds.
    pub timestamp: u64,
}

/// A client of a beacon node's blob endpoint. Clones share the connection pool.
///
/// Consensus nodes know blocks by slot; development L1s that have no consensus layer serve the same path by block number.
/// Who has no `/eth/v1/config/spec` is asked by number; but only when that has brought the right blobs is it settled, as a node that
/// starts, or what stands before it, may say for a while that it knows no such path.
#[derive(Clone)]
pub struct BeaconClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    url: Url,
    retries: usize,
    /// Once it is settled: how slots follow from time; `None` if the endpoint knows blocks by number.
    clock: OnceCell<Option<SlotClock>>,
}

/// How slots follow from time.
#[derive(Debug, Clone, Copy)]
struct SlotClock {
    genesis_time: u64,
    seconds_per_slot: u64,
}

impl fmt::Debug for BeaconClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeaconClient")
            .field("host", &self.inner.url.host_str())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Reply<T> {
    data: T,
}

#[derive(Deserialize)]
struct Genesis {
    genesis_time: String,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "SECONDS_PER_SLOT")]
    seconds_per_slot: String,
}

impl BeaconClient {
    /// A client for the API under this URL. Asks nothing yet.
    pub fn new(url: Url, request_timeout: Duration, retries: usize) -> Result<Self, BeaconError> {
        config::check_scheme(&url).map_err(BeaconError::Endpoint)?;
        let http = reqwest::Client::builder()
            .timeout(request_timeout)
            .build()
            .map_err(|error| BeaconError::Endpoint(error.to_string()))?;
        Ok(Self { inner: Arc::new(Inner { http, url, retries, clock: OnceCell::new() }) })
    }

    /// The blobs with these versioned hashes, in this order, each checked: its KZG commitment was computed again and
    /// hashes to the versioned hash.
    pub async fn blobs(&self, block: BlobBlock, hashes: &[B256]) -> Result<Vec<Blob>, BeaconError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let clock = self.clock().await?;
        let id = clock.map_or(block.number, |clock| clock.slot_at(block.timestamp));
        let wanted: Vec<String> = hashes.iter().map(B256::to_string).collect();
        let path = format!("eth/v1/beacon/blobs/{id}");
        let query = [("versioned_hashes", wanted.join(","))];
        let reply: Option<Reply<Vec<Bytes>>> = self.get(&path, &query).await?;
        let Some(reply) = reply else {
            return Err(BeaconError::BlobMissing { hash: hashes[0], block: block.number });
        };

        let hashes = hashes.to_vec();
        // A commitment costs some 40 ms of CPU.
        let blobs = blocking(move || check(&reply.data, &hashes, block.number, &path)).await?;
        // Only the first one settles it.
        let _ = self.inner.clock.set(clock);
        Ok(blobs)
    }

    /// The slot clock; `None` if the endpoint knows blocks by number, as far as it can be told now.
    async fn clock(&self) -> Result<Option<SlotClock>, BeaconError> {
        if let Some(settled) = self.inner.clock.get() {
            return Ok(*settled);
        }
        let spec: Option<Reply<Spec>> = self.get("eth/v1/config/spec", &[]).await?;
        let Some(spec) = spec else {
            debug!(target: "millrace::l1", "the beacon API has no slots; asking by block number");
            return Ok(None);
        };
        let path = "eth/v1/beacon/genesis";
        let genesis: Option<Reply<Genesis>> = self.get(path, &[]).await?;
        let malformed = |problem: &str| BeaconError::Malformed {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let genesis = genesis.ok_or_else(|| malformed("there is none"))?;
        let genesis_time =
            genesis.data.genesis_time.parse().map_err(|_| malformed("genesis_time"))?;
        let seconds_per_slot =
            spec.data.seconds_per_slot.parse().map_err(|_| malformed("SECONDS_PER_SLOT"))?;
        if seconds_per_slot == 0 {
            return Err(malformed("SECONDS_PER_SLOT is 0"));
        }
        let clock = Some(SlotClock { genesis_time, seconds_per_slot });
        // Another call may have been first, with the same answer.
        let _ = self.inner.clock.set(clock);
        Ok(clock)
    }

    /// A reply's JSON; `None` for 404.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Option<T>, BeaconError> {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .with_max_times(self.inner.retries);
        let body = (|| self.fetch(path, query))
            .retry(backoff)
            .when(BeaconError::is_transient)
            .notify(|error, pause| {
                debug!(target: "millrace::l1", %error, ?pause, "beacon request failed; trying again");
            })
            .await?;
        let Some(body) = body else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|error| BeaconError::Malformed {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }

    async fn fetch(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Option<Vec<u8>>, BeaconError> {
        let mut url = self.inner.url.clone();
        url.path_segments_mut()
            .map_err(|()| BeaconError::Endpoint("not a base URL".to_owned()))?
            .pop_if_empty()
            .extend(path.split('/'));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let transport = |source: reqwest::Error| BeaconError::Transport {
            path: path.to_owned(),
            source: source.without_url(),
        };
        let mut response = self.inner.http.get(url).send().await.map_err(transport)?;
        let status = response.status();
        if status.as_u16() == 404 {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_REPLY {
                return Err(BeaconError::Malformed {
                    path: path.to_owned(),
                    problem: format!("more than {MAX_REPLY} bytes"),
                });
            }
        }
        if !status.is_success() {
            return Err(BeaconError::Status {
                path: path.to_owned(),
                status: status.as_u16(),
                body: String::from_utf8_lossy(&body).chars().take(200).collect(),
            });
        }
        Ok(Some(body))
    }
}

impl SlotClock {
    const fn slot_at(&self, timestamp: u64) -> u64 {
        timestamp.saturating_sub(self.genesis_time) / self.seconds_per_slot
    }
}

/// A blob's versioned hash (EIP-4844). Takes some 40 milliseconds.
///
/// # Errors
/// What is wrong with bytes that are no blob.
pub fn blob_versioned_hash(blob: &Blob) -> Result<B256, String> {
    let commitment = EnvKzgSettings::Default
        .get()
        .blob_to_kzg_commitment(blob.as_ckzg())
        .map_err(|error| format!("a blob that is none: {error:?}"))?;
    Ok(kzg_to_versioned_hash(commitment.to_bytes().as_slice()))
}

/// Picks the wanted blobs out of those that came, by the hash that each one really has.
fn check(
    came: &[Bytes],
    hashes: &[B256],
    block: u64,
    path: &str,
) -> Result<Vec<Blob>, BeaconError> {
    let malformed = |problem: String| BeaconError::Malformed { path: path.to_owned(), problem };
    // References and copies into the vector alone: an unoptimised build has no room on its stack for blobs by value.
    let mut by_hash: HashMap<B256, &Blob> = HashMap::new();
    for bytes in came {
        let blob = <&Blob>::try_from(bytes.as_ref())
            .map_err(|_| malformed(format!("a blob of {} bytes", bytes.len())))?;
        by_hash.insert(blob_versioned_hash(blob).map_err(malformed)?, blob);
    }
    let mut found = Vec::with_capacity(hashes.len());
    for hash in hashes {
        match by_hash.get(hash) {
            Some(blob) => found.extend_from_slice(slice::from_ref(*blob)),
            None if came.len() < hashes.len() => {
                return Err(BeaconError::BlobMissing { hash: *hash, block });
            }
            None => return Err(BeaconError::Mismatch { hash: *hash, block }),
        }
    }
    Ok(found)
}
