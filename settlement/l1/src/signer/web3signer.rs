//! A client of Web3Signer's signing API for execution layer keys, behind which are key vaults, cloud key management services and
//! hardware security modules. <https://docs.web3signer.consensys.io>

use std::{fmt, sync::Arc, time::Duration};

use alloy::primitives::{Address, Bytes, Signature, hex, keccak256};
use serde_json::json;
use url::Url;

use super::SignError;

/// How long the service may take. (A hardware module is slow, and signs for others too.)
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that an answer may have.
const MAX_ANSWER: usize = 1 << 20;
/// Bytes of a public key without the byte that says its form.
const PUBLIC_KEY_LEN: usize = 64;

/// A service that signs with the key of one account. Clones share the connection pool.
#[derive(Clone)]
pub struct Web3Signer {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    url: Url,
    address: Address,
    /// How the service calls the key.
    identifier: String,
}

impl fmt::Debug for Web3Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web3Signer")
            .field("host", &host(&self.inner.url))
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}

impl Web3Signer {
    /// Asks the service at `url` for the key of `address`.
    ///
    /// # Errors
    /// When it does not answer, or has no such key.
    pub async fn connect(url: Url, address: Address) -> Result<Self, SignError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| SignError::Unreachable { host: host(&url), source })?;
        let keys = answer(&url, http.get(at(&url, &["publicKeys"]))).await?;
        let bad = |problem: String| SignError::BadAnswer { host: host(&url), problem };
        let keys: Vec<Bytes> = serde_json::from_slice(&keys)
            .map_err(|error| bad(format!("something else than public keys: {error}")))?;
        let account =
            |key: &Bytes| Address::from_raw_public_key(&key[key.len() - PUBLIC_KEY_LEN..]);
        let whole = keys.iter().filter(|key| key.len() >= PUBLIC_KEY_LEN);
        let known: Vec<_> = whole.map(|key| (account(key), key)).collect();
        let Some((_, key)) = known.iter().find(|(known, _)| *known == address) else {
            let known = known.into_iter().map(|(address, _)| address).collect();
            return Err(SignError::NoKey { host: host(&url), address, known });
        };
        let identifier = hex::encode_prefixed(key);
        Ok(Self { inner: Arc::new(Inner { http, url, address, identifier }) })
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.inner.address
    }

    /// Has the Keccak-256 hash of `message` signed, and checks by whom it was.
    pub(super) async fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let Inner { http, url, address, identifier } = &*self.inner;
        let request = http
            .post(at(url, &["sign", identifier]))
            .json(&json!({ "data": hex::encode_prefixed(message) }));
        let signed = answer(url, request).await?;
        let bad =
            |problem: &str| SignError::BadAnswer { host: host(url), problem: problem.to_owned() };
        let text = String::from_utf8_lossy(&signed);
        // Some versions answer with a JSON string.
        let bytes = hex::decode(text.trim().trim_matches('"'))
            .map_err(|_| bad("something else than a signature"))?;
        let signature =
            Signature::from_raw(&bytes).map_err(|_| bad("something else than r, s and v"))?;
        match signature.recover_address_from_prehash(&keccak256(message)) {
            Ok(signer) if signer == *address => Ok(signature.normalized_s()),
            _ => Err(bad("a signature that is not the account's")),
        }
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// A resource of the API for keys of the execution layer.
fn at(url: &Url, path: &[&str]) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["api", "v1", "eth1"]).extend(path);
    }
    url
}

async fn answer(url: &Url, request: reqwest::RequestBuilder) -> Result<Vec<u8>, SignError> {
    let unreachable = |source: reqwest::Error| SignError::Unreachable {
        host: host(url),
        source: source.without_url(),
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            let problem = format!("more than {MAX_ANSWER} bytes");
            return Err(SignError::BadAnswer { host: host(url), problem });
        }
    }
    if !status.is_success() {
        let body = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(SignError::Refused { host: host(url), status: status.as_u16(), body });
    }
    Ok(body)
}
