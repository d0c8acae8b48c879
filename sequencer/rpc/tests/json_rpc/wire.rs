//! The bytes on the wire: field formats, error codes, limits.

use crate::support::{CHAIN_ID, Chain, SOMEBODY, counter, loud, signed};
use alloy::{
    consensus::{
        Block,
        proofs::{calculate_transaction_root, ordered_trie_root_with_encoder},
    },
    eips::Encodable2718,
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::Provider,
    rlp::Decodable,
    rpc::types::TransactionRequest,
};
use millrace_proto::{Deposit, RecoveredTx, TxEnvelope};
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};
use std::sync::Arc;

fn is_quantity(value: &Value) -> bool {
    let Some(digits) = value.as_str().and_then(|text| text.strip_prefix("0x")) else {
        return false;
    };
    !digits.is_empty()
        && (digits == "0" || !digits.starts_with('0'))
        && digits.chars().all(|digit| digit.is_ascii_hexdigit())
}

fn is_data(value: &Value, bytes: usize) -> bool {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    digits.is_some_and(|digits| {
        digits.len() == 2 * bytes && digits.chars().all(|digit| digit.is_ascii_hexdigit())
    })
}

fn assert_formats(object: &Value, quantities: &[&str], data: &[(&str, usize)]) {
    for field in quantities {
        assert!(is_quantity(&object[field]), "{field} in {object}");
    }
    for (field, bytes) in data {
        assert!(is_data(&object[field], *bytes), "{field} in {object}");
    }
}

