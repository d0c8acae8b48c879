//! An alt-DA server: the OP Stack's HTTP interface, behind which are EigenDA, Celestia, Avail and others.
//!
//! <https://specs.optimism.io/experimental/alt-da.html>: `POST /put` stores a batch and answers with a generic commitment, `POST /put/0x…` stores it
//! under its Keccak-256 commitment, `GET /get/0x…` gives it back. A commitment's first byte is its kind: 0 for Keccak-256, 1 for generic ones.

use std::time::Duration;

use alloy::primitives::{B256, Bytes, U256, hex};
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use millrace_l1::Market;
use millrace_proto::{DaKind, DaReadError, PostedBatch};
use reqwest::{Client, Response, StatusCode, header::CONTENT_TYPE};
use url::Url;

use super::{
    Availability, BackendError, DaBackend, POST_GAS, Prepared, StoredBatch, StoredBatchBuilder,
    SubmitRequest, gas_cost, invalid, unavailable,
};
use crate::config::{AltDaCommitment, AltDaConfig};

/// First byte of a commitment that is the Keccak-256 hash of what was put.
const KECCAK: u8 = 0;
/// First byte of a commitment whose meaning is the server's own.
const GENERIC: u8 = 1;
/// Longest commitment, in bytes, that is posted: longer ones would cost more than they tell.
const MAX_COMMITMENT: usize = 1_024;

/// A client of such a server. Clones share its connections.
#[derive(Debug, Clone)]
pub struct AltDaBackend {
    client: Client,
    url: Url,
    commitment: AltDaCommitment,
    max_size: usize,
    wei_per_byte: u64,
}

/// Why an alt-DA server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AltDaError {
    /// The URL cannot have paths.
    #[error("{0} is not the URL of a server")]
    Url(Url),
    /// There is no client, or no answer.
    #[error("alt-DA server: {0}")]
    Http(#[from] reqwest::Error),
    /// It answers with an error.
    #[error("the alt-DA server answers {status}{}", .text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Status {
        /// The status.
        status: StatusCode,
        /// What it says.
        text: Option<String>,
    },
    /// It has no such batch.
    #[error("the alt-DA server does not have what {0} stands for")]
    NotFound(Bytes),
    /// What it answers cannot be a commitment, or a batch.
    #[error("the alt-DA server's answer of {size} bytes is over {limit}")]
    TooLong {
        /// At least so many bytes.
        size: usize,
        /// Allowed.
        limit: usize,
    },
    /// The answer to a put is empty.
    #[error("the alt-DA server's commitment is empty")]
    NoCommitment,
    /// It took something, and gives back something else.
    #[error("the alt-DA server gives back a batch with the digest {got} for one with {put}")]
    Other {
        /// What was put.
        put: B256,
        /// What came back.
        got: B256,
    },
}

impl AltDaBackend {
    /// A client of the server; asks it nothing yet.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn new(config: &AltDaConfig) -> Result<Self, AltDaError> {
        if config.url.cannot_be_a_base() {
            return Err(AltDaError::Url(config.url.clone()));
        }
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10).min(config.timeout))
            .timeout(config.timeout)
            .build()?;
        let (url, commitment) = (config.url.clone(), config.commitment);
        let (max_size, wei_per_byte) = (config.max_size, config.wei_per_byte);
        Ok(Self { client, url, commitment, max_size, wei_per_byte })
    }

    /// The batch that a commitment stands for, in memory bounded by the largest batch.
    async fn get(&self, commitment: &[u8]) -> Result<StoredBatch, AltDaError> {
        let response = self.client.get(self.endpoint("get", Some(commitment))).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(AltDaError::NotFound(Bytes::copy_from_slice(commitment)));
        }
        let mut response = success(response).await?;
        let mut batch = StoredBatchBuilder::default();
        while let Some(chunk) = response.chunk().await? {
            batch.push(&chunk);
        }
        Ok(batch.finish())
    }

    /// Stores a batch, and returns its commitment.
    async fn put(&self, request: &SubmitRequest) -> Result<Bytes, AltDaError> {
        let keccak = keccak_commitment(request.digest);
        let endpoint = match self.commitment {
            AltDaCommitment::Keccak => self.endpoint("put", Some(&keccak)),
            AltDaCommitment::Generic => self.endpoint("put", None),
        };
        let put = self.client.post(endpoint).header(CONTENT_TYPE, "application/octet-stream");
        let response = success(put.body(request.data.0.clone()).send().await?).await?;
        match self.commitment {
            AltDaCommitment::Keccak => Ok(keccak),
            AltDaCommitment::Generic => {
                let answer = body(response, MAX_COMMITMENT).await?;
                if answer.is_empty() {
                    return Err(AltDaError::NoCommitment);
                }
                Ok([&[GENERIC], answer.as_ref()].concat().into())
            }
        }
    }

    fn endpoint(&self, verb: &str, commitment: Option<&[u8]>) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(verb);
            if let Some(commitment) = commitment {
                path.push(&hex::encode_prefixed(commitment));
            }
        }
        url
    }
}

