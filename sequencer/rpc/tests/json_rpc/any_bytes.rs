//! What any bytes are held to that come as JSON-RPC. `sequencer/fuzz` runs it, and the tests beside this over its seeds and what is near them.
//!
//! The first byte says how they come: [`RAW`] as they are, [`CALL`] as the parameters of a call, [`BATCH`] as the parameters of several; with
//! [`WEBSOCKET`] over a WebSocket, else over HTTP. A call is a byte for its method, and its parameters behind their length as two bytes, little
//! endian. Parameters are JSON in which `@b`, `@t`, `@c` and `@a` stand for the hash of a block and of a transaction, a contract and an account.

use std::{cell::RefCell, time::Duration};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, TxHash, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use futures::{SinkExt, StreamExt};
use millrace_executor::CallConfig;
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::support::{Chain, SOMEBODY, counter};

pub(crate) const RAW: u8 = 0;
pub(crate) const CALL: u8 = 1;
pub(crate) const BATCH: u8 = 2;
pub(crate) const WEBSOCKET: u8 = 4;

/// The methods of a rollup's server. Seeds name them by their place: new ones go to the end.
pub(crate) const METHODS: &[&str] = &[
    "eth_chainId",
    "net_version",
    "eth_blockNumber",
    "eth_syncing",
    "eth_accounts",
    "eth_coinbase",
    "eth_capabilities",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockTransactionCountByNumber",
    "eth_getBlockTransactionCountByHash",
    "eth_getUncleCountByBlockNumber",
    "eth_getUncleCountByBlockHash",
    "eth_getUncleByBlockNumberAndIndex",
    "eth_getUncleByBlockHashAndIndex",
    "eth_getBlockReceipts",
    "eth_getTransactionByHash",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getTransactionReceipt",
    "eth_getRawTransactionByHash",
    "eth_getBalance",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getTransactionCount",
    "eth_getStorageValues",
    "eth_getProof",
    "eth_call",
    "eth_estimateGas",
    "millrace_estimateFees",
    "eth_createAccessList",
    "eth_simulateV1",
    "eth_gasPrice",
    "eth_maxPriorityFeePerGas",
    "eth_feeHistory",
    "eth_baseFee",
    "eth_blobBaseFee",
    "eth_getLogs",
    "eth_sendRawTransaction",
    "eth_sendRawTransactionSync",
    "eth_newFilter",
    "eth_newBlockFilter",
    "eth_newPendingTransactionFilter",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_uninstallFilter",
    "eth_subscribe",
    "eth_unsubscribe",
    "net_listening",
    "net_peerCount",
    "web3_clientVersion",
    "web3_sha3",
    "txpool_status",
    "txpool_content",
    "txpool_contentFrom",
    "txpool_inspect",
    "millrace_getTransactionStatus",
    "debug_getRawHeader",
    "debug_getRawBlock",
    "debug_getRawReceipts",
    "debug_getBadBlocks",
    "debug_getRawTransaction",
    "debug_traceTransaction",
    "debug_traceBlockByNumber",
    "debug_traceBlockByHash",
    "debug_traceCall",
];

