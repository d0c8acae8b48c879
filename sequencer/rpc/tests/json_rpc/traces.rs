//! Traces over JSON-RPC: what anvil says of the same transactions, and what is refused.

use std::str::FromStr;

use alloy::primitives::{B256, U256};
use serde_json::{Value, json};

use crate::{
    anvil::{Allowed, FEE_RECIPIENT, GAS_PRICE, Pair, assert_same, history},
    support::{Chain, SOMEBODY, signed},
};

/// Of a whole transaction, geth tells its gas limit, and so do we; anvil tells what its first call gets of that.
const GAS_OF_THE_WHOLE: &[Allowed] =
    &[("gas", "the transaction's gas limit, or what its call gets")];

/// Steps without refunds of zero and without empty data, which geth leaves out as we do, and anvil does not.
fn without_nothing(trace: &mut Value) {
    for step in trace.get_mut("structLogs").and_then(Value::as_array_mut).into_iter().flatten() {
        let step = step.as_object_mut().expect("a step");
        step.retain(|field, value| match field.as_str() {
            "refund" => value != &json!(0),
            "returnData" => value != "0x",
            _ => true,
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_steps_are_anvils() {
    let mut pair = Pair::start().await;
    let (none, whole): (&[Allowed], _) = (&[], GAS_OF_THE_WHOLE);
    let precompiles: &[Allowed] =
        &[("0x00000000-28", "geth and we leave calls of precompiles out, anvil does not")];
    let asked = [
        (json!({ "tracer": "callTracer" }), whole),
        (json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } }), whole),
        (json!({ "tracer": "callTracer", "tracerConfig": { "onlyTopCall": true } }), whole),
        (json!({ "tracer": "4byteTracer" }), precompiles),
        (json!({}), none),
        (json!({ "enableMemory": true, "enableReturnData": true }), none),
        (json!({ "disableStack": true, "disableStorage": true }), none),
    ];
    for (what, hash) in history(&mut pair).await {
        for (options, allowed) in &asked {
            let params = json!([hash, options]);
            let (ours, mut theirs) = pair.both("debug_traceTransaction", params).await;
            without_nothing(&mut theirs);
            assert_same(&format!("{what}, {options}"), &ours, &theirs, allowed);
        }
        // Anvil knows no limit.
        let limited = json!([hash, { "limit": 20 }]);
        let ours = pair.ours.result("debug_traceTransaction", limited).await;
        let mut theirs = pair.anvil("debug_traceTransaction", json!([hash, {}])).await;
        theirs["structLogs"].as_array_mut().expect("steps").truncate(20);
        without_nothing(&mut theirs);
        assert_same(&format!("{what}, limited"), &ours, &theirs, none);
    }
}

fn wei(value: &Value) -> U256 {
    value.as_str().map_or(U256::ZERO, |text| U256::from_str(text).expect("a quantity"))
}

/// What was there before, and what changed. The fee recipient gets the base fee here, where anvil burns it: exactly that is the difference.
#[tokio::test(flavor = "multi_thread")]
async fn states_before_and_differences_are_anvils() {
    let mut pair = Pair::start().await;
    let (mut burnt_before, recipient) = (U256::ZERO, format!("{FEE_RECIPIENT:#x}"));
    for (what, hash) in history(&mut pair).await {
        let receipt = pair.ours.result("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(wei(&receipt["effectiveGasPrice"]), U256::from(GAS_PRICE));
        let header = json!([receipt["blockNumber"], false]);
        let base_fee =
            wei(&pair.ours.result("eth_getBlockByNumber", header).await["baseFeePerGas"]);
        let burnt = burnt_before + base_fee * wei(&receipt["gasUsed"]);
        for config in [
            json!({}),
            json!({ "disableCode": true }),
            json!({ "disableStorage": true }),
            json!({ "diffMode": true }),
            json!({ "diffMode": true, "disableCode": true, "disableStorage": true }),
        ] {
            let diff = config.get("diffMode").is_some();
            let options = json!({ "tracer": "prestateTracer", "tracerConfig": config });
            let (mut ours, mut theirs) =
                pair.both("debug_traceTransaction", json!([hash, options])).await;
            let what = format!("{what}, {config}");
            if !diff {
                // Of accounts that are not there, geth says nothing, and so do we; anvil says that they are empty.
                let accounts = theirs.as_object_mut().expect("accounts");
                accounts.retain(|address, account| {
                    ours.get(address).is_some() || account != &json!({ "balance": "0x0" })
                });
            }
            let parts: &[(&str, U256)] = match diff {
                true => &[("pre", burnt_before), ("post", burnt)],
                false => &[("", burnt_before)],
            };
            for (part, burnt) in parts {
                let of = |trace: &mut Value| {
                    let part = if part.is_empty() { trace } else { &mut trace[*part] };
                    let account = part.as_object_mut().expect("accounts").remove(&recipient);
                    account.map_or(U256::ZERO, |account| wei(&account["balance"]))
                };
                let (ours, theirs) = (of(&mut ours), of(&mut theirs));
                assert_eq!(ours, theirs + *burnt, "{what}: the fee recipient, {part}");
            }
            assert_same(&what, &ours, &theirs, &[]);
        }
        burnt_before = burnt;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traced_calls_are_anvils() {
    let mut pair = Pair::start().await;
    history(&mut pair).await;
    let (counter_at, caller_at) = (pair.sender().create(0), pair.sender().create(1));
    let call = json!({
        "from": pair.sender(), "to": caller_at, "input": counter_at.into_word(), "gas": "0x1e8480"
    });
    let overridden = json!({
        "tracer": "callTracer",
        "stateOverrides": { SOMEBODY.to_string(): { "code": "0x4260005260206000f3" } },
        "blockOverrides": { "time": "0x7b" },
    });
    let to_somebody = json!({ "from": pair.sender(), "to": SOMEBODY, "gas": "0x1e8480" });
    for (call, options) in [
        (&call, json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } })),
        (&call, json!({})),
        (&call, json!({ "tracer": "prestateTracer" })),
        (&to_somebody, overridden),
    ] {
        for at in ["latest", "0x5"] {
            let (mut ours, mut theirs) =
                pair.both("debug_traceCall", json!([call, at, options])).await;
            let known = ours.clone();
            without_nothing(&mut theirs);
            for trace in [&mut ours, &mut theirs] {
                let trace = trace.as_object_mut().expect("a trace");
                // It has fees from before, and some accounts are not there; see the test above.
                trace.remove(&format!("{FEE_RECIPIENT:#x}"));
                trace.retain(|key, value| {
                    known.get(key).is_some() || value != &json!({ "balance": "0x0" })
                });
            }
            let what = format!("{call} {options} at {at}");
            assert_same(&what, &ours, &theirs, GAS_OF_THE_WHOLE);
        }
    }
}

/// Several transactions of one block, alone and together; and those tracers that anvil does not have.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_traced_whole() {
    let chain = Chain::start().await;
    chain.pool.hold().await;
    let mut hashes = Vec::new();
    for nonce in 0..3 {
        let raw = signed(&chain, nonce).await;
        hashes.push(chain.result("eth_sendRawTransaction", json!([raw])).await);
    }
    chain.pool.release().await;
    let block = chain.result("eth_getBlockByNumber", json!(["latest", false])).await;
    for tracer in
        ["callTracer", "flatCallTracer", "prestateTracer", "4byteTracer", "noopTracer", ""]
    {
        let options = json!({ "tracer": tracer });
        let by_number = json!(["latest", options]);
        let whole = chain.result("debug_traceBlockByNumber", by_number).await;
        let by_hash = json!([block["hash"], options]);
        assert_eq!(whole, chain.result("debug_traceBlockByHash", by_hash).await);
        let mut alone = Vec::new();
        for hash in &hashes {
            let result = chain.result("debug_traceTransaction", json!([hash, options])).await;
            alone.push(json!({ "txHash": hash, "result": result }));
        }
        assert_eq!(whole, Value::Array(alone), "{tracer}");
    }
    let mux = json!({
        "tracer": "muxTracer",
        "tracerConfig": { "callTracer": {}, "4byteTracer": {}, "prestateTracer": { "diffMode": true } }
    });
    let all = chain.result("debug_traceTransaction", json!([hashes[1], mux])).await;
    for (tracer, config) in [
        ("callTracer", json!({})),
        ("4byteTracer", json!({})),
        ("prestateTracer", json!({ "diffMode": true })),
    ] {
        let options = json!({ "tracer": tracer, "tracerConfig": config });
        let one = chain.result("debug_traceTransaction", json!([hashes[1], options])).await;
        assert_eq!(all[tracer], one);
    }
    // The flat form: one call, where it is in the chain.
    let flat = json!([hashes[2], { "tracer": "flatCallTracer" }]);
    let flat = chain.result("debug_traceTransaction", flat).await;
    assert_eq!(flat[0]["blockHash"], block["hash"]);
    assert_eq!(flat[0]["transactionHash"], hashes[2]);
    assert_eq!((&flat[0]["transactionPosition"], &flat[0]["blockNumber"]), (&json!(2), &json!(1)));
    assert_eq!(flat[0]["action"]["callType"], "call");
    // Between the first and the second transaction, the second's nonce is the sender's next.
    let call = json!({ "from": chain.signer.address(), "to": SOMEBODY });
    let options = json!({ "tracer": "prestateTracer", "txIndex": "0x1" });
    let between = chain.result("debug_traceCall", json!([call, "latest", options])).await;
    assert_eq!(between[format!("{:#x}", chain.signer.address())]["nonce"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_traced_says_why() {
    let chain = Chain::start().await;
    let raw = signed(&chain, 0).await;
    let hash = chain.result("eth_sendRawTransaction", json!([raw])).await;
    for (method, params, code, says) in [
        ("debug_traceTransaction", json!([B256::ZERO]), -32000, "transaction not found"),
        ("debug_traceBlockByNumber", json!(["0x9"]), -32000, "block 9 is unknown"),
        ("debug_traceBlockByHash", json!([B256::ZERO]), -32000, "is unknown"),
        ("debug_traceBlockByNumber", json!(["earliest"]), -32000, "genesis"),
        ("debug_traceTransaction", json!([hash, { "tracer": "{ js }" }]), -32000, "JavaScript"),
        ("debug_traceTransaction", json!([hash, { "timeout": "soon" }]), -32000, "timeout"),
        ("debug_traceTransaction", json!([hash, { "timeout": "0s" }]), -32005, "longer than"),
        ("debug_traceTransaction", json!([hash, { "limit": "x" }]), -32602, ""),
        (
            "debug_traceCall",
            json!([{ "to": SOMEBODY }, "latest", { "txIndex": "0x7" }]),
            -32000,
            "index 7",
        ),
        (
            "debug_traceCall",
            json!([{ "from": SOMEBODY, "to": SOMEBODY, "value": "0xffff" }]),
            -32000,
            "insufficient",
        ),
    ] {
        let (got, message, _) = chain.error(method, params.clone()).await;
        assert_eq!(got, code, "{method} {params}: {message}");
        assert!(message.contains(says), "{method} {params}: {message}");
    }
    // The number of blocks to execute again at most: nothing has to be, as the state is kept.
    let traced = json!([hash, { "reexec": 1, "tracer": "noopTracer" }]);
    assert_eq!(chain.result("debug_traceTransaction", traced).await, json!({}));
}