/// The commitment that was posted for a batch.
pub(super) fn commitment_of(batch: &PostedBatch) -> Result<&[u8], DaReadError> {
    if may_stand_for(&batch.da_pointer, batch.header.digest) {
        return Ok(&batch.da_pointer);
    }
    Err(invalid(batch, "its pointer is no commitment to a batch with its digest"))
}

/// Whether these bytes may stand for a batch with this digest: what everybody can tell without the server.
fn may_stand_for(commitment: &[u8], digest: B256) -> bool {
    match commitment.split_first() {
        Some((&KECCAK, hash)) => hash == digest.as_slice(),
        Some((&GENERIC, rest)) => !rest.is_empty() && commitment.len() <= MAX_COMMITMENT + 1,
        _ => false,
    }
}

/// A batch's digest is its Keccak-256 hash.
fn keccak_commitment(digest: B256) -> Bytes {
    [&[KECCAK], digest.as_slice()].concat().into()
}

async fn success(response: Response) -> Result<Response, AltDaError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = body(response, MAX_COMMITMENT).await.ok();
    let text = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Err(AltDaError::Status { status, text: text.filter(|text| !text.is_empty()) })
}

/// Reads an answer, in bounded memory.
async fn body(mut response: Response, limit: usize) -> Result<Bytes, AltDaError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let size = body.len() + chunk.len();
        if size > limit {
            return Err(AltDaError::TooLong { size, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

#[async_trait]
impl DaBackend for AltDaBackend {
    fn kind(&self) -> DaKind {
        DaKind::AltDa
    }

    fn max_size(&self) -> usize {
        self.max_size
    }

    fn l1_cost(&self, _: usize, market: &Market) -> U256 {
        gas_cost(POST_GAS, market)
    }

    fn layer_cost(&self, size: usize) -> U256 {
        U256::from(size).saturating_mul(U256::from(self.wei_per_byte))
    }

    fn place_of(&self, digest: B256) -> Option<Bytes> {
        (self.commitment == AltDaCommitment::Keccak).then(|| keccak_commitment(digest))
    }

    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        let max = self.max_size();
        let size = request.size_within(max)?;
        // The commitment to a batch that is there already is known beforehand only if it is its hash.
        if let Some(known) = self.place_of(request.digest)
            && let Ok(batch) = self.get(&known).await
            && batch.digest == request.digest
        {
            return Ok(Prepared { da_pointer: known, blobs: Vec::new() });
        }
        let commitment = self.put(&request).await.map_err(|error| classify(error, size, max))?;
        // What cannot be read back is not available, whatever the answer to the put was. A DA layer may need a moment for that.
        let patience =
            ExponentialBuilder::new().with_min_delay(Duration::from_millis(50)).with_max_times(5);
        let stored = (|| self.get(&commitment)).retry(patience).await;
        let got = stored.map_err(|error| BackendError::Retry(error.into()))?.digest;
        if got != request.digest {
            let error = AltDaError::Other { put: request.digest, got };
            return Err(classify(error, size, max));
        }
        Ok(Prepared { da_pointer: commitment, blobs: Vec::new() })
    }

    async fn status(&self, digest: B256, pointer: &[u8]) -> Result<Availability, BackendError> {
        match self.get(pointer).await {
            Ok(stored) => Ok(stored.availability(digest)),
            Err(AltDaError::NotFound(_)) => Ok(Availability::Missing),
            Err(error) => Err(BackendError::Retry(error.into())),
        }
    }

    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let commitment = commitment_of(batch)?;
        let stored = self.get(commitment).await.map_err(|error| unavailable(batch, error))?;
        stored.checked(batch)
    }
}

fn classify(error: AltDaError, size: usize, max: usize) -> BackendError {
    match &error {
        // How a server says that its DA layer is away, and the batch should go elsewhere.
        AltDaError::Status { status: StatusCode::SERVICE_UNAVAILABLE, .. } => {
            BackendError::UseNext(error.into())
        }
        AltDaError::Status { status, .. } => {
            let status = status.as_u16();
            BackendError::from_status(status, error.into(), size, max)
        }
        AltDaError::Http(_) => BackendError::Retry(error.into()),
        AltDaError::TooLong { .. } | AltDaError::NoCommitment | AltDaError::Other { .. } => {
            BackendError::UseNext(error.into())
        }
        AltDaError::Url(_) | AltDaError::NotFound(_) => BackendError::Fatal(error.into()),
    }
}
