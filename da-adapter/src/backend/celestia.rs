//! Celestia, through a node's JSON-RPC: a batch is a blob, found again by its height, its commitment and its namespace.
//!
//! <https://node-rpc-docs.celestia.org>: `blob.Submit` pays for a blob from the node's own account, and answers with the height of the block that holds
//! it, which is final at once; `blob.Get` gives it back. Of what the node gives back, the
//! [share commitment](https://celestiaorg.github.io/celestia-app/data_square_layout.html#blob-share-commitment-rules) is computed again, which stands for
//! one namespace and one row of bytes alone. That the block holds them is the node's word: whoever posts should run it.

use std::{fmt, fs, io, sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes, FixedBytes, U256};
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use celestia_rpc::{BlobClient, Client, TxConfig};
use celestia_types::{Blob, Commitment, nmt::Namespace};
use jsonrpsee::{core::ClientError, http_client::transport::Error as HttpError};
use millrace_l1::Market;
use millrace_proto::{DaKind, DaReadError, PostedBatch, batch_digest};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use url::Url;

use super::{
    Availability, BackendError, CelestiaPointer, DaBackend, POST_GAS, Prepared, SubmitRequest,
    as_posted, gas_cost, unavailable,
};
use crate::config::{CelestiaConfig, TokenSource};

/// What a node's answer says when the batch has to be smaller: celestia-app's `x/blob/types/errors.go`, `app/errors/errors.go`, and the mempool's.
const TOO_LARGE: [&str; 2] = ["too large", "exceeds maximum allowed limit"];

/// How often a batch that was paid for is looked for, each time for as long as the node may take, before it is put again.
const LOOKS: u32 = 3;

/// What it says when somebody has to mend something: the token, the account's balance, the gas price that is set.
const REFUSALS: [&str; 2] = ["missing permission", "insufficient"];

/// What it says when the block does not hold the blob: celestia-node's `blob/blob.go`.
const NOT_FOUND: &str = "blob: not found";

/// A client of a Celestia node. Clones share its connection.
#[derive(Clone)]
pub struct CelestiaBackend {
    client: Arc<OnceCell<Client>>,
    config: CelestiaConfig,
    token: Option<String>,
    /// What was paid for and is not found there yet.
    unseen: Arc<Mutex<Option<Unseen>>>,
}

/// A batch that was put and could not be read back.
#[derive(Debug, Clone, Copy)]
struct Unseen {
    digest: B256,
    pointer: CelestiaPointer,
    /// How often it was looked for.
    looks: u32,
}

