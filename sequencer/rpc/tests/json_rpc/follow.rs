//! Following the chain: subscriptions over WebSocket, filters over HTTP.

use std::time::Duration;

use crate::support::{Chain, counter, loud};
use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, U256},
    providers::{Provider, ProviderBuilder, WsConnect},
    rpc::types::{Filter, TransactionRequest},
};
use futures::StreamExt;
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(20);

async fn ws_wallet(chain: &Chain) -> impl Provider + Clone + 'static {
    ProviderBuilder::new()
        .wallet(EthereumWallet::from(chain.signer.clone()))
        .connect_ws(WsConnect::new(chain.ws()))
        .await
        .expect("connection")
}

async fn deploy(wallet: &impl Provider, code: alloy::primitives::Bytes) -> Address {
    let deployment = TransactionRequest::default().with_deploy_code(code);
    let sent = wallet.send_transaction(deployment).await.expect("sent");
    sent.get_receipt().await.expect("receipt").contract_address.expect("a contract")
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_report_heads_and_logs() {
    let chain = Chain::start().await;
    let wallet = ws_wallet(&chain).await;
    let contract = deploy(&wallet, counter()).await;
    let other = deploy(&wallet, counter()).await;
    let mut heads = wallet.subscribe_blocks().await.expect("heads").into_stream();
    let filter = Filter::new().address(contract);
    let mut logs = wallet.subscribe_logs(&filter).await.expect("logs").into_stream();

    for callee in [other, contract, contract] {
        let call = TransactionRequest::default().with_to(callee);
        wallet.send_transaction(call).await.expect("sent").get_receipt().await.expect("receipt");
    }
    for number in 3..=5 {
        let head = timeout(SOON, heads.next()).await.expect("in time").expect("a head");
        assert_eq!(head.number, number);
        assert_eq!(head.hash, head.inner.hash_slow());
    }
    for count in 1..=2 {
        let log = timeout(SOON, logs.next()).await.expect("in time").expect("a log");
        assert_eq!(log.address(), contract);
        assert_eq!(log.topics()[1], B256::with_last_byte(count));
        assert_eq!(log.block_number, Some(u64::from(count) + 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_report_what_is_new_once() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet, counter()).await;
    let blocks = wallet.new_block_filter().await.expect("filter");
    let logs = wallet.new_filter(&Filter::new().address(contract)).await.expect("filter");
    let call = TransactionRequest::default().with_to(contract);
    let sent = wallet.send_transaction(call).await.expect("sent");
    let receipt = sent.get_receipt().await.expect("receipt");

    let hashes: Vec<B256> = wallet.get_filter_changes(blocks).await.expect("changes");
    assert_eq!(hashes, [receipt.block_hash.expect("mined")]);
    let found: Vec<alloy::rpc::types::Log> = wallet.get_filter_changes(logs).await.expect("logs");
    assert_eq!(found, receipt.logs());
    let hashes: Vec<B256> = wallet.get_filter_changes(blocks).await.expect("changes");
    assert!(hashes.is_empty());
    let found: Vec<alloy::rpc::types::Log> = wallet.get_filter_changes(logs).await.expect("logs");
    assert!(found.is_empty());
    let all: Vec<alloy::rpc::types::Log> = wallet.get_filter_logs(logs).await.expect("logs");
    assert_eq!(all.len(), 1);

    assert!(wallet.uninstall_filter(logs).await.expect("removed"));
    assert!(!wallet.uninstall_filter(logs).await.expect("no error"));
    let (code, message, _) = chain.error("eth_getFilterChanges", json!([logs])).await;
    assert_eq!((code, message.as_str()), (-32000, "filter not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_need_a_websocket_and_a_known_kind() {
    let chain = Chain::start().await;
    let (code, message, _) = chain.error("eth_subscribe", json!(["newHeads"])).await;
    assert_eq!(code, -32601);
    assert!(message.contains("WebSocket"), "{message}");

    let wallet = ws_wallet(&chain).await;
    let refused = wallet.subscribe::<_, U256>(("syncing",)).await.expect_err("unknown kind");
    assert_eq!(refused.as_error_resp().expect("an error reply").code, -32602);
}

/// A bare WebSocket that subscribes to all logs, and has read the reply.
async fn bare_subscriber(chain: &Chain) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(4_096).expect("buffer size");
    let mut client = socket.connect(chain.rpc.local_addr()).await.expect("connection");
    let handshake = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).await.expect("handshake");
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["logs",{}]}"#;
    let mut frame = vec![0x81, 0x80 | u8::try_from(request.len()).expect("short"), 0, 0, 0, 0];
    frame.extend_from_slice(request);
    client.write_all(&frame).await.expect("request");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"result\"") {
        let read = timeout(SOON, client.read_buf(&mut seen)).await.expect("in time");
        assert_ne!(read.expect("read"), 0, "{}", String::from_utf8_lossy(&seen));
    }
    client
}

/// A client that subscribes and then reads nothing is disconnected, and the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_disconnected() {
    let limits = RpcLimits {
        max_subscription_lag: 2,
        max_queued_messages: 1,
        write_timeout: 10 * SOON,
        ..RpcLimits::default()
    };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let wallet = chain.wallet();
    let contract = deploy(&wallet, loud()).await;
    let mut client = bare_subscriber(&chain).await;

    for _ in 0..80 {
        let call = TransactionRequest::default().with_to(contract);
        wallet.send_transaction(call).await.expect("sent").get_receipt().await.expect("receipt");
    }
    let mut rest = Vec::new();
    // An end or a reset, but not silence.
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("disconnected");
    assert!(rest.len() < 80 * (256 << 10), "it was sent {} bytes", rest.len());
    assert_eq!(chain.result("eth_blockNumber", json!([])).await, "0x51");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_closes_what_is_open_and_idle_at_once() {
    let limits = RpcLimits { drain_timeout: 10 * SOON, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let wallet = chain.wallet();
    wallet.get_chain_id().await.expect("a call, whose connection is kept");
    let mut client = bare_subscriber(&chain).await;
    let address = chain.rpc.local_addr();
    timeout(SOON, chain.rpc.stop()).await.expect("in time").expect("no panic");
    assert!(TcpSocket::new_v4().expect("socket").connect(address).await.is_err());
    let mut rest = Vec::new();
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("disconnected");
}
