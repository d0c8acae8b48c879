//! The methods that read: what anvil answers after the same transactions, field by field; and those that anvil does not have.

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, TxHash, U256},
    rpc::types::TransactionRequest,
};
use millrace_proto::FrameFeed;
use millrace_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};

use crate::{
    anvil::{Allowed, Pair, assert_same, history},
    support::{CHAIN_ID, Chain, SOMEBODY, signed},
};

/// What two chains of the same transactions have differently, with the paths in a block.
const BLOCK: &[Allowed] = &[
    ("hash", "it covers what follows"),
    ("parentHash", "so does the parent's"),
    ("stateRoot", "the fee recipient has the base fees here, and anvil's genesis other accounts"),
    ("timestamp", "anvil's clock is the machine's"),
    ("mixHash", "this chain's is fixed, anvil's is random"),
    ("extraData", "here it says how far L1's queue is consumed"),
    ("size", "so it is longer"),
    ("totalDifficulty", "anvil still tells it"),
    ("transactions.*.blockHash", "the block's"),
    ("transactions.*.blockTimestamp", "the block's"),
];

/// The same in a transaction or a receipt.
const PLACED: &[Allowed] = &[
    ("blockHash", "the block's"),
    ("blockTimestamp", "the block's"),
    ("logs.*.blockHash", "the block's"),
    ("logs.*.blockTimestamp", "the block's"),
    ("blobGasPrice", "anvil tells it of every receipt, the specification of blob transactions"),
    ("blobGasUsed", "the same"),
];

/// The same in a list of them.
const PLACED_EACH: &[Allowed] = &[
    ("*.blockHash", "the block's"),
    ("*.blockTimestamp", "the block's"),
    ("*.logs.*.blockHash", "the block's"),
    ("*.logs.*.blockTimestamp", "the block's"),
    ("*.blobGasPrice", "anvil tells it of every receipt, the specification of blob transactions"),
    ("*.blobGasUsed", "the same"),
];

/// The same in a proof.
const PROOF: &[Allowed] = &[
    ("accountProof", "the state's other accounts differ"),
    ("accountProof.*", "the state's other accounts differ"),
];

async fn compare(pair: &Pair, method: &'static str, params: Value, allowed: &[Allowed]) {
    let (ours, theirs) = pair.both(method, params.clone()).await;
    assert_same(&format!("{method} {params}"), &ours, &theirs, allowed);
}

