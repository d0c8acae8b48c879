//! What the port allows: calls and bytes, time, tokens, TLS.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, Stream, StreamExt};
use millrace_edge::TlsFiles;
use millrace_rpc::{RpcConfig, RpcLimits};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Chain, signed};

async fn with(limits: RpcLimits) -> Chain {
    Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await
}

fn address(chain: &Chain) -> String {
    chain.http().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

async fn post(chain: &Chain, token: Option<&str>) -> Response {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    let mut request = reqwest::Client::new().post(chain.http()).json(&call);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("an answer")
}

/// A request whose body does not come, once the server has seen its head.
async fn stalled(chain: &Chain, length: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address(chain)).await.expect("a connection");
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).await.expect("the body is asked for");
    assert!(answer.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer));
    socket
}

async fn refused(chain: &Chain, wanted: StatusCode) {
    let answer = post(chain, None).await;
    assert_eq!(answer.status(), wanted);
    let retry = answer.headers()["retry-after"].to_str().expect("text").parse::<u64>();
    assert!(retry.expect("seconds") > 0);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["error"]["code"], -32005, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_the_caps_are_told_to_come_again() {
    for (limits, wanted) in [
        (RpcLimits { max_calls: 1, ..RpcLimits::default() }, StatusCode::SERVICE_UNAVAILABLE),
        (
            RpcLimits { max_calls_per_peer: 1, ..RpcLimits::default() },
            StatusCode::TOO_MANY_REQUESTS,
        ),
    ] {
        let chain = with(limits).await;
        let first = stalled(&chain, 100).await;
        refused(&chain, wanted).await;
        drop(first);
        taken_again(&chain).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_requests_are_bounded_over_all_connections() {
    let limits = RpcLimits { max_held_bytes: 1_000, max_calls_per_peer: 0, ..RpcLimits::default() };
    let chain = with(limits).await;
    let mut first = stalled(&chain, 1_000).await;
    first.write_all(&[b'['; 990]).await.expect("sent");
    let room = async {
        while post(&chain, None).await.status() == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), room).await.expect("in time");
    refused(&chain, StatusCode::SERVICE_UNAVAILABLE).await;
    drop(first);
    taken_again(&chain).await;
}

/// The next answer on a WebSocket.
async fn told(socket: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) -> Value {
    loop {
        let message = socket.next().await.expect("an answer").expect("no error");
        if let Message::Text(answer) = message {
            return serde_json::from_str(answer.as_str()).expect("JSON");
        }
    }
}

/// A call whose answer has a megabyte.
fn large(id: usize) -> Value {
    let (to, code) = ("0x00000000000000000000000000000000000000aa", "0x620800005ff3");
    let params = json!([{ "to": to }, "latest", { to: { "code": code } }]);
    json!({ "jsonrpc": "2.0", "id": id, "method": "eth_call", "params": params })
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_nobody_takes_are_bounded_over_all_connections() {
    const CALLS: usize = 64;
    let limits = RpcLimits { max_unsent_bytes: 16 << 20, ..RpcLimits::default() };
    let chain = with(limits).await;
    let (mut lazy, _) = tokio_tungstenite::connect_async(chain.ws()).await.expect("a WebSocket");
    for id in 0..CALLS {
        lazy.send(Message::text(large(id).to_string())).await.expect("sent");
    }
    // Nor is there room for others of the same client.
    let http = async || reqwest::Client::new().post(chain.http()).json(&large(0)).send().await;
    let full = async {
        loop {
            let answer = http().await.expect("an answer");
            match answer.status() {
                StatusCode::OK => drop(answer.bytes().await),
                status => break status,
            }
        }
    };
    let full = tokio::time::timeout(Duration::from_secs(60), full).await.expect("in time");
    assert_eq!(full, StatusCode::SERVICE_UNAVAILABLE);

    let (mut taken, mut refused) = (0, 0);
    for _ in 0..CALLS {
        let answer = told(&mut lazy).await;
        if answer["error"].is_null() {
            assert_eq!(answer["result"].as_str().map(str::len), Some(2 + (1 << 20)));
            taken += 1;
        } else {
            assert_eq!(answer["error"]["code"], -32005, "{answer}");
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("bytes of replies that are not taken"), "{answer}");
            refused += 1;
        }
    }
    assert!(taken >= 3 && refused > 0, "{taken} taken, {refused} refused");
    let answer = http().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "there is room again");
}

/// The server sees that a client is gone when it gets to it.
async fn taken_again(chain: &Chain) {
    let taken = async {
        while post(chain, None).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_arrive_is_not_waited_for() {
    let limits = RpcLimits { call_timeout: Duration::from_millis(200), ..RpcLimits::default() };
    let chain = with(limits).await;
    let mut slow = stalled(&chain, 100).await;
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 408");
    assert_eq!(post(&chain, None).await.status(), StatusCode::OK);
}

/// Over HTTP its request is answered with 408; a WebSocket goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_ends_on_a_websocket_too() {
    let limits = RpcLimits {
        call_timeout: Duration::from_millis(200),
        sync_timeout: Duration::from_secs(60),
        ..RpcLimits::default()
    };
    let chain = with(limits).await;
    chain.pool.hold().await;
    let (mut socket, _) = tokio_tungstenite::connect_async(chain.ws()).await.expect("a WebSocket");
    let mut ask = async |call: Value| -> Value {
        socket.send(Message::text(call.to_string())).await.expect("sent");
        told(&mut socket).await
    };
    let call = |id: u32, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut nonce = 0;
    let mut waits = async |id| {
        let raw = signed(&chain, nonce).await;
        nonce += 1;
        call(id, "eth_sendRawTransactionSync", json!([raw, "0xea60"]))
    };
    for (call, id) in [(waits(1).await, json!(1)), (json!([waits(2).await]), Value::Null)] {
        let answer = ask(call).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(-32005)), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("not answered in time"), "{answer}");
    }
    assert!(ask(call(3, "eth_chainId", json!([]))).await["result"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_end() {
    let limits = RpcLimits { header_timeout: Duration::from_millis(200), ..RpcLimits::default() };
    let chain = with(limits).await;
    for start in ["", "POST / HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut socket = TcpStream::connect(address(&chain)).await.expect("a connection");
        socket.write_all(start.as_bytes()).await.expect("sent");
        // An error is an end as well.
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    }
    assert_eq!(post(&chain, None).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_lets_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "a-token-of-some-length\n").expect("written");
    let config = RpcConfig { tokens: Some(tokens), ..RpcConfig::default() };
    let chain = Chain::with(RpcConfig { cors_origins: vec!["*".to_owned()], ..config }).await;
    for wrong in [None, Some("another-token-of-length")] {
        let answer = post(&chain, wrong).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(post(&chain, Some("a-token-of-some-length")).await.status(), StatusCode::OK);
    // A browser asks without it first.
    let preflight = reqwest::Client::new()
        .request(reqwest::Method::OPTIONS, chain.http())
        .header("origin", "https://app.example.org")
        .header("access-control-request-method", "POST");
    let answer = preflight.send().await.expect("an answer");
    assert!(answer.headers().contains_key("access-control-allow-origin"));
    // And WebSockets show it with their first request.
    let socket = TcpStream::connect(address(&chain)).await.expect("a connection");
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    assert!(exchange(socket, upgrade).await.starts_with("HTTP/1.1 401"));
}

/// The start of what a server answers.
async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1024];
    let read = socket.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_where_it_is_set_up_and_plain_clients_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).expect("written");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("written");
    let tls = Some(TlsFiles { certificate, key });
    let chain = Chain::with(RpcConfig { tls, ..RpcConfig::default() }).await;

    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(address(&chain)).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("TLS");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(socket, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let plain = TcpStream::connect(address(&chain)).await.expect("a connection");
    let answer = exchange(plain, &request).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.ends_with("this port speaks TLS: use https://\n"), "{answer}");
}
