//! What data costs, as clients are told.

use std::sync::atomic::Ordering;

use alloy::{
    primitives::{Bytes, U256},
    providers::Provider,
};
use millrace_proto::{DataPrice, estimated_batch_bytes};
use serde_json::{Value, json};

use crate::support::{Chain, SOMEBODY, signed};

fn number(value: &Value) -> u128 {
    value.as_str().expect("a quantity").parse::<U256>().expect("a number").to()
}

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_cover_the_data_of_a_transfer() {
    let chain = Chain::start().await;
    let tip = async || number(&chain.result("eth_maxPriorityFeePerGas", json!([])).await);
    assert_eq!(tip().await, 1_000_000, "the configured one");
    let price = DataPrice(1_000_000_000_000);
    chain.pool.data_price.store(price.0, Ordering::Relaxed);
    let asked = price.tip_of_transfer();
    assert!(asked > 1_000_000);
    assert_eq!(tip().await, asked);
    let gas_price = number(&chain.result("eth_gasPrice", json!([])).await);
    assert!(gas_price > asked);
    // Clients that look at the history of an idle chain bid what is asked too.
    let history = chain.result("eth_feeHistory", json!(["0x1", "latest", [10.0, 50.0]])).await;
    assert_eq!(history["reward"], json!([[format!("{asked:#x}"), format!("{asked:#x}")]]));
    let estimated = chain.wallet().estimate_eip1559_fees().await.expect("fees");
    assert!(estimated.max_priority_fee_per_gas >= asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fees_of_one_transaction() {
    const METHOD: &str = "millrace_estimateFees";
    let chain = Chain::start().await;
    let from = chain.signer.address();
    let transfer = json!({ "from": from, "to": SOMEBODY, "value": "0x1" });
    let free = chain.result(METHOD, json!([transfer])).await;
    assert_eq!((number(&free["gas"]), number(&free["dataBytes"])), (21_000, 100));
    assert_eq!((number(&free["dataFee"]), number(&free["minPriorityFeePerGas"])), (0, 0));

    let price = DataPrice(1_000_000_000_000);
    chain.pool.data_price.store(price.0, Ordering::Relaxed);
    let fees = chain.result(METHOD, json!([transfer, "latest"])).await;
    assert_eq!(number(&fees["dataFee"]), price.of_bytes(100));
    let raw = signed(&chain, 0).await;
    let (base_fee, tip) = (number(&fees["baseFeePerGas"]), number(&fees["minPriorityFeePerGas"]));
    assert_eq!(tip, price.least_tip(&raw, 21_000));
    assert_eq!(number(&fees["totalFee"]), 21_000 * (base_fee + tip));

    // What does not compress costs what it is long; what does, does not; and a creation is a transaction too.
    let noise: Bytes =
        (0..32_u64).flat_map(|i| alloy::primitives::keccak256(i.to_be_bytes()).0).collect();
    let bytes = async |tx: Value| number(&chain.result(METHOD, json!([tx])).await["dataBytes"]);
    let zeros = Bytes::from(vec![0; noise.len()]);
    let of_noise = bytes(json!({ "from": from, "to": SOMEBODY, "data": noise })).await;
    let of_zeros = bytes(json!({ "from": from, "to": SOMEBODY, "data": zeros })).await;
    assert!(of_noise > 800 && of_zeros < 200, "{of_noise} {of_zeros}");
    assert!(u128::from(estimated_batch_bytes(&noise)) < of_noise, "with the rest of it");
    assert!(bytes(json!({ "from": from, "data": "0x00" })).await >= 100);
    assert!(bytes(json!({ "from": from, "to": SOMEBODY, "gasPrice": "0x77359400" })).await >= 100);
    // A call that fails has no fees.
    let (code, _, _) =
        chain.error(METHOD, json!([{ "from": SOMEBODY, "to": from, "value": "0x1" }])).await;
    assert_eq!(code, -32000);
}
