//! `pending`: the open block, as far as it is told.

use std::sync::Arc;

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes},
    rpc::types::TransactionRequest,
};
use millrace_proto::{BlockSelector, Executor, RecoveredTx};
use serde_json::{Value, json};

use crate::support::{Chain, SOMEBODY, counter, sign, signed};

async fn decoded(raw: Bytes) -> Arc<RecoveredTx> {
    Arc::new(RecoveredTx::decode(raw).expect("it is signed"))
}

/// A transfer, a contract, and a call that counts.
async fn transactions(chain: &Chain) -> (Vec<Arc<RecoveredTx>>, Address) {
    let contract = chain.signer.address().create(1);
    let deployment = TransactionRequest::default().with_deploy_code(counter()).with_nonce(1);
    let call = TransactionRequest::default().with_to(contract).with_nonce(2);
    let raw = [signed(chain, 0).await, sign(chain, deployment).await, sign(chain, call).await];
    let mut decoded_txs = Vec::new();
    for raw in raw {
        decoded_txs.push(decoded(raw).await);
    }
    (decoded_txs, contract)
}

/// What is asked at `pending` and at `latest`.
fn questions(chain: &Chain, contract: Address) -> Vec<(&'static str, Vec<Value>)> {
    let count = json!({ "to": contract, "data": "0x01", "from": chain.signer.address() });
    let slots = json!({ contract.to_string(): ["0x0"], SOMEBODY.to_string(): ["0x1"] });
    let simulation = json!({ "blockStateCalls": [{ "calls": [count] }] });
    vec![
        ("eth_getBalance", vec![json!(SOMEBODY)]),
        ("eth_getCode", vec![json!(contract)]),
        ("eth_getStorageAt", vec![json!(contract), json!("0x0")]),
        ("eth_getStorageValues", vec![slots]),
        ("eth_call", vec![count.clone()]),
        ("eth_estimateGas", vec![count.clone()]),
        ("eth_createAccessList", vec![count]),
        ("eth_simulateV1", vec![simulation]),
        ("eth_getBlockTransactionCountByNumber", vec![]),
        ("eth_getUncleCountByBlockNumber", vec![]),
    ]
}

async fn answers(chain: &Chain, contract: Address, tag: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for (method, mut params) in questions(chain, contract) {
        params.push(json!(tag));
        let mut answer = chain.result(method, json!(params)).await;
        if method == "eth_simulateV1" {
            // Of the block that it follows, nobody knows the hash while it is open.
            let block = answer[0].as_object_mut().expect("a block");
            for field in ["hash", "parentHash"] {
                block.remove(field);
            }
        }
        answers.push(answer);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_reads_the_open_block_as_latest_reads_it_once_it_is_sealed() {
    let chain = Chain::start().await;
    let (txs, contract) = transactions(&chain).await;
    let before = answers(&chain, contract, "latest").await;
    assert_eq!(answers(&chain, contract, "pending").await, before, "no block is open");
    let open = chain.pool.open(txs.clone()).await;
    let pending = answers(&chain, contract, "pending").await;
    assert_eq!(answers(&chain, contract, "latest").await, before);
    assert_eq!(pending[0], json!("0x1"));
    assert_eq!(pending[2], json!(B256::with_last_byte(1)));
    assert_eq!(pending[8], json!("0x3"));
    assert!(pending.iter().zip(&before).take(8).all(|(pending, before)| pending != before));

    let block = chain.result("eth_getBlockByNumber", json!(["pending", false])).await;
    let full = chain.result("eth_getBlockByNumber", json!(["pending", true])).await;
    let by_index = ("eth_getTransactionByBlockNumberAndIndex", json!(["pending", "0x2"]));
    let third = chain.result(by_index.0, by_index.1).await;
    assert_eq!(third, full["transactions"][2]);
    assert_eq!(third["blockHash"], Value::Null);
    // What is in no block yet has no receipt.
    let hash = txs[0].hash();
    assert_eq!(chain.result("eth_getTransactionReceipt", json!([hash])).await, Value::Null);

    open.seal().await.expect("it seals");
    assert_eq!(answers(&chain, contract, "latest").await, pending);
    assert_eq!(answers(&chain, contract, "pending").await, pending);
    let sealed = chain.result("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(chain.result("eth_getBlockByNumber", json!(["pending", false])).await, sealed);
    let not_yet = [
        "hash",
        "nonce",
        "miner",
        "logsBloom",
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "requestsHash",
        "size",
    ];
    for (field, value) in sealed.as_object().expect("a block") {
        let expected = if not_yet.contains(&field.as_str()) { &Value::Null } else { value };
        assert_eq!(block.get(field), Some(expected), "{field}");
    }
    assert_eq!(
        block.as_object().map(serde_json::Map::len),
        sealed.as_object().map(serde_json::Map::len)
    );
    let hashes: Vec<_> = txs.iter().map(|tx| json!(tx.hash())).collect();
    let of_full = full["transactions"].as_array().expect("a list");
    assert!(of_full.iter().map(|tx| tx["hash"].clone()).eq(hashes));
}

/// What the executor has lost is not shown as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_block_that_is_lost_is_an_error_until_it_is_there_again() {
    let chain = Chain::start().await;
    let transfer = decoded(signed(&chain, 0).await).await;
    let open = chain.pool.open(vec![transfer.clone()]).await;
    drop(open);
    let point = chain.pool.open.lock().expect("it was told");
    let at = BlockSelector::Open(point);
    while chain.pool.executor.accounts(&[SOMEBODY], at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let balance = json!([SOMEBODY, "pending"]);
    let (code, message, _) = chain.error("eth_getBalance", balance.clone()).await;
    assert_eq!((code, message.as_str()), (-32002, "the open block is built again; try again"));
    let (answer, open) =
        tokio::join!(chain.result("eth_getBalance", balance), chain.pool.open(vec![transfer]));
    assert_eq!(answer, json!("0x1"));
    drop(open);
}
