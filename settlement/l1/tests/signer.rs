//! Transactions that a signing service signs: with a server of Web3Signer's API, and an anvil that takes what it has signed.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use alloy::{
    eips::eip4844::Blob,
    primitives::{Address, Bytes, hex, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use millrace_l1::{
    L1Signer, SignError, TxManager, TxManagerConfig, TxManagerError, TxRequest, Web3Signer,
    testing::{Anvil, AnvilOptions, dev_signer},
};
use millrace_proto::ErrorClass;
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

/// A server of the API that Web3Signer has for keys of the execution layer.
struct Service {
    url: Url,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    keys: Vec<PrivateKeySigner>,
    /// Answers with this status, if it is not 0.
    fault: AtomicU16,
    /// Signs with a key that nobody asked for.
    lies: AtomicBool,
    /// How often it was asked, and how often it has signed.
    asked: AtomicU32,
    signed: AtomicU32,
}

fn public_key(key: &PrivateKeySigner) -> String {
    hex::encode_prefixed(key.public_key())
}

impl Service {
    async fn start(keys: Vec<PrivateKeySigner>) -> Self {
        let shared = Arc::new(Shared {
            keys,
            fault: AtomicU16::new(0),
            lies: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            signed: AtomicU32::new(0),
        });
        let router = Router::new()
            .route("/signer/api/v1/eth1/publicKeys", get(public_keys))
            .route("/signer/api/v1/eth1/sign/{identifier}", post(sign))
            .with_state(shared.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/signer", listener.local_addr().unwrap()).parse().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    fn fail(&self, status: u16) {
        self.shared.fault.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> u32 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    fn signed(&self) -> u32 {
        self.shared.signed.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn public_keys(State(shared): State<Arc<Shared>>) -> Response {
    let keys: Vec<_> = shared.keys.iter().map(public_key).collect();
    axum::Json(keys).into_response()
}

/// As Web3Signer does: hashes the data, and answers with `r ‖ s ‖ v`, v being 27 or 28.
async fn sign(
    State(shared): State<Arc<Shared>>,
    Path(identifier): Path<String>,
    axum::Json(request): axum::Json<serde_json::Value>,
) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let fault = shared.fault.load(Ordering::SeqCst);
    if fault != 0 {
        return StatusCode::from_u16(fault).unwrap().into_response();
    }
    let Some(key) = shared.keys.iter().find(|key| public_key(key) == identifier) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let data = hex::decode(request["data"].as_str().unwrap()).unwrap();
    let other = PrivateKeySigner::random();
    let key = if shared.lies.load(Ordering::SeqCst) { &other } else { key };
    let signature = key.sign_hash_sync(&keccak256(data)).unwrap();
    shared.signed.fetch_add(1, Ordering::SeqCst);
    hex::encode_prefixed(signature.as_bytes()).into_response()
}

fn config() -> TxManagerConfig {
    TxManagerConfig { poll_interval: Duration::from_millis(20), ..TxManagerConfig::default() }
}

async fn manager(anvil: &Anvil, signer: Web3Signer, dir: &std::path::Path) -> TxManager {
    let client = anvil.client().clone();
    TxManager::open(config(), client, L1Signer::Remote(signer), dir, "test").await.unwrap()
}

fn request(id: &str) -> TxRequest {
    TxRequest::call(id.to_owned(), Address::repeat_byte(0xaa), Bytes::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_signs_is_taken_with_blobs_and_without() {
    let anvil = Anvil::start(AnvilOptions::default()).unwrap();
    let keys = vec![PrivateKeySigner::random(), dev_signer(3)];
    let service = Service::start(keys).await;
    let signer = Web3Signer::connect(service.url.clone(), dev_signer(3).address()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&anvil, signer, dir.path()).await;
    assert_eq!(manager.address(), dev_signer(3).address());
    let plain = manager.send(request("plain")).await.unwrap();
    let blobs = manager.send(request("blobs").with_blobs(vec![Blob::default()])).await.unwrap();
    assert_eq!((plain.nonce, blobs.nonce), (0, 1));
    assert!(blobs.blob_gas_used > 0);
    assert_eq!(service.signed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_asked_again_with_the_same_id() {
    let anvil = Anvil::start(AnvilOptions::default()).unwrap();
    let service = Service::start(vec![dev_signer(3)]).await;
    let signer = Web3Signer::connect(service.url.clone(), dev_signer(3).address()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&anvil, signer, dir.path()).await;
    for status in [503, 429] {
        service.fail(status);
        let error = manager.send(request("once")).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Retryable, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    service.fail(404);
    let error = manager.send(request("once")).await.unwrap_err();
    assert!(matches!(error, TxManagerError::Sign(SignError::Refused { status: 404, .. })));
    assert_eq!(error.class(), ErrorClass::Caller);
    service.fail(0);
    service.shared.lies.store(true, Ordering::SeqCst);
    let error = manager.send(request("once")).await.unwrap_err();
    assert!(
        matches!(&error, TxManagerError::Sign(SignError::BadAnswer { problem, .. })
        if problem.contains("not the account's")),
        "{error}"
    );
    service.shared.lies.store(false, Ordering::SeqCst);
    let signed = service.signed();
    let sent = manager.send(request("once")).await.unwrap();
    let again = manager.send(request("once")).await.unwrap();
    assert_eq!((sent.nonce, again.l1), (0, sent.l1));
    assert_eq!(service.signed(), signed + 1);
    assert_eq!(anvil.client().nonce(manager.address()).await.unwrap(), 1);
}

/// A transaction that waits is watched on while nobody can sign a replacement, and replaced when somebody can.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_waits_for_the_signature_of_its_replacement() {
    let options = AnvilOptions { no_mining: true, ..AnvilOptions::default() };
    let anvil = Anvil::start(options).unwrap();
    let service = Service::start(vec![dev_signer(3)]).await;
    let signer = Web3Signer::connect(service.url.clone(), dev_signer(3).address()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = TxManagerConfig { resubmit_after: Duration::from_millis(50), ..config() };
    let client = anvil.client().clone();
    let manager = TxManager::open(config, client, L1Signer::Remote(signer), dir.path(), "test")
        .await
        .unwrap();
    let sending = tokio::spawn({
        let manager = manager.clone();
        async move { manager.send(request("waits")).await }
    });
    while service.signed() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.fail(503);
    let (before, asked) = (service.signed(), service.asked());
    while service.asked() < asked + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!sending.is_finished());
    service.fail(0);
    while service.signed() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anvil.mine(1).await.unwrap();
    let sent = sending.await.unwrap().unwrap();
    assert!(sent.attempts > 1);
}

#[tokio::test]
async fn a_service_without_the_key_or_with_another_is_told_apart() {
    let service = Service::start(vec![dev_signer(3)]).await;
    let wanted = dev_signer(4).address();
    let error = Web3Signer::connect(service.url.clone(), wanted).await.unwrap_err();
    assert!(matches!(&error, SignError::NoKey { address, known, .. }
        if *address == wanted && *known == [dev_signer(3).address()]));
    let url = service.url.clone();
    drop(service);
    let mut error = Web3Signer::connect(url.clone(), wanted).await.unwrap_err();
    // The server's task ends a moment after it is told to.
    while !matches!(error, SignError::Unreachable { .. }) {
        error = Web3Signer::connect(url.clone(), wanted).await.unwrap_err();
    }
    assert_eq!(error.class(), ErrorClass::Retryable);
}
