//! Searching for logs within limits.

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, Bytes},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};

use crate::support::{Chain, counter, loud};

async fn chain(limits: RpcLimits) -> Chain {
    Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await
}

/// Deploys a contract in block 1 and calls it once in each of the next blocks.
async fn emit(chain: &Chain, code: Bytes, blocks: usize) -> Address {
    let wallet = chain.wallet();
    let contract = chain.signer.address().create(0);
    let calls = vec![TransactionRequest::default().with_to(contract); blocks];
    for request in [vec![TransactionRequest::default().with_deploy_code(code)], calls].concat() {
        let sent = wallet.send_transaction(request).await.expect("sent");
        sent.get_receipt().await.expect("receipt");
    }
    contract
}

fn range(from: u64, to: u64) -> Value {
    json!([{ "fromBlock": format!("{from:#x}"), "toBlock": format!("{to:#x}") }])
}

fn count(logs: &Value) -> usize {
    logs.as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_block_may_have_any_number_of_logs() {
    let chain = chain(RpcLimits { max_logs: 2, ..RpcLimits::default() }).await;
    let contract = emit(&chain, counter(), 1).await;
    let followed = chain.result("eth_newFilter", json!([{ "address": contract }])).await;
    chain.pool.hold().await;
    for _ in 0..3 {
        let call = TransactionRequest::default().with_to(contract).with_gas_limit(100_000);
        // There is no receipt to wait for while the pool holds it.
        let _ = chain.wallet().send_transaction(call).await.expect("sent");
    }
    chain.pool.release().await;

    let block = chain.result("eth_getBlockByNumber", json!(["0x3", false])).await;
    let by_hash = json!([{ "blockHash": block["hash"] }]);
    assert_eq!(count(&chain.result("eth_getLogs", range(3, 3)).await), 3);
    assert_eq!(count(&chain.result("eth_getLogs", by_hash).await), 3);
    let latest = json!([{ "fromBlock": "latest" }]);
    assert_eq!(count(&chain.result("eth_getLogs", latest).await), 3);
    assert_eq!(count(&chain.result("eth_getFilterChanges", json!([followed])).await), 3);
    let (code, message, _) = chain.error("eth_getLogs", range(2, 3)).await;
    assert_eq!(code, -32005, "{message}");
    assert!(message.contains("fewer blocks"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_logs_are_bounded() {
    // A log of this contract takes 256 KiB and some.
    let chain = chain(RpcLimits { max_log_bytes: 600_000, ..RpcLimits::default() }).await;
    emit(&chain, loud(), 4).await;
    assert_eq!(count(&chain.result("eth_getLogs", range(2, 3)).await), 2);
    let (code, message, _) = chain.error("eth_getLogs", range(2, 4)).await;
    assert_eq!(code, -32005, "{message}");
    assert!(message.contains("600000 bytes") && message.contains("fewer blocks"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_single_blocks_logs_are_bounded_too() {
    let chain = chain(RpcLimits { max_log_bytes: 200_000, ..RpcLimits::default() }).await;
    emit(&chain, loud(), 1).await;
    let block = chain.result("eth_getBlockByNumber", json!(["0x2", false])).await;
    for params in [range(2, 2), json!([{ "blockHash": block["hash"] }])] {
        let (code, message, _) = chain.error("eth_getLogs", params).await;
        assert_eq!(code, -32005, "{message}");
        assert!(message.contains("name addresses"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_reports_within_the_bytes_what_a_poll_can_hold() {
    let chain = chain(RpcLimits { max_log_bytes: 600_000, ..RpcLimits::default() }).await;
    let filter = chain.result("eth_newFilter", json!([{}])).await;
    emit(&chain, loud(), 5).await;
    let mut reported = 0;
    while reported < 5 {
        let logs = chain.result("eth_getFilterChanges", json!([filter])).await;
        assert!((1..=2).contains(&count(&logs)), "{}", count(&logs));
        reported += count(&logs);
    }
    assert_eq!(reported, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_searches_run_at_once() {
    let chain = chain(RpcLimits { max_log_searches: 1, ..RpcLimits::default() }).await;
    let heads = chain.pool.gate.lock().await;
    let filter = json!([{ "fromBlock": "safe" }]);
    let waiting = async { chain.result("eth_getLogs", filter).await };
    let refused = async {
        chain.pool.asked.notified().await;
        let (code, message, _) = chain.error("eth_getLogs", range(0, 0)).await;
        // Other calls are not held up.
        chain.result("eth_blockNumber", json!([])).await;
        drop(heads);
        (code, message)
    };
    let (found, (code, message)) = tokio::join!(waiting, refused);
    assert_eq!(count(&found), 0);
    assert_eq!(code, -32005, "{message}");
    assert!(message.contains("log searches") && message.contains("again"), "{message}");
    assert_eq!(count(&chain.result("eth_getLogs", range(0, 0)).await), 0);
}
