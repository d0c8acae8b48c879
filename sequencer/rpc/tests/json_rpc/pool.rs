//! What waits in the pool: sent and waited for, listed.

use std::time::Duration;

use alloy::{
    primitives::{B256, keccak256},
    providers::{Provider, ProviderBuilder, WsConnect},
};
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};

use crate::support::{Chain, SOMEBODY, signed};

/// EIP-7966: the receipt in one call, or an error that says why there is none, with the hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_sent_and_its_receipt_waited_for() {
    const METHOD: &str = "eth_sendRawTransactionSync";
    let limits = RpcLimits { sync_timeout: Duration::from_millis(50), ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let raw = signed(&chain, 0).await;
    let receipt = chain.result(METHOD, json!([raw])).await;
    let hash = json!([keccak256(&raw)]);
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt, chain.result("eth_getTransactionReceipt", hash).await);

    // In no block in time: the default one, also in the place of one that is none.
    chain.pool.hold().await;
    for (nonce, timeout) in [(1, None), (2, Some(json!(0))), (3, Some(json!("0x1")))] {
        let raw = signed(&chain, nonce).await;
        let parameters: Vec<_> = [json!(raw)].into_iter().chain(timeout).collect();
        let (code, message, data) = chain.error(METHOD, json!(parameters)).await;
        assert_eq!((code, data), (4, json!(keccak256(&raw))), "{message}");
        assert!(message.contains("accepted"), "{message}");
    }
    // It waits for another.
    let (code, message, data) = chain.error(METHOD, json!([signed(&chain, 9).await])).await;
    assert_eq!((code, data), (5, json!(keccak256(signed(&chain, 9).await))), "{message}");
    // As eth_sendRawTransaction.
    let (code, message, _) = chain.error(METHOD, json!([raw])).await;
    assert_eq!((code, message.as_str()), (-32000, "already known"));

    // No more wait than may; nothing is submitted then.
    let limits = RpcLimits { max_sync_waits: 0, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let (code, message, _) = chain.error(METHOD, json!([signed(&chain, 0).await])).await;
    assert!(code == -32005 && message.contains("use eth_sendRawTransaction"), "{message}");
    assert_eq!(chain.result("eth_blockNumber", json!([])).await, "0x0");

    // The block comes while the call waits.
    let chain = Chain::start().await;
    chain.pool.hold().await;
    let raw = signed(&chain, 0).await;
    let (receipt, ()) = tokio::join!(chain.result(METHOD, json!([raw, "0xea60"])), async {
        while chain.result("txpool_status", json!([])).await["pending"] == "0x0" {}
        chain.pool.release().await;
    });
    assert_eq!(receipt["transactionHash"], json!(keccak256(&raw)));
    assert_eq!(
        chain.result("millrace_getTransactionStatus", json!([B256::ZERO])).await,
        json!(null)
    );
}

/// As geth shows it: by sender, then by nonce in decimal.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_listed_as_geth_lists_it() {
    let limits = RpcLimits { max_pool_content: 2, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    chain.pool.hold().await;
    for nonce in 0..2 {
        let raw = signed(&chain, nonce).await;
        chain.result("eth_sendRawTransaction", json!([raw])).await;
    }
    let sender = chain.signer.address().to_checksum(None);
    let content = chain.result("txpool_content", json!([])).await;
    let first = &content["pending"][&sender]["0"];
    assert_eq!((&first["nonce"], &first["blockHash"]), (&json!("0x0"), &Value::Null));
    assert_eq!(first["hash"], json!(keccak256(signed(&chain, 0).await)));
    assert_eq!(first.get("blockTimestamp"), Some(&Value::Null));
    assert_eq!(content["pending"][&sender].as_object().expect("by nonce").len(), 2);
    assert_eq!(content["queued"], json!({}));
    let from = chain.result("txpool_contentFrom", json!([sender])).await;
    assert_eq!(from, json!({ "pending": content["pending"][&sender], "queued": {} }));
    let nobody = chain.result("txpool_contentFrom", json!([SOMEBODY])).await;
    assert_eq!(nobody, json!({ "pending": {}, "queued": {} }));
    let said = chain.result("txpool_inspect", json!([])).await;
    let to = SOMEBODY.to_checksum(None);
    let line = format!("{to}: 1 wei + 21000 gas \u{d7} 100000000000 wei");
    assert_eq!(said["pending"][&sender]["1"], json!(line));

    // More than may be listed at once.
    chain.result("eth_sendRawTransaction", json!([signed(&chain, 2).await])).await;
    let (code, message, _) = chain.error("txpool_content", json!([])).await;
    assert!(code == -32005 && message.contains("txpool_status"), "{code}: {message}");
    assert_eq!(chain.result("txpool_status", json!([])).await["pending"], "0x3");
}

/// Limits on clients need to know where each is, whichever way it comes.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_told_where_a_transaction_came_from() {
    let chain = Chain::start().await;
    chain.result("eth_sendRawTransaction", json!([signed(&chain, 0).await])).await;
    chain.result("eth_sendRawTransactionSync", json!([signed(&chain, 1).await])).await;
    let call = |id, raw| json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw]});
    let (second, third) = (signed(&chain, 2).await, signed(&chain, 3).await);
    chain.post(&json!([call(1, second), call(2, third)])).await;
    let socket = ProviderBuilder::new().connect_ws(WsConnect::new(chain.ws())).await;
    let raw = signed(&chain, 4).await;
    let sent = socket.expect("connected").send_raw_transaction(&raw).await;
    assert_eq!(*sent.expect("accepted").tx_hash(), keccak256(&raw));
    let here = Some([127, 0, 0, 1].into());
    assert_eq!(*chain.pool.senders.lock().await, [here; 4]);
}
