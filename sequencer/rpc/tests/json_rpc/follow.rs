//! Following the chain: subscriptions over WebSocket, filters over HTTP.

use std::time::Duration;

use crate::support::{Chain, counter, loud};
use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, TxKind, U256},
    providers::{Provider, ProviderBuilder, WsConnect},
    rpc::types::{Filter, Log, TransactionRequest},
};
use futures::StreamExt;
use millrace_proto::{BlockSelector, Executor};
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};
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

/// What is told of a block before it is sealed is what its receipts are after it, but for the hash, which nobody knew.
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_open_blocks_have_the_receipts_that_the_sealed_block_has() {
    let chain = Chain::start().await;
    let wallet = ws_wallet(&chain).await;
    let contract = deploy(&wallet, counter()).await;
    let frames = wallet.subscribe::<_, Value>(("newPreconfirmations",)).await.expect("frames");
    let mut frames = frames.into_stream();
    let with_diffs = ("newPreconfirmations", json!({ "stateDiff": true }));
    let diffs = wallet.subscribe::<_, Value>(with_diffs).await.expect("frames");
    let mut diffs = diffs.into_stream();
    for kind in [TxKind::Call(contract), TxKind::Create] {
        let request = match kind {
            TxKind::Call(to) => TransactionRequest::default().with_to(to),
            TxKind::Create => TransactionRequest::default().with_deploy_code(counter()),
        };
        let sent = wallet.send_transaction(request).await.expect("sent");
        let mined = sent.get_receipt().await.expect("receipt");
        let frame = timeout(SOON, frames.next()).await.expect("in time").expect("a frame");
        let with = timeout(SOON, diffs.next()).await.expect("in time").expect("a frame");
        let number = mined.block_number.expect("mined");
        let sealed = chain.pool.executor.state_diff(number).await.expect("it answers");
        let sealed = sealed.expect("it is kept");
        assert_eq!(with["stateDiff"], serde_json::to_value(&*sealed).expect("JSON"));
        assert!(frame.get("stateDiff").is_none(), "it was not asked for");
        assert_eq!(frame["transactions"], json!([mined.transaction_hash]));
        assert_eq!(
            (&frame["frame"], &frame["receipts"][0]["blockHash"]),
            (&json!("0x0"), &Value::Null)
        );
        let block =
            chain.result("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await;
        for (of_frame, of_block) in [
            ("blockNumber", "number"),
            ("parentHash", "parentHash"),
            ("timestamp", "timestamp"),
            ("baseFeePerGas", "baseFeePerGas"),
        ] {
            assert_eq!(frame[of_frame], block[of_block], "{of_frame}");
        }
        let hash = json!([mined.transaction_hash]);
        let mut receipt = chain.result("eth_getTransactionReceipt", hash).await;
        receipt["blockHash"] = Value::Null;
        for log in receipt["logs"].as_array_mut().expect("logs") {
            log["blockHash"] = Value::Null;
        }
        assert_eq!(frame["receipts"], json!([receipt]));
    }
}

/// A subscription that is silent from then on would hide that frames are missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closes_where_no_more_frames_are_told() {
    let chain = Chain::start().await;
    let mut client = bare_subscriber(&chain, json!(["newPreconfirmations"])).await;
    chain.pool.frames.as_ref().expect("it tells").close();
    let mut rest = Vec::new();
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("disconnected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_an_open_block_says_so() {
    let chain = Chain::telling(RpcConfig::default(), None).await;
    let provider = ProviderBuilder::new().connect_ws(WsConnect::new(chain.ws())).await;
    let provider = provider.expect("connection");
    for (topic, says) in [("newPreconfirmations", "ask the sequencer"), ("news", "newHeads, logs")]
    {
        let refused = provider.subscribe::<_, Value>((topic,)).await.expect_err("refused");
        let error = refused.as_error_resp().expect("an error of the server");
        assert!(error.code == -32602 && error.message.contains(says), "{error}");
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
    let found: Vec<Log> = wallet.get_filter_changes(logs).await.expect("logs");
    assert_eq!(found, receipt.logs());
    let hashes: Vec<B256> = wallet.get_filter_changes(blocks).await.expect("changes");
    assert!(hashes.is_empty());
    let found: Vec<Log> = wallet.get_filter_changes(logs).await.expect("logs");
    assert!(found.is_empty());
    let all: Vec<Log> = wallet.get_filter_logs(logs).await.expect("logs");
    assert_eq!(all.len(), 1);

    assert!(wallet.uninstall_filter(logs).await.expect("removed"));
    assert!(!wallet.uninstall_filter(logs).await.expect("no error"));
    let (code, message, _) = chain.error("eth_getFilterChanges", json!([logs])).await;
    assert_eq!((code, message.as_str()), (-32000, "filter not found"));
}

/// Logs of blocks that are taken back are reported again as removed, the newest first, and then whatever came in their place.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_reported_as_removed() {
    let chain = Chain::start().await;
    let wallet = ws_wallet(&chain).await;
    let contract = deploy(&wallet, counter()).await;
    let filter = Filter::new().address(contract);
    let mut heads = wallet.subscribe_blocks().await.expect("heads").into_stream();
    let mut logs = wallet.subscribe_logs(&filter).await.expect("logs").into_stream();
    let polled = wallet.new_filter(&filter).await.expect("filter");
    let blocks = wallet.new_block_filter().await.expect("filter");
    let call = || TransactionRequest::default().with_to(contract).with_gas_limit(100_000);
    let mut sent = Vec::new();
    for _ in 0..3 {
        let pending = wallet.send_transaction(call()).await.expect("sent");
        sent.push(pending.get_receipt().await.expect("receipt"));
    }
    let mut next = async || timeout(SOON, logs.next()).await.expect("in time").expect("a log");
    let mut seen = Vec::new();
    for receipt in &sent {
        let log = next().await;
        assert_eq!(log, receipt.logs()[0]);
        seen.push(log);
    }
    let reported: Vec<Log> = wallet.get_filter_changes(polled).await.expect("logs");
    assert_eq!(reported, seen);
    let hashes: Vec<B256> = wallet.get_filter_changes(blocks).await.expect("hashes");
    assert_eq!(hashes.len(), 3);

    // All but the first.
    let stays =
        chain.pool.executor.block(BlockSelector::Number(2)).await.expect("header").expect("it");
    chain.pool.executor.unwind(stays.num_hash()).await.expect("taken back");
    let nonce = wallet.get_transaction_count(chain.signer.address()).await.expect("nonce");
    let other = call().with_nonce(nonce).with_value(U256::ZERO).with_gas_limit(90_000);
    let other = chain.wallet().send_transaction(other).await.expect("sent");
    let other = other.get_receipt().await.expect("receipt");
    for gone in seen[1..].iter().rev() {
        assert_eq!(next().await, Log { removed: true, ..gone.clone() });
    }
    let instead = next().await;
    assert_eq!(instead, other.logs()[0]);
    assert_eq!((instead.block_number, instead.removed), (Some(3), false));
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(timeout(SOON, heads.next()).await.expect("in time").expect("a head").number);
    }
    assert_eq!(numbers, [2, 3, 4, 3]);

    let changes: Vec<Log> = wallet.get_filter_changes(polled).await.expect("logs");
    let removed = seen[1..].iter().rev().map(|log| Log { removed: true, ..log.clone() });
    assert_eq!(changes, removed.chain([instead]).collect::<Vec<_>>());
    let hashes: Vec<B256> = wallet.get_filter_changes(blocks).await.expect("hashes");
    assert_eq!(hashes, [other.block_hash.expect("mined")]);
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
async fn bare_subscriber(chain: &Chain, to: Value) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(4_096).expect("buffer size");
    let mut client = socket.connect(chain.rpc.local_addr()).await.expect("connection");
    let handshake = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).await.expect("handshake");
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": to});
    let request = request.to_string();
    let mut frame = vec![0x81, 0x80 | u8::try_from(request.len()).expect("short"), 0, 0, 0, 0];
    frame.extend_from_slice(request.as_bytes());
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
    let mut client = bare_subscriber(&chain, json!(["logs", {}])).await;

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
    let mut client = bare_subscriber(&chain, json!(["logs", {}])).await;
    let address = chain.rpc.local_addr();
    timeout(SOON, chain.rpc.stop()).await.expect("in time").expect("no panic");
    assert!(TcpSocket::new_v4().expect("socket").connect(address).await.is_err());
    let mut rest = Vec::new();
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("disconnected");
}