impl fmt::Debug for CelestiaBackend {
    /// All but the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CelestiaBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a Celestia node did not do what it was asked, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CelestiaError {
    /// A URL of another kind.
    #[error("{0} is not the URL of a Celestia node: http, https, ws or wss")]
    Url(Url),
    /// Batches cannot be in this namespace.
    #[error("{0} is one of Celestia's own namespaces")]
    Namespace(FixedBytes<10>),
    /// The token cannot be read.
    #[error("the Celestia node's token in {place}: {source}")]
    Token {
        /// The variable, or the file.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no connection or no answer, or it is an error.
    #[error("Celestia node: {0}")]
    Rpc(#[from] celestia_rpc::Error),
    /// The batch makes no blob.
    #[error("Celestia blob: {0}")]
    Blob(#[from] Box<celestia_types::Error>),
    /// It took something, and answers with what is no height.
    #[error("the Celestia node says that the blob is in block {0}, which cannot be")]
    Height(u64),
    /// What it gives back is not what the commitment stands for.
    #[error("the Celestia node gives back another blob than the one with the commitment {0}")]
    Other(B256),
}

impl CelestiaBackend {
    /// A client of the node; connects when it is first needed.
    ///
    /// # Errors
    /// When the URL or the namespace cannot be used, or there is no token where it should be.
    pub fn new(config: &CelestiaConfig) -> Result<Self, CelestiaError> {
        if !matches!(config.url.scheme(), "http" | "https" | "ws" | "wss") {
            return Err(CelestiaError::Url(config.url.clone()));
        }
        if Namespace::const_v0(config.namespace.0).is_reserved() {
            return Err(CelestiaError::Namespace(config.namespace));
        }
        let token = config.token.as_ref().map(read_token).transpose()?;
        let (client, unseen) = (Arc::default(), Arc::default());
        Ok(Self { client, config: config.clone(), token, unseen })
    }

    /// The bytes that a pointer stands for, and no others.
    async fn get(&self, pointer: &CelestiaPointer) -> Result<Bytes, CelestiaError> {
        let namespace = Namespace::const_v0(pointer.namespace().0);
        let commitment = Commitment::new(pointer.commitment().0);
        let got = self.client().await?.blob_get(pointer.height(), namespace, commitment).await;
        let blob = got.map_err(celestia_rpc::Error::from)?;
        let (version, signer) = (blob.share_version, blob.signer.as_ref());
        match Commitment::from_blob(namespace, &blob.data, version, signer) {
            Ok(computed) if computed == commitment => Ok(blob.data.into()),
            _ => Err(CelestiaError::Other(pointer.commitment())),
        }
    }

    /// Pays for a batch, and waits for the block that holds it.
    async fn put(&self, data: &[u8]) -> Result<CelestiaPointer, CelestiaError> {
        let namespace = self.config.namespace;
        let blob = Blob::new(Namespace::const_v0(namespace.0), data.to_vec(), None);
        let blob = blob.map_err(Box::new)?;
        let commitment = B256::from(*blob.commitment.hash());
        let options = TxConfig { gas_price: self.config.gas_price, ..TxConfig::default() };
        let put = self.client().await?.blob_submit(&[blob], options).await;
        let height = put.map_err(celestia_rpc::Error::from)?;
        CelestiaPointer::new(height, commitment, namespace).ok_or(CelestiaError::Height(height))
    }

    async fn client(&self) -> Result<&Client, celestia_rpc::Error> {
        let timeout = self.config.timeout;
        let connecting = Some(timeout.min(Duration::from_secs(10)));
        let (url, token) = (self.config.url.as_str(), self.token.as_deref());
        self.client.get_or_try_init(|| Client::new(url, token, connecting, Some(timeout))).await
    }
}

fn read_token(source: &TokenSource) -> Result<String, CelestiaError> {
    let (place, token) = match source {
        TokenSource::Env(name) => {
            // Not the error itself: it may hold the value.
            let unset = |_| io::Error::from(io::ErrorKind::NotFound);
            (format!("${name}"), std::env::var(name).map_err(unset))
        }
        TokenSource::File(path) => (path.display().to_string(), fs::read_to_string(path)),
    };
    let usable = |token: String| {
        let token = token.trim();
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(token.to_owned()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no token")),
        }
    };
    token.and_then(usable).map_err(|source| CelestiaError::Token { place, source })
}

#[async_trait]
impl DaBackend for CelestiaBackend {
    fn kind(&self) -> DaKind {
        DaKind::Celestia
    }

    fn max_size(&self) -> usize {
        self.config.max_size
    }

    fn l1_cost(&self, _: usize, market: &Market) -> U256 {
        gas_cost(POST_GAS, market)
    }

    fn layer_cost(&self, size: usize) -> U256 {
        U256::from(size).saturating_mul(U256::from(self.config.wei_per_byte))
    }

    /// What was put before and is not noted is put again, and paid for again: which block has it is known from the node's answer alone. What was put and is not there yet is
    /// looked for a few times before that.
    async fn submit(&self, request: SubmitRequest) -> Result<Prepared, BackendError> {
        let max = self.max_size();
        let size = request.size_within(max)?;
        let unseen = self.unseen.lock().filter(|unseen| unseen.digest == request.digest);
        let (pointer, looks) = match unseen {
            Some(Unseen { pointer, looks, .. }) if looks < LOOKS => (pointer, looks + 1),
            _ => {
                let put = self.put(&request.data).await;
                (put.map_err(|error| classify(error, size, max))?, 1)
            }
        };
        *self.unseen.lock() = Some(Unseen { digest: request.digest, pointer, looks });
        // What cannot be read back is not available, whatever the answer to the put was. The node may see the block later than its account's transaction.
        let patience = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_total_delay(Some(self.config.timeout));
        let stored = (|| self.get(&pointer)).retry(patience);
        let stored = stored.when(|error| !matches!(error, CelestiaError::Other(_))).await;
        stored.map_err(|error| classify(error, size, max))?;
        *self.unseen.lock() = None;
        Ok(Prepared { da_pointer: pointer.encode(), blobs: Vec::new() })
    }

    async fn status(&self, digest: B256, pointer: &[u8]) -> Result<Availability, BackendError> {
        let Some(pointer) = CelestiaPointer::parse(pointer) else {
            return Ok(Availability::Missing);
        };
        match self.get(&pointer).await {
            Ok(data) if batch_digest(&data) == digest => Ok(Availability::Available),
            Ok(_) | Err(CelestiaError::Other(_)) => Ok(Availability::Missing),
            Err(error) if text(&error).contains(NOT_FOUND) => Ok(Availability::Missing),
            Err(error) => Err(BackendError::Retry(error.into())),
        }
    }

    async fn fetch(&self, batch: &PostedBatch) -> Result<Bytes, DaReadError> {
        let pointer = CelestiaPointer::of(batch)?;
        let data = self.get(&pointer).await.map_err(|error| match error {
            CelestiaError::Other(_) => {
                DaReadError::Mismatch { batch: batch.header.number, problem: error.to_string() }
            }
            other => unavailable(batch, other),
        })?;
        // The commitment stands for these bytes alone, so a wrong digest is the poster's fault.
        as_posted(batch, data)
    }
}

/// What a node's answer says that is an error; empty if there is none.
fn text(error: &CelestiaError) -> &str {
    match error {
        CelestiaError::Rpc(celestia_rpc::Error::JsonRpc(ClientError::Call(call))) => call.message(),
        _ => "",
    }
}

/// What is to be done after an error. Celestia nodes have one code for all errors: only the text tells them apart.
fn classify(error: CelestiaError, size: usize, max: usize) -> BackendError {
    let rpc = match &error {
        CelestiaError::Rpc(celestia_rpc::Error::JsonRpc(rpc)) => rpc,
        CelestiaError::Height(_) | CelestiaError::Other(_) => {
            return BackendError::UseNext(error.into());
        }
        _ => return BackendError::Fatal(error.into()),
    };
    if let Some(status) = status(rpc) {
        return BackendError::from_status(status, error.into(), size, max);
    }
    let says = |texts: [&str; 2]| texts.into_iter().any(|part| text(&error).contains(part));
    if says(TOO_LARGE) {
        BackendError::TooLarge { size, max: max.min(size.saturating_sub(1)) }
    } else if says(REFUSALS) {
        BackendError::UseNext(error.into())
    } else {
        BackendError::Retry(error.into())
    }
}

/// The HTTP status of an answer that is an error.
fn status(error: &ClientError) -> Option<u16> {
    let ClientError::Transport(cause) = error else { return None };
    match cause.downcast_ref::<HttpError>()? {
        HttpError::Rejected { status_code } => Some(*status_code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob of the tests of celestia-types, which came from a node.
    #[test]
    fn commitments_are_celestias() {
        let json = r#"{
            "namespace": "AAAAAAAAAAAAAAAAAAAAAAAAAAAADCBNOWAP3dM=",
            "data": "8fIMqAB+kQo7+LLmHaDya8oH73hxem6lQWX1",
            "share_version": 0,
            "commitment": "D6YGsPWdxR8ju2OcOspnkgPG2abD30pSHxsFdiPqnVk=",
            "index": -1
        }"#;
        let blob: Blob = serde_json::from_str(json).unwrap();
        let made = Blob::new(blob.namespace, blob.data.clone(), None).unwrap();
        assert_eq!(made, blob);
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_tokens_are_not_shown() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let config = CelestiaConfig::at(url("http://127.0.0.1:26658"));
        assert!(CelestiaBackend::new(&config).is_ok());
        let other = CelestiaConfig::at(url("ftp://127.0.0.1"));
        assert!(matches!(CelestiaBackend::new(&other), Err(CelestiaError::Url(_))));
        let reserved = CelestiaConfig { namespace: FixedBytes::ZERO, ..config.clone() };
        assert!(matches!(CelestiaBackend::new(&reserved), Err(CelestiaError::Namespace(_))));

        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret\n").unwrap();
        let token = Some(TokenSource::File(file.path().to_owned()));
        let config = CelestiaConfig { token, ..config };
        let backend = CelestiaBackend::new(&config).unwrap();
        assert_eq!(backend.token.as_deref(), Some("secret"));
        assert!(!format!("{backend:?}").contains("secret"));
        drop(file);
        assert!(matches!(CelestiaBackend::new(&config), Err(CelestiaError::Token { .. })));
    }
}