async fn send(chain: &Chain, request: TransactionRequest) {
    let sent = chain.wallet().send_transaction(request).await.expect("sent");
    sent.get_receipt().await.expect("receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_what_it_is() {
    let chain = Chain::start().await;
    assert_eq!(chain.result("eth_chainId", json!([])).await, format!("{CHAIN_ID:#x}"));
    assert_eq!(chain.result("net_version", json!([])).await, CHAIN_ID.to_string());
    assert_eq!(chain.result("net_listening", json!([])).await, true);
    assert_eq!(chain.result("eth_blockNumber", json!([])).await, "0x0");
    assert_eq!(chain.result("eth_syncing", json!([])).await, false);
    assert_eq!(chain.result("eth_accounts", json!([])).await, json!([]));
    let version = chain.result("web3_clientVersion", json!([])).await;
    assert!(version.as_str().is_some_and(|version| version.starts_with("millrace/v")));
    assert_eq!(
        chain.result("web3_sha3", json!(["0x68656c6c6f20776f726c64"])).await,
        "0x47173285a8d7341e5e972fc677286384f802f8ef42a5ec5f03bbfa254cb01fad"
    );
    let status = chain.result("txpool_status", json!([])).await;
    assert_eq!(status, json!({"pending": "0x0", "queued": "0x0"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_have_the_standard_fields() {
    let chain = Chain::start().await;
    send(&chain, TransactionRequest::default().with_to(SOMEBODY).with_value(U256::ONE)).await;
    let block = chain.result("eth_getBlockByNumber", json!(["0x1", false])).await;
    let quantities = [
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "difficulty",
        "baseFeePerGas",
        "size",
        "blobGasUsed",
        "excessBlobGas",
    ];
    let data = [
        ("hash", 32),
        ("parentHash", 32),
        ("sha3Uncles", 32),
        ("miner", 20),
        ("stateRoot", 32),
        ("transactionsRoot", 32),
        ("receiptsRoot", 32),
        ("logsBloom", 256),
        ("mixHash", 32),
        ("nonce", 8),
        ("withdrawalsRoot", 32),
        ("parentBeaconBlockRoot", 32),
        ("requestsHash", 32),
        ("extraData", 13),
    ];
    assert_formats(&block, &quantities, &data);
    assert_eq!(block["uncles"], json!([]));
    assert_eq!(block["withdrawals"], json!([]));
    assert!(is_data(&block["transactions"][0], 32));

    let hash = &block["hash"];
    let full = chain.result("eth_getBlockByHash", json!([hash, true])).await;
    let tx = &full["transactions"][0];
    let quantities = [
        "type",
        "chainId",
        "nonce",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "value",
        "v",
        "r",
        "s",
        "yParity",
        "blockNumber",
        "transactionIndex",
    ];
    let data = [("hash", 32), ("blockHash", 32), ("from", 20), ("to", 20), ("input", 0)];
    assert_formats(tx, &quantities, &data);
    assert_eq!(tx["accessList"], json!([]));

    assert_eq!(
        chain.result("eth_getBlockTransactionCountByNumber", json!(["latest"])).await,
        "0x1"
    );
    assert_eq!(chain.result("eth_getBlockTransactionCountByHash", json!([hash])).await, "0x1");
    for (method, block) in [
        ("eth_getTransactionByBlockNumberAndIndex", &json!("0x1")),
        ("eth_getTransactionByBlockHashAndIndex", hash),
    ] {
        assert_eq!(&chain.result(method, json!([block, "0x0"])).await, tx);
        assert_eq!(chain.result(method, json!([block, "0x1"])).await, Value::Null);
    }
    let unknown = json!([format!("0x{}", "77".repeat(32)), false]);
    assert_eq!(chain.result("eth_getBlockByHash", unknown).await, Value::Null);
    assert_eq!(chain.result("eth_getBlockReceipts", json!(["0x9"])).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_block_is_its_rlp() {
    use alloy::{
        consensus::{BlockBody, TxEnvelope as Envelope},
        rlp::Encodable,
    };
    let chain = Chain::start().await;
    send(&chain, TransactionRequest::default().with_deploy_code(counter())).await;
    let wallet = chain.wallet();
    let block = wallet.get_block_by_number(1.into()).full().await.expect("block").expect("is");
    let size = block.header.size;
    let transactions: Vec<Envelope> =
        block.transactions.txns().map(|tx| tx.inner.inner().clone()).collect();
    let body = BlockBody { transactions, ommers: vec![], withdrawals: Some(Default::default()) };
    let encoded = body.into_block(block.header.inner.clone());
    assert_eq!(size, Some(U256::from(encoded.length())));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_have_the_standard_fields() {
    let chain = Chain::start().await;
    send(&chain, TransactionRequest::default().with_deploy_code(counter())).await;
    let receipts = chain.result("eth_getBlockReceipts", json!(["latest"])).await;
    let receipt = &receipts[0];
    let quantities = [
        "type",
        "status",
        "cumulativeGasUsed",
        "gasUsed",
        "effectiveGasPrice",
        "transactionIndex",
        "blockNumber",
    ];
    let data = [
        ("transactionHash", 32),
        ("blockHash", 32),
        ("from", 20),
        ("contractAddress", 20),
        ("logsBloom", 256),
    ];
    assert_formats(receipt, &quantities, &data);
    assert_eq!(receipt["to"], Value::Null);
    assert!(receipt.get("blobGasUsed").is_none());

    let contract = receipt["contractAddress"].as_str().expect("an address");
    let contract: Address = contract.parse().expect("an address");
    send(&chain, TransactionRequest::default().with_to(contract)).await;
    let receipts = chain.result("eth_getBlockReceipts", json!(["latest"])).await;
    let log = &receipts[0]["logs"][0];
    let quantities = ["blockNumber", "transactionIndex", "logIndex"];
    let data = [("address", 20), ("data", 32), ("blockHash", 32), ("transactionHash", 32)];
    assert_formats(log, &quantities, &data);
    assert_eq!(log["removed"], false);
    assert_eq!(receipts[0]["contractAddress"], Value::Null);
}

/// The OP Stack's form, which clients know: zeros where they want a nonce, a price and a signature.
#[tokio::test(flavor = "multi_thread")]
async fn deposits_have_the_op_stacks_fields() {
    let chain = Chain::start().await;
    let deposit = Deposit {
        index: 0,
        from: Address::repeat_byte(1),
        to: SOMEBODY,
        value: U256::from(5),
        gas_limit: 100_000,
        data: Default::default(),
    };
    let tx = TxEnvelope::from(deposit.to_tx(Address::repeat_byte(2)));
    let tx = Arc::new(RecoveredTx::recover(tx).expect("deposits name their sender"));
    chain.pool.seal(vec![tx.clone()]).await.expect("deposits are always included");

    let block = chain.result("eth_getBlockByNumber", json!(["latest", true])).await;
    let shown = &block["transactions"][0];
    assert_formats(
        shown,
        &["mint", "value", "gas", "nonce", "gasPrice", "v", "r", "s", "blockNumber"],
        &[("sourceHash", 32), ("hash", 32), ("from", 20), ("to", 20), ("input", 0)],
    );
    assert_eq!(shown["type"], "0x7e");
    assert_eq!(shown["mint"], "0x5");
    assert_eq!(shown["hash"], tx.hash().to_string());
    let receipt = chain.result("eth_getTransactionReceipt", json!([tx.hash()])).await;
    assert_eq!(receipt["type"], "0x7e");
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["effectiveGasPrice"], "0x0");
    assert_eq!(chain.result("eth_getBalance", json!([SOMEBODY, "latest"])).await, "0x5");
    let tips = chain.result("eth_feeHistory", json!(["0x1", "latest", [50]])).await;
    assert_eq!(tips["reward"], json!([["0x0"]]), "a deposit bids nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn block_parameters_take_every_form() {
    let chain = Chain::start().await;
    send(&chain, TransactionRequest::default().with_to(SOMEBODY).with_value(U256::ONE)).await;
    let hash = chain.result("eth_getBlockByNumber", json!(["latest", false])).await["hash"].clone();
    let forms = [
        json!("latest"),
        json!("0x1"),
        hash.clone(),
        json!({ "blockNumber": "0x1" }),
        json!({ "blockHash": hash }),
        json!({ "blockHash": hash, "requireCanonical": true }),
        Value::Null,
    ];
    for form in forms {
        let balance = chain.result("eth_getBalance", json!([SOMEBODY, form])).await;
        assert_eq!(balance, "0x1", "{form}");
    }
    assert_eq!(chain.result("eth_getBalance", json!([SOMEBODY])).await, "0x1");
    assert_eq!(chain.result("eth_getBalance", json!([SOMEBODY, "0x0"])).await, "0x0");
    for unknown in [json!("0x9"), json!({ "blockHash": format!("0x{}", "77".repeat(32)) })] {
        let (code, ..) = chain.error("eth_getBalance", json!([SOMEBODY, unknown])).await;
        assert_eq!(code, -32001, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_standard_codes() {
    let chain = Chain::start().await;
    let cases = [
        ("eth_nonsense", json!([]), -32601),
        ("eth_getBalance", json!([]), -32602),
        ("eth_getBalance", json!(["0x12"]), -32602),
        ("eth_getBalance", json!([SOMEBODY, "newest"]), -32602),
        ("eth_call", json!([{ "to": SOMEBODY, "data": "0x01", "input": "0x02" }]), -32602),
        ("eth_getLogs", json!([{ "fromBlock": "0x2", "toBlock": "0x1" }]), -32602),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x9" }]), -32602),
        ("eth_getLogs", json!([{ "fromBlock": "0x9", "toBlock": "0x9" }]), -32602),
        ("eth_getStorageAt", json!([SOMEBODY, format!("0x{}", "0".repeat(65)), "latest"]), -32602),
        ("eth_feeHistory", json!(["0x1", "latest", [50, 20]]), -32602),
        ("eth_sendRawTransaction", json!(["nothex"]), -32602),
        ("eth_sendRawTransaction", json!(["0x"]), -32000),
        ("eth_call", json!([{ "from": SOMEBODY, "to": SOMEBODY, "value": "0x1" }]), -32000),
    ];
    for (method, params, expected) in cases {
        let (code, message, _) = chain.error(method, params.clone()).await;
        assert_eq!(code, expected, "{method} {params}: {message}");
        assert!(!message.is_empty());
    }
    let reply = reqwest::Client::new()
        .post(chain.http())
        .header("content-type", "application/json")
        .body("{not json")
        .send()
        .await
        .expect("reply");
    let reply: Value = reply.json().await.expect("JSON");
    assert_eq!(reply["error"]["code"], -32700);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_transactions_say_why() {
    let chain = Chain::start().await;
    let wallet = chain.wallet();
    send(&chain, TransactionRequest::default().with_to(SOMEBODY)).await;
    let block = wallet.get_block_by_number(1.into()).await.expect("block").expect("is");
    let hash = block.transactions.hashes().next().expect("one");
    let raw = wallet.get_raw_transaction_by_hash(hash).await.expect("raw").expect("is");
    let (code, message, data) = chain.error("eth_sendRawTransaction", json!([raw])).await;
    assert_eq!((code, message.as_str()), (-32000, "already known"));
    assert_eq!(data["reason"], "ALREADY_KNOWN");

    let again = TransactionRequest::default().with_to(SOMEBODY).with_nonce(0).with_value(U256::ONE);
    let refused = wallet.send_transaction(again).await.expect_err("its nonce is used");
    let payload = refused.as_error_resp().expect("an error reply").clone();
    assert_eq!(payload.code, -32000);
    assert!(payload.message.starts_with("nonce too low"), "{}", payload.message);
    assert!(payload.data.is_some_and(|data| data.get().contains("NONCE_TOO_LOW")));

    let (_, message, data) = chain.error("eth_sendRawTransaction", json!(["0x02c0"])).await;
    assert!(message.contains("EIP-2718"), "{message}");
    assert_eq!(data["reason"], "BAD_ENCODING");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told() {
    let limits = RpcLimits {
        max_request_bytes: 4_096,
        max_batch: 3,
        max_log_blocks: 2,
        max_logs: 1,
        max_log_criteria: 2,
        max_proof_keys: 1,
        max_filters: 1,
        ..RpcLimits::default()
    };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    send(&chain, TransactionRequest::default().with_deploy_code(counter())).await;
    let contract = chain.signer.address().create(0);
    for _ in 0..2 {
        send(&chain, TransactionRequest::default().with_to(contract)).await;
    }
    let cases = [
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x2" }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x2", "toBlock": "0x3" }])),
        ("eth_getLogs", json!([{ "address": [contract, SOMEBODY, Address::ZERO] }])),
        ("eth_getProof", json!([contract, ["0x0", "0x1"], "latest"])),
    ];
    for (method, params) in cases {
        let (code, message, _) = chain.error(method, params.clone()).await;
        assert_eq!(code, -32005, "{method} {params}: {message}");
        assert!(message.contains("limit"), "{message}");
    }
    chain.result("eth_newBlockFilter", json!([])).await;
    assert_eq!(chain.error("eth_newBlockFilter", json!([])).await.0, -32005);

    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []});
    let batch = chain.post(&Value::Array(vec![call.clone(); 3])).await;
    assert_eq!(batch.as_array().map(Vec::len), Some(3));
    let too_many = chain.post(&Value::Array(vec![call; 4])).await;
    assert_eq!(too_many["error"]["code"], -32010);
    let too_large = chain.raw("web3_sha3", json!([format!("0x{}", "00".repeat(4_096))])).await;
    assert_eq!(too_large["error"]["code"], -32007);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_follow_each_other_in_a_batch_go_in_together() {
    let limits = RpcLimits { max_calls: 1, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let signer = chain.signer.clone();
    let mut raw = Vec::new();
    for nonce in 0..3 {
        raw.push(json!([signed(&chain, nonce).await]));
    }
    let call = |id: usize, method: &str, params: &Value| -> Value {
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    };
    let send = |id: usize, params: &Value| -> Value { call(id, "eth_sendRawTransaction", params) };
    let count = json!([signer.address(), "pending"]);
    let batch = [
        send(0, &raw[0]),
        send(1, &raw[1]),
        send(2, &raw[0]),
        call(3, "eth_getTransactionCount", &count),
        send(4, &json!(["nonsense"])),
        send(5, &raw[2]),
        send(6, &json!(["0x02ff"])),
    ];
    let responses = chain.post(&Value::Array(batch.to_vec())).await;
    let responses = responses.as_array().expect("a batch");
    for (id, response) in responses.iter().enumerate() {
        assert_eq!(response["id"], id, "in order: {response}");
        assert_eq!(response["jsonrpc"], "2.0");
    }
    for id in [0, 1, 5] {
        assert!(is_data(&responses[id]["result"], 32), "{}", responses[id]);
    }
    let code = |id: usize| responses[id]["error"]["code"].as_i64();
    assert_eq!((code(2), code(4), code(6)), (Some(-32000), Some(-32602), Some(-32000)));
    assert_eq!(responses[3]["result"], "0x2", "what came before it in the batch is in");
    assert_eq!(*chain.pool.admitted.lock().await, [3, 2]);
}

/// Whoever has the bytes has the block: its hash and its roots follow from them.
#[tokio::test(flavor = "multi_thread")]
async fn raw_blocks_and_receipts_give_the_headers_roots() {
    let chain = Chain::start().await;
    send(&chain, TransactionRequest::default().with_deploy_code(loud())).await;
    let deposit = Deposit {
        index: 0,
        from: SOMEBODY,
        to: SOMEBODY,
        value: U256::from(5),
        gas_limit: 100_000,
        data: Bytes::new(),
    };
    let deposit = TxEnvelope::from(deposit.to_tx(Address::repeat_byte(2)));
    let deposit = Arc::new(RecoveredTx::recover(deposit).expect("deposits name their sender"));
    chain.pool.seal(vec![deposit]).await.expect("deposits are always included");
    let bytes = |value: Value| -> Bytes { serde_json::from_value(value).expect("bytes") };
    for number in 0..=2 {
        let at = json!([format!("{number:#x}")]);
        let block =
            chain.result("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await;
        let header = bytes(chain.result("debug_getRawHeader", at.clone()).await);
        let hash =
            |value: &Value| -> B256 { serde_json::from_value(value.clone()).expect("a hash") };
        assert_eq!(keccak256(&header), hash(&block["hash"]));
        let raw = bytes(chain.result("debug_getRawBlock", at.clone()).await);
        let whole = Block::<TxEnvelope>::decode(&mut &raw[..]).expect("a block's RLP");
        assert_eq!(alloy::rlp::encode(&whole.header), header);
        assert_eq!(
            calculate_transaction_root(&whole.body.transactions),
            whole.header.transactions_root
        );
        assert_eq!(block["size"], format!("{:#x}", raw.len()));
        let by_hash = json!([block["hash"]]);
        assert_eq!(bytes(chain.result("debug_getRawBlock", by_hash).await), raw);
        let receipts = chain.result("debug_getRawReceipts", at).await;
        let receipts: Vec<Bytes> = serde_json::from_value(receipts).expect("bytes");
        let root = ordered_trie_root_with_encoder(&receipts, |receipt, out| {
            out.extend_from_slice(receipt);
        });
        assert_eq!(root, whole.header.receipts_root);
        for tx in &whole.body.transactions {
            let raw = chain.result("debug_getRawTransaction", json!([tx.hash()])).await;
            assert_eq!(bytes(raw), tx.encoded_2718());
        }
    }
    let unknown = json!([B256::repeat_byte(1)]);
    assert!(chain.result("debug_getRawTransaction", unknown.clone()).await.is_null());
    for method in ["debug_getRawHeader", "debug_getRawBlock", "debug_getRawReceipts"] {
        assert_eq!(chain.error(method, json!(["0x99"])).await.0, -32001, "{method}");
        assert_eq!(chain.error(method, unknown.clone()).await.0, -32001, "{method}");
        assert_eq!(chain.error(method, json!(["2"])).await.0, -32602, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_refused() {
    let limits = RpcLimits { max_connections: 1, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    let (first, second) = (reqwest::Client::new(), reqwest::Client::new());
    let post = |client: &reqwest::Client| client.post(chain.http()).json(&call).send();
    assert!(post(&first).await.is_ok());
    assert!(post(&second).await.is_err(), "the first client keeps its connection");
    assert!(post(&first).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_let_in_from_configured_origins() {
    let cors_origins = vec!["https://app.example.org".to_owned()];
    let chain = Chain::with(RpcConfig { cors_origins, ..RpcConfig::default() }).await;
    let allowed = |origin: &'static str| {
        let request = reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, chain.http())
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        async move {
            let reply = request.send().await.expect("reply");
            reply.headers().get("access-control-allow-origin").is_some()
        }
    };
    assert!(allowed("https://app.example.org").await);
    assert!(!allowed("https://evil.example.org").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_block_has_uncles() {
    let chain = Chain::start().await;
    let genesis = chain.result("eth_getBlockByNumber", json!(["0x0", false])).await["hash"].clone();
    for (method, block, none) in [
        ("eth_getUncleCountByBlockNumber", json!("0x0"), json!("0x99")),
        ("eth_getUncleCountByBlockHash", genesis.clone(), json!(B256::ZERO)),
    ] {
        assert_eq!(chain.result(method, json!([block])).await, "0x0");
        assert_eq!(chain.result(method, json!([none])).await, json!(null));
    }
    for (method, block) in [
        ("eth_getUncleByBlockNumberAndIndex", json!("0x0")),
        ("eth_getUncleByBlockHashAndIndex", genesis),
    ] {
        assert_eq!(chain.result(method, json!([block, "0x0"])).await, json!(null));
    }
}