/// A chain's own hash of a block.
async fn hashes(pair: &Pair, number: &str) -> (Value, Value) {
    let (ours, theirs) = pair.both("eth_getBlockByNumber", json!([number, false])).await;
    (ours["hash"].clone(), theirs["hash"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_transactions_and_receipts_are_anvils() {
    let mut pair = Pair::start().await;
    let sent: Vec<TxHash> = history(&mut pair).await.into_iter().map(|(_, hash)| hash).collect();
    // And one at a price that follows the base fee.
    let dynamic = TransactionRequest::default()
        .with_to(SOMEBODY)
        .with_max_fee_per_gas(9_000_000_000)
        .with_max_priority_fee_per_gas(1_000_000_000);
    let dynamic = pair.send(dynamic.with_gas_limit(21_000)).await;
    for (index, hash) in sent.iter().chain([&dynamic]).enumerate() {
        let number = format!("{:#x}", index + 1);
        for whole in [false, true] {
            compare(&pair, "eth_getBlockByNumber", json!([number, whole]), BLOCK).await;
        }
        let (our_hash, their_hash) = hashes(&pair, &number).await;
        for (method, rest, allowed) in [
            ("eth_getBlockByHash", vec![json!(true)], BLOCK),
            ("eth_getBlockTransactionCountByHash", vec![], &[][..]),
            ("eth_getUncleCountByBlockHash", vec![], &[]),
            ("eth_getTransactionByBlockHashAndIndex", vec![json!("0x0")], PLACED),
            ("eth_getTransactionByBlockHashAndIndex", vec![json!("0x1")], PLACED),
        ] {
            let with = |hash: &Value| Value::Array([vec![hash.clone()], rest.clone()].concat());
            let ours = pair.ours.result(method, with(&our_hash)).await;
            let theirs = pair.anvil(method, with(&their_hash)).await;
            assert_same(&format!("{method} of {number}"), &ours, &theirs, allowed);
        }
        compare(&pair, "eth_getBlockTransactionCountByNumber", json!([number]), &[]).await;
        compare(&pair, "eth_getUncleCountByBlockNumber", json!([number]), &[]).await;
        compare(&pair, "eth_getBlockReceipts", json!([number]), PLACED_EACH).await;
        let at = json!([number, "0x0"]);
        compare(&pair, "eth_getTransactionByBlockNumberAndIndex", at, PLACED).await;
        compare(&pair, "eth_getTransactionByHash", json!([hash]), PLACED).await;
        compare(&pair, "eth_getTransactionReceipt", json!([hash]), PLACED).await;
        compare(&pair, "eth_getRawTransactionByHash", json!([hash]), &[]).await;
        compare(&pair, "debug_getRawTransaction", json!([hash]), &[]).await;
    }
    let none = json!([B256::repeat_byte(7)]);
    for method in [
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "eth_getBlockTransactionCountByHash",
        "eth_getRawTransactionByHash",
    ] {
        compare(&pair, method, none.clone(), &[]).await;
    }
    compare(&pair, "eth_getBlockByNumber", json!(["0x99", false]), &[]).await;
    compare(&pair, "eth_getBlockByHash", json!([B256::repeat_byte(7), false]), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_calls_and_logs_are_anvils() {
    let mut pair = Pair::start().await;
    history(&mut pair).await;
    let (from, counter_at) = (pair.sender(), pair.sender().create(0));
    let caller_at = from.create(1);
    let word = counter_at.into_word();
    for at in [json!("latest"), json!("0x3"), json!({ "blockNumber": "0x6" })] {
        for who in [from, counter_at, caller_at, SOMEBODY, Address::repeat_byte(9)] {
            compare(&pair, "eth_getBalance", json!([who, at]), &[]).await;
            compare(&pair, "eth_getTransactionCount", json!([who, at]), &[]).await;
            compare(&pair, "eth_getCode", json!([who, at]), &[]).await;
            for slot in ["0x0", "0x1"] {
                compare(&pair, "eth_getStorageAt", json!([who, slot, at]), &[]).await;
            }
        }
        compare(
            &pair,
            "eth_getProof",
            json!([counter_at, [B256::ZERO, B256::with_last_byte(1)], at]),
            PROOF,
        )
        .await;
        for call in [
            json!({ "to": counter_at, "input": "0x01" }),
            json!({ "to": caller_at, "input": word, "from": from, "value": "0x5" }),
            json!({ "to": SOMEBODY, "from": from, "value": "0x1" }),
            json!({ "to": Address::with_last_byte(4), "input": "0x1234" }),
        ] {
            compare(&pair, "eth_call", json!([call, at]), &[]).await;
        }
    }
    for call in [
        json!({ "to": SOMEBODY, "from": from, "value": "0x1" }),
        json!({ "to": counter_at, "from": from }),
        json!({ "to": counter_at, "from": from, "input": "0x01" }),
    ] {
        compare(&pair, "eth_createAccessList", json!([call, "latest"]), &[]).await;
        let (ours, theirs) = pair.both("eth_estimateGas", json!([call])).await;
        let gas = |value: &Value| serde_json::from_value::<U256>(value.clone()).expect("gas");
        // Both search, and stop when they are near enough: neither is to be wrong by more than one part in 50.
        let (ours, theirs) = (gas(&ours), gas(&theirs));
        assert!(ours <= theirs && theirs - ours <= ours / U256::from(50), "{ours} {theirs}");
    }
    for filter in [
        json!({ "fromBlock": "0x0", "toBlock": "latest" }),
        json!({ "fromBlock": "0x0", "address": counter_at }),
        json!({ "fromBlock": "0x0", "address": [caller_at, SOMEBODY] }),
        json!({ "fromBlock": "0x0", "topics": [B256::with_last_byte(0x2a), null] }),
        json!({ "fromBlock": "0x0", "topics": [null, [B256::with_last_byte(1), B256::with_last_byte(2)]] }),
        json!({ "fromBlock": "0x0", "topics": [B256::with_last_byte(1)] }),
        json!({ "fromBlock": "0x5", "toBlock": "0x6" }),
    ] {
        compare(&pair, "eth_getLogs", json!([filter]), PLACED_EACH).await;
    }
    for (method, params) in [
        ("eth_chainId", json!([])),
        ("net_version", json!([])),
        ("net_listening", json!([])),
        ("eth_blockNumber", json!([])),
        ("eth_syncing", json!([])),
        ("web3_sha3", json!(["0x1234"])),
        ("eth_blobBaseFee", json!([])),
        ("eth_getUncleByBlockNumberAndIndex", json!(["0x1", "0x0"])),
        ("txpool_status", json!([])),
        ("txpool_content", json!([])),
        ("txpool_inspect", json!([])),
    ] {
        compare(&pair, method, params, &[]).await;
    }
    let history = json!(["0x5", "latest", [10, 50, 90]]);
    compare(&pair, "eth_feeHistory", history, &[]).await;
    assert_eq!(pair.ours.result("eth_chainId", json!([])).await, format!("{CHAIN_ID:#x}"));
}

/// Filters that both install at the same time tell the same.
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_anvils() {
    let mut pair = Pair::start().await;
    let logs = pair.both("eth_newFilter", json!([{}])).await;
    let blocks = pair.both("eth_newBlockFilter", json!([])).await;
    history(&mut pair).await;
    let both = |method, (ours, theirs): &(Value, Value)| {
        let (ours, theirs) = (json!([ours]), json!([theirs]));
        let pair = &pair;
        async move { (pair.ours.result(method, ours).await, pair.anvil(method, theirs).await) }
    };
    let (ours, theirs) = both("eth_getFilterLogs", &logs).await;
    assert_same("eth_getFilterLogs", &ours, &theirs, PLACED_EACH);
    let list = |value: Value| value.as_array().cloned().expect("a list");
    // All that is new, in as many polls as it takes.
    let changes = async |filter: &(Value, Value)| {
        let (ours, theirs) = both("eth_getFilterChanges", filter).await;
        let (mut ours, theirs) = (list(ours), list(theirs));
        while ours.len() < theirs.len() {
            let more = pair.ours.result("eth_getFilterChanges", json!([filter.0])).await;
            ours.extend(list(more));
        }
        (ours, theirs)
    };
    let (ours, theirs) = changes(&logs).await;
    assert!(!ours.is_empty());
    assert_same("eth_getFilterChanges", &json!(ours), &json!(theirs), PLACED_EACH);
    let (ours, theirs) = changes(&blocks).await;
    assert_eq!((ours.len(), theirs.len()), (11, 11));
    for filter in [&logs, &blocks] {
        assert_eq!(both("eth_getFilterChanges", filter).await, (json!([]), json!([])));
    }
    for filter in [&logs, &blocks] {
        let (ours, theirs) = both("eth_uninstallFilter", filter).await;
        assert_eq!((ours, theirs), (json!(true), json!(true)));
        let (ours, theirs) = both("eth_uninstallFilter", filter).await;
        assert_eq!((ours, theirs), (json!(false), json!(false)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_slots_come_at_once() {
    let limits = RpcLimits { max_proof_keys: 3, ..RpcLimits::default() };
    let chain = Chain::with(RpcConfig { limits, ..RpcConfig::default() }).await;
    // Stores 7 in slot 0 and 9 in slot 2.
    let raw = crate::support::sign(
        &chain,
        TransactionRequest::default()
            .with_input(alloy::primitives::bytes!("6007600055600960025500"))
            .into_create(),
    )
    .await;
    chain.result("eth_sendRawTransaction", json!([raw])).await;
    let contract = format!("{:#x}", chain.signer.address().create(0));
    let nobody = format!("{:#x}", Address::repeat_byte(1));
    let word = |value: u8| json!(B256::with_last_byte(value));
    let asked = json!([{ contract.clone(): [word(2), "0x0"], nobody.clone(): ["0x5"] }]);
    let values = chain.result("eth_getStorageValues", asked.clone()).await;
    assert_eq!(values, json!({ contract.clone(): [word(9), word(7)], nobody.clone(): [word(0)] }));
    let before = json!([asked[0], "0x0"]);
    let values = chain.result("eth_getStorageValues", before).await;
    assert_eq!(values[&contract], json!([word(0), word(0)]));
    for (asked, code) in [
        (json!([{}]), -32602),
        (json!([{ contract.clone(): ["0x0", "0x1", "0x2", "0x3"] }]), -32005),
        (json!([{ contract: ["0x0"] }, "0x9"]), -32001),
    ] {
        assert_eq!(chain.error("eth_getStorageValues", asked.clone()).await.0, code, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_what_it_is_and_has() {
    let chain = Chain::start().await;
    let raw = signed(&chain, 0).await;
    chain.result("eth_sendRawTransaction", json!([raw])).await;
    let head = chain.result("eth_getBlockByNumber", json!(["latest", false])).await;
    let capabilities = chain.result("eth_capabilities", json!([])).await;
    assert_eq!(capabilities["head"], json!({ "number": "0x1", "hash": head["hash"] }));
    for resource in ["state", "tx", "logs", "receipts", "blocks", "stateproofs"] {
        assert_eq!(capabilities[resource], json!({ "disabled": false, "oldestBlock": "0x0" }));
    }
    assert_eq!(chain.result("eth_coinbase", json!([])).await, head["miner"]);
    assert_eq!(chain.result("debug_getBadBlocks", json!([])).await, json!([]));
    let next = chain.result("eth_baseFee", json!([])).await;
    let history = chain.result("eth_feeHistory", json!(["0x1", "latest", []])).await;
    assert_eq!(next, history["baseFeePerGas"][1]);
}

/// What comes into the open block, once, from the filter's installation on.
#[tokio::test(flavor = "multi_thread")]
async fn pending_transactions_are_told_once() {
    let chain = Chain::start().await;
    let send = async |nonce| {
        let raw = signed(&chain, nonce).await;
        chain.result("eth_sendRawTransaction", json!([raw])).await
    };
    send(0).await;
    let filter = chain.result("eth_newPendingTransactionFilter", json!([])).await;
    let changes = async || chain.result("eth_getFilterChanges", json!([filter])).await;
    assert_eq!(changes().await, json!([]));
    let sent = [send(1).await, send(2).await];
    let mut told = Vec::new();
    while told.len() < sent.len() {
        told.extend(changes().await.as_array().expect("hashes").clone());
        tokio::task::yield_now().await;
    }
    assert_eq!(told, sent);
    assert_eq!(changes().await, json!([]));
    assert_eq!(chain.error("eth_getFilterLogs", json!([filter])).await.0, -32000);
    assert_eq!(chain.result("eth_uninstallFilter", json!([filter])).await, true);
    assert_eq!(chain.error("eth_getFilterChanges", json!([filter])).await.0, -32000);

    let deaf = Chain::telling(RpcConfig::default(), None::<FrameFeed>).await;
    let (code, message, _) = deaf.error("eth_newPendingTransactionFilter", json!([])).await;
    assert_eq!(code, -32602, "{message}");
}
