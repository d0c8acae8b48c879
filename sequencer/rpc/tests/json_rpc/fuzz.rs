//! Calls of any bytes: the seeds of `sequencer/fuzz`, and what is near them.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::{Value, json};

#[path = "../../../../proto/fuzz/mutations.rs"]
mod mutations;

use self::mutations::{keep, near, seeds};
use crate::any_bytes::{BATCH, CALL, METHODS, RAW, WEBSOCKET, any_call};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/json_rpc")
}

/// Parameters of a call that does as much as it can.
fn params(method: &str) -> serde_json::Value {
    let call = json!({"from": "@a", "to": "@c", "gas": "0xf4240", "input": "0x01"});
    let overrides = json!({"@a": {"balance": "0xffff", "nonce": "0x7", "code": "0x60006000fd", "stateDiff": {"@b": "@t"}}});
    let block_overrides = json!({"number": "0x9", "time": "0x65000009", "baseFeePerGas": "0x1"});
    let raw = "0x02f86c82109280843b9aca00843b9aca00825208940000000000000000000000000000000000000a11ce0180c0";
    let filter = json!({"fromBlock": "0x0", "toBlock": "latest", "address": ["@c"], "topics": [null, ["@b", null]]});
    match method {
        "eth_getBlockByNumber" => json!(["0x2", true]),
        "eth_getBlockByHash" => json!(["@b", true]),
        "eth_getBlockTransactionCountByNumber" | "eth_getUncleCountByBlockNumber" => {
            json!(["safe"])
        }
        "eth_getBlockTransactionCountByHash" | "eth_getUncleCountByBlockHash" => json!(["@b"]),
        "eth_getUncleByBlockNumberAndIndex" => json!(["pending", "0x0"]),
        "eth_getTransactionByBlockNumberAndIndex" => json!(["0x2", "0x0"]),
        "eth_getUncleByBlockHashAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
            json!(["@b", "0x0"])
        }
        "eth_getBlockReceipts" => json!([{"blockHash": "@b", "requireCanonical": true}]),
        "eth_getTransactionByHash"
        | "eth_getTransactionReceipt"
        | "eth_getRawTransactionByHash"
        | "millrace_getTransactionStatus"
        | "debug_getRawTransaction" => json!(["@t"]),
        "eth_getBalance" | "eth_getTransactionCount" => json!(["@a", {"blockNumber": "0x1"}]),
        "eth_getCode" => json!(["@c", "latest"]),
        "eth_getStorageAt" => json!(["@c", "0x0", "latest"]),
        "eth_getStorageValues" => json!([{"@c": ["0x0", "@b"]}, "latest"]),
        "eth_getProof" => json!(["@c", ["0x0", "@b"], "latest"]),
        "eth_call" | "eth_estimateGas" => json!([call, "latest", overrides, block_overrides]),
        "millrace_estimateFees" => json!([call, "latest"]),
        "eth_createAccessList" => json!([call, "0x2", overrides]),
        "eth_simulateV1" => json!([{
            "blockStateCalls": [{"blockOverrides": block_overrides, "stateOverrides": overrides, "calls": [call, {"from": "@a", "value": "0x1"}]}],
            "traceTransfers": true, "validation": false, "returnFullTransactions": true,
        }, "latest"]),
        "eth_feeHistory" => json!(["0x4", "latest", [0, 50.5, 100]]),
        "eth_getLogs" | "eth_newFilter" => json!([filter]),
        "eth_sendRawTransaction" => json!([raw]),
        "eth_sendRawTransactionSync" => json!([raw, 10]),
        "eth_getFilterChanges" | "eth_getFilterLogs" | "eth_uninstallFilter" => json!(["0x1"]),
        "eth_subscribe" => json!(["logs", filter]),
        "eth_unsubscribe" => json!(["0x1"]),
        "web3_sha3" => json!(["0x68656c6c6f"]),
        "txpool_contentFrom" => json!(["@a"]),
        "debug_getRawHeader" | "debug_getRawBlock" | "debug_getRawReceipts" => json!(["@b"]),
        "debug_traceTransaction" => {
            json!(["@t", {"tracer": "prestateTracer", "tracerConfig": {"diffMode": true}}])
        }
        "debug_traceBlockByNumber" => {
            json!(["0x2", {"tracer": "muxTracer", "tracerConfig": {"4byteTracer": null, "callTracer": {"withLog": true}}}])
        }
        "debug_traceBlockByHash" => {
            json!(["@b", {"enableMemory": true, "limit": 9, "timeout": "1s"}])
        }
        "debug_traceCall" => {
            json!([call, "latest", {"tracer": "callTracer", "stateOverrides": overrides, "blockOverrides": block_overrides, "txIndex": "0x0"}])
        }
        _ => json!([]),
    }
}