/// No call takes so long.
const DEADLINE: Duration = Duration::from_secs(60);
/// A WebSocket is used for so many messages: it may have only so many subscriptions.
const MESSAGES: usize = 50;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server on a chain with a few blocks, and its client.
#[derive(Debug)]
struct Session {
    chain: Chain,
    http: reqwest::Client,
    socket: Option<(Socket, usize)>,
    /// What the placeholders stand for.
    names: [(&'static str, String); 4],
    marks: u64,
}

impl Session {
    async fn start() -> Self {
        let limits = RpcLimits {
            sync_timeout: Duration::from_millis(20),
            max_sync_timeout: Duration::from_millis(40),
            ..RpcLimits::default()
        };
        // Endless loops end soon.
        let calls =
            CallConfig { max_gas: 1_000_000, max_trace_bytes: 1 << 20, ..Default::default() };
        let chain = Chain::calling(RpcConfig { limits, ..Default::default() }, calls).await;
        let (block, transaction, contract) = fill(&chain).await;
        let names = [
            ("@b", block.to_string()),
            ("@t", transaction.to_string()),
            ("@c", contract.to_string()),
            ("@a", chain.signer.address().to_string()),
        ];
        Self { chain, http: reqwest::Client::new(), socket: None, names, marks: 0 }
    }

    /// Posts a body; `None` for an empty reply.
    async fn post(&self, body: Vec<u8>) -> Option<Value> {
        let request = self.http.post(self.chain.http()).header("content-type", "application/json");
        let reply = request.body(body).send().await.expect("an answer over HTTP");
        let status = reply.status();
        let reply = reply.bytes().await.expect("the whole answer");
        let reply: Option<Value> =
            (!reply.is_empty()).then(|| serde_json::from_slice(&reply).expect("JSON"));
        // What begins neither an object nor a list is no request of HTTP either.
        let code = reply.as_ref().map(|reply| &reply["error"]["code"]);
        assert!(status == 200 || status == 400 && code == Some(&Value::from(-32_700)), "{status}");
        reply
    }

    /// Sends a message, and gives what comes until an answer to a call that is sent after it. Answers may come later than that.
    async fn send(&mut self, message: Vec<u8>) -> Vec<Value> {
        self.marks += 1;
        let mark = Value::from(format!("mark {}", self.marks));
        let call = serde_json::json!({"jsonrpc": "2.0", "id": mark, "method": "net_version"});
        let socket = self.socket.take().filter(|(_, sent)| *sent < MESSAGES);
        let (mut socket, sent) = match socket {
            Some(open) => open,
            None => (connect_async(self.chain.ws()).await.expect("a WebSocket").0, 0),
        };
        let message = match String::from_utf8(message) {
            Ok(text) => Message::text(text),
            Err(other) => Message::binary(other.into_bytes()),
        };
        let mut came = Vec::new();
        socket.send(message).await.expect("sent");
        socket.send(Message::text(call.to_string())).await.expect("sent");
        while came.last().is_none_or(|answer: &Value| answer["id"] != mark) {
            match socket.next().await.expect("the connection stays open").expect("a message") {
                Message::Text(text) => came.push(serde_json::from_str(&text).expect("JSON")),
                Message::Binary(bytes) => came.push(serde_json::from_slice(&bytes).expect("JSON")),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.socket = Some((socket, sent + 1));
        came
    }

    fn call(&self, id: usize, (method, params): (u8, &[u8])) -> Vec<u8> {
        let method = METHODS[usize::from(method) % METHODS.len()];
        let mut params = String::from_utf8_lossy(params).into_owned();
        for (name, value) in &self.names {
            params = params.replace(name, value);
        }
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).into()
    }
}

/// Blocks with a contract, calls of it, and a transfer.
async fn fill(chain: &Chain) -> (TxHash, TxHash, Address) {
    let wallet = chain.wallet();
    let send = async |request: TransactionRequest| {
        let sent = wallet.send_transaction(request).await.expect("sent");
        sent.get_receipt().await.expect("a receipt")
    };
    let deployed = send(TransactionRequest::default().with_deploy_code(counter())).await;
    let contract = deployed.contract_address.expect("a contract");
    let called = send(TransactionRequest::default().with_to(contract)).await;
    send(TransactionRequest::default().with_to(SOMEBODY).with_value(U256::ONE)).await;
    (called.block_hash.expect("a block"), called.transaction_hash, contract)
}

/// Sends what the bytes say, and gives what is answered.
///
/// # Panics
/// When an answer is no JSON-RPC 2.0, when it does not fit what was asked, and when it is an internal error.
pub(crate) fn any_call(bytes: &[u8]) -> Vec<Value> {
    thread_local! {
        static SESSION: RefCell<(Runtime, Session)> = RefCell::new({
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let session = runtime.block_on(Session::start());
            (runtime, session)
        });
    }
    let Some((form, rest)) = bytes.split_first() else { return Vec::new() };
    SESSION.with_borrow_mut(|(runtime, session)| {
        runtime.block_on(async {
            timeout(DEADLINE, answers(session, *form, rest)).await.expect("answers in time")
        })
    })
}

async fn answers(session: &mut Session, form: u8, rest: &[u8]) -> Vec<Value> {
    let calls = cut(rest);
    let (body, count) = match form & 3 {
        CALL => {
            let Some(first) = calls.first() else { return Vec::new() };
            (session.call(0, *first), Some(1))
        }
        BATCH => {
            let calls = calls.into_iter().enumerate();
            let calls: Vec<_> = calls.map(|(id, call)| session.call(id, call)).collect();
            ([b"[", &calls.join(&b","[..])[..], b"]"].concat(), Some(calls.len()))
        }
        _ => (rest.to_vec(), None),
    };
    if form & WEBSOCKET != 0 {
        let came = session.send(body).await;
        for message in &came {
            if message["method"] == "eth_subscription" {
                assert!(message["params"]["subscription"].is_string(), "{message}");
            } else {
                check(message, None);
            }
        }
        return came;
    }
    // What is no JSON is answered without an id.
    let count = count.filter(|_| serde_json::from_slice::<Value>(&body).is_ok());
    let answer = session.post(body).await;
    let Some(answer) = answer else {
        assert_eq!(count, None, "a call has an answer");
        return Vec::new();
    };
    check(&answer, count);
    vec![answer]
}

fn cut(mut rest: &[u8]) -> Vec<(u8, &[u8])> {
    let mut calls = Vec::new();
    while let Some(([method, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (params, later) = after.split_at(length);
        calls.push((*method, params));
        rest = later;
    }
    calls
}

/// Holds an answer to the specification of JSON-RPC 2.0; of `count` calls, to their ids.
fn check(answer: &Value, count: Option<usize>) {
    match answer {
        Value::Array(answers) => {
            assert!(!answers.is_empty(), "a batch of no answers");
            for (id, answer) in answers.iter().enumerate() {
                check_one(answer);
                assert!(count.is_none() || answer["id"] == id, "{answer}");
            }
            assert!(count.is_none_or(|count| count == answers.len()), "{answer}");
        }
        answer => {
            check_one(answer);
            let refused = answer["id"].is_null() && answer.get("error").is_some();
            assert!(count.is_none() || answer["id"] == 0 || refused, "{answer}");
        }
    }
}

fn check_one(answer: &Value) {
    let id = answer.get("id").expect("an id");
    assert!(id.is_null() || id.is_u64() || id.is_string(), "{answer}");
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    match (answer.get("result"), answer.get("error")) {
        (Some(_), None) => {}
        (None, Some(error)) => {
            let code = error["code"].as_i64().expect("a code");
            assert!(error["message"].is_string(), "{answer}");
            assert_ne!(code, -32_603, "{answer}");
        }
        _ => panic!("neither a result nor an error: {answer}"),
    }
}