fn call(method: &str, params: &str) -> Vec<u8> {
    let place = METHODS.iter().position(|known| *known == method).expect("a method");
    let length = u16::try_from(params.len()).expect("short").to_le_bytes();
    [&[u8::try_from(place).expect("few methods")], &length[..], params.as_bytes()].concat()
}

/// Named after what they ask: calls of methods, a few in a batch, and what else may come.
fn made() -> Vec<(String, Vec<u8>)> {
    let of = |method: &str| call(method, &params(method).to_string());
    let (subscribing, others): (Vec<&str>, Vec<&str>) =
        METHODS.iter().copied().partition(|method| method.ends_with("subscribe"));
    let mut made = Vec::new();
    for (number, methods) in others.chunks(8).enumerate() {
        let calls: Vec<_> = methods.iter().map(|method| of(method)).collect();
        made.push((format!("batch-{number:02}"), [&[BATCH], &calls.concat()[..]].concat()));
    }
    for method in subscribing {
        made.push((method.to_owned(), [&[CALL | WEBSOCKET], &of(method)[..]].concat()));
    }
    let raw = r#"[{"jsonrpc":"2.0","method":"eth_chainId"},{"jsonrpc":"2.0","id":"x","method":"eth_gasPrice","params":{}},{},1]"#;
    let call = [&[CALL], &of("eth_call")[..]].concat();
    made.extend([
        ("call".to_owned(), call),
        ("raw".to_owned(), [&[RAW], raw.as_bytes()].concat()),
        ("raw-over-websocket".to_owned(), [&[RAW | WEBSOCKET], raw.as_bytes()].concat()),
    ]);
    made
}

#[test]
fn the_seeds_call_every_method_of_the_documents() {
    let documents = include_str!("../../../../docs/json-rpc.md");
    let table =
        documents.split("\n## Methods").nth(1).and_then(|rest| rest.split("\nNot there,").next());
    let rows = table.expect("the methods").lines().filter_map(|line| line.strip_prefix("| `"));
    let listed = rows.filter_map(|row| row.split(" | ").next()).flat_map(|cell| cell.split('`'));
    let listed: BTreeSet<_> = listed.filter(|name| name.contains('_')).collect();
    // A node that is served by others has it from them.
    let missing = listed
        .into_iter()
        .filter(|name| !METHODS.contains(name) && *name != "millrace_getInclusionProof");
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());

    let made = made();
    for (name, bytes) in &made {
        if name.starts_with("raw") {
            continue;
        }
        let answers = any_call(bytes);
        let answers = answers.iter().flat_map(|answer| match answer {
            Value::Array(answers) => answers.as_slice(),
            answer => std::slice::from_ref(answer),
        });
        for answer in answers {
            let code = answer["error"]["code"].as_i64();
            assert!(!matches!(code, Some(-32_700..=-32_600)), "{name}: {answer}");
        }
    }
    keep(&folder(), made);
}

#[test]
fn any_bytes_are_answered_with_json_rpc() {
    for bytes in near(seeds(&folder()), 3_000) {
        any_call(&bytes);
    }
}
