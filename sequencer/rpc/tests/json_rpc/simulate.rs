//! `eth_simulateV1`: the blocks that follow, anvil's answers, and the specification's rules.

use alloy::{
    eips::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256, address, bytes, hex},
    rpc::types::TransactionRequest,
};
use serde_json::{Value, json};

use crate::{
    anvil::{Allowed, Pair, assert_same, caller},
    support::{CHAIN_ID, Chain, SOMEBODY, counter},
};

const A: Address = address!("c000000000000000000000000000000000000000");
const B: Address = address!("c100000000000000000000000000000000000000");
const C: Address = address!("c200000000000000000000000000000000000000");

/// Signs what a call of a simulation says.
async fn sign(chain: &Chain, call: &Value) -> Bytes {
    let request: TransactionRequest = serde_json::from_value(call.clone()).expect("a request");
    let wallet = EthereumWallet::from(chain.signer.clone());
    let mut request = request.with_chain_id(CHAIN_ID);
    if request.to.is_none() {
        request = request.into_create();
    }
    request.build(&wallet).await.expect("it signs").encoded_2718().into()
}

/// Seals a block with the transactions that calls stand for.
async fn seal(chain: &Chain, calls: &[Value]) -> Value {
    chain.pool.hold().await;
    for call in calls {
        let raw = sign(chain, call).await;
        chain.result("eth_sendRawTransaction", json!([raw])).await;
    }
    chain.pool.release().await;
    chain.result("eth_getBlockByNumber", json!(["latest", false])).await
}

/// What is simulated with validation is what is sealed then, to the roots of state and receipts; and simulated afterwards, on top of the block that it
/// was the head then, it is still the same.
#[tokio::test(flavor = "multi_thread")]
async fn simulated_blocks_are_those_that_follow() {
    let chain = Chain::start().await;
    let from = chain.signer.address();
    let (counter_at, caller_at) = (from.create(1), from.create(2));
    let mut nonce = 0;
    let mut call = |fields: Value| {
        let mut call = json!({
            "from": from, "nonce": format!("{nonce:#x}"), "gas": "0xf4240",
            "maxFeePerGas": "0x12a05f200", "maxPriorityFeePerGas": "0x7"
        });
        nonce += 1;
        let call_fields = call.as_object_mut().expect("a call");
        call_fields.extend(fields.as_object().expect("fields").clone());
        call
    };
    let first = vec![
        call(json!({ "to": SOMEBODY, "value": "0x5" })),
        call(json!({ "input": counter() })),
        call(json!({ "input": caller() })),
    ];
    let second = vec![
        call(json!({ "to": counter_at })),
        call(json!({ "to": counter_at, "input": "0x02" })),
        call(json!({ "to": caller_at, "input": counter_at.into_word(), "value": "0x9" })),
    ];
    let third = vec![call(json!({ "to": caller_at, "input": counter_at.into_word() }))];
    let genesis = chain.result("eth_getBlockByNumber", json!(["0x0", false])).await;
    let blocks: Vec<_> = [&first, &second, &third]
        .iter()
        .enumerate()
        .map(|(index, calls)| {
            let number = index as u64 + 1;
            json!({ "calls": calls, "blockOverrides": { "number": format!("{number:#x}") } })
        })
        .collect();
    let payload = json!({ "blockStateCalls": blocks, "validation": true, "traceTransfers": true });
    let simulated = chain.result("eth_simulateV1", json!([payload, "latest"])).await;
    assert_eq!(simulated[0]["parentHash"], genesis["hash"]);
    for (index, calls) in [&first, &second, &third].iter().enumerate() {
        let sealed = seal(&chain, calls).await;
        for field in [
            "number",
            "timestamp",
            "gasUsed",
            "gasLimit",
            "baseFeePerGas",
            "stateRoot",
            "receiptsRoot",
            "logsBloom",
            "miner",
            "blobGasUsed",
            "excessBlobGas",
            "requestsHash",
        ] {
            assert_eq!(simulated[index][field], sealed[field], "block {index}: {field}");
        }
        let receipts = chain.result("eth_getBlockReceipts", json!(["latest"])).await;
        for (result, receipt) in simulated[index]["calls"]
            .as_array()
            .expect("calls")
            .iter()
            .zip(receipts.as_array().expect("receipts"))
        {
            assert_eq!(result["status"], receipt["status"]);
            assert_eq!(result["gasUsed"], receipt["gasUsed"]);
        }
    }
    let again = chain.result("eth_simulateV1", json!([payload, "0x0"])).await;
    assert_eq!(again, simulated, "the state of the genesis block is kept");
    // The two blocks that follow the first, on top of it.
    let rest =
        json!({ "blockStateCalls": blocks[1..], "validation": true, "traceTransfers": true });
    let rest = chain.result("eth_simulateV1", json!([rest, "0x1"])).await;
    assert_eq!(rest[1]["stateRoot"], simulated[2]["stateRoot"]);
    // A storage that is replaced as a whole, at the head and at an earlier block.
    let replaced = json!({ "blockStateCalls": [{
        "stateOverrides": { counter_at.to_string(): { "state": { B256::with_last_byte(1).to_string(): B256::with_last_byte(1) } } },
        "calls": [{ "to": counter_at, "input": "0x01" }]
    }]});
    let before = chain.result("eth_simulateV1", json!([replaced, "0x3"])).await;
    assert_eq!(before[0]["calls"][0]["returnData"], json!(B256::ZERO));
    seal(&chain, &[call(json!({ "to": counter_at }))]).await;
    assert_eq!(chain.result("eth_simulateV1", json!([replaced, "0x3"])).await, before);
}

/// What the specification has and anvil has not, or has otherwise.
const OLDER: &[Allowed] = &[
    ("*.*.maxUsedGas", "anvil does not tell it"),
    ("*.*.logs.*.blockHash", "the blocks have other fields, and so other hashes"),
    ("*.*.logs.*.blockNumber", "anvil gives the base block's"),
    ("*.*.logs.*.blockTimestamp", "anvil's clock is the machine's"),
    ("*.*.error.code", "3 and -32015 in the specification, -3200 in anvil"),
    ("*.*.error.message", "anvil gives no reasons"),
    ("*.*.error.data", "anvil gives no data"),
    ("*.*.logs.*.transactionHash", "calls are of type 2 in the specification, and legacy in anvil"),
];

#[tokio::test(flavor = "multi_thread")]
async fn results_are_anvils() {
    let mut pair = Pair::start().await;
    let counter_at = pair.next_contract();
    pair.send(TransactionRequest::default().with_deploy_code(counter())).await;
    let caller_at = pair.next_contract();
    pair.send(TransactionRequest::default().with_deploy_code(caller())).await;
    let from = pair.sender();
    let everything =
        json!({ "from": from, "to": caller_at, "input": counter_at.into_word(), "value": "0x9" });
    let payloads = [
        json!([{ "calls": [{ "from": from, "to": SOMEBODY, "value": "0x3e8" }] }]),
        json!([
            { "calls": [everything, { "from": from, "to": counter_at, "input": "0x02" }] },
            { "calls": [{ "to": counter_at, "input": "0x01" }, { "to": counter_at }] },
        ]),
        json!([{
            "stateOverrides": {
                A.to_string(): { "balance": "0x7d0" },
                C.to_string(): { "code": "0x4660005260206000f3", "nonce": "0x7" },
            },
            "calls": [{ "from": A, "to": B, "value": "0x3e8" }, { "from": A, "to": C }]
        }]),
    ];
    for payload in payloads {
        for trace_transfers in [false, true] {
            // Anvil has no logs of what contracts leave that destroy themselves.
            if trace_transfers && payload.to_string().contains(&format!("{caller_at:#x}")) {
                continue;
            }
            let asked = json!([{ "blockStateCalls": payload, "traceTransfers": trace_transfers }, "latest"]);
            let (ours, theirs) = pair.both("eth_simulateV1", asked.clone()).await;
            let calls = |blocks: &Value| -> Vec<Value> {
                let blocks = blocks.as_array().expect("blocks");
                blocks.iter().map(|block| block["calls"].clone()).collect()
            };
            let (our_calls, their_calls) = (json!(calls(&ours)), json!(calls(&theirs)));
            assert_same(&asked.to_string(), &our_calls, &their_calls, OLDER);
        }
    }
}

/// The first block's results.
async fn calls(chain: &Chain, payload: Value) -> Value {
    chain.result("eth_simulateV1", json!([payload, "latest"])).await[0]["calls"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_logs_unless_they_are_undone() {
    let chain = Chain::start().await;
    // Pays 1 wei to C.
    let pays = hex!("6000600060006000600173c2000000000000000000000000000000000000005af100");
    let transfer = |from: Address, to: Address| json!([from.into_word(), to.into_word()]);
    let payload = |code: &[u8], input: &str| {
        json!({
            "traceTransfers": true,
            "blockStateCalls": [{
                "stateOverrides": {
                    A.to_string(): { "code": Bytes::copy_from_slice(code), "balance": "0x64" },
                    B.to_string(): { "balance": "0x64" },
                },
                "calls": [{ "from": B, "to": A, "value": "0x2", "input": input }]
            }]
        })
    };
    let topics = |result: &Value| -> Vec<Value> {
        let logs = result["logs"].as_array().expect("logs");
        logs.iter()
            .map(|log| {
                assert_eq!(log["address"], "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
                json!([log["topics"][1], log["topics"][2]])
            })
            .collect()
    };
    let paid = calls(&chain, payload(&pays, "0x")).await;
    assert_eq!(topics(&paid[0]), [transfer(B, A), transfer(A, C)]);
    assert_eq!(paid[0]["logs"][1]["data"], json!(B256::with_last_byte(1)));
    assert_eq!(paid[0]["logs"][1]["logIndex"], "0x1");
    // selfdestruct(C)
    let gone = hex!("73c200000000000000000000000000000000000000ff");
    let gone = calls(&chain, payload(&gone, "0x")).await;
    assert_eq!(topics(&gone[0]), [transfer(B, A), transfer(A, C)]);
    assert_eq!(gone[0]["logs"][1]["data"], json!(B256::with_last_byte(0x66)));
    // Reverts: nothing moves.
    let reverted = calls(&chain, payload(&hex!("60006000fd"), "0x")).await;
    assert_eq!((&reverted[0]["status"], &reverted[0]["logs"]), (&json!("0x0"), &json!([])));
    // Pays itself by a call that reverts, and goes on: only what came in stands.
    let inner = hex!("3615600a57 60006000fd 5b 6000600060036000600130 5af1 00");
    let inner = calls(&chain, payload(&inner, "0x")).await;
    assert_eq!(inner[0]["status"], "0x1");
    assert_eq!(topics(&inner[0]), [transfer(B, A)]);
    let mut quiet = payload(&pays, "0x");
    quiet["traceTransfers"] = json!(false);
    assert_eq!(calls(&chain, quiet).await[0]["logs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn precompiles_can_be_moved_and_replaced() {
    let chain = Chain::start().await;
    let identity = Address::with_last_byte(4);
    let payload = json!({ "blockStateCalls": [
        {
            "stateOverrides": {
                identity.to_string(): { "movePrecompileToAddress": C, "code": "0x4660005260206000f3" }
            },
            "calls": [{ "to": C, "input": "0x1234" }, { "to": identity, "input": "0x1234" }]
        },
        { "calls": [{ "to": C, "input": "0x1234" }] },
    ]});
    let blocks = chain.result("eth_simulateV1", json!([payload, "latest"])).await;
    assert_eq!(blocks[0]["calls"][0]["returnData"], "0x1234");
    assert_eq!(blocks[0]["calls"][1]["returnData"], json!(B256::from(U256::from(CHAIN_ID))));
    assert_eq!(blocks[1]["calls"][0]["returnData"], "0x", "a block's moves are its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_have_the_fields_that_they_are_given() {
    let chain = Chain::start().await;
    // number, timestamp, coinbase, prevrandao, gas limit, base fee, blockhash(number - 1), chain id
    let code =
        "0x4360005242602052416040524460605245608052 4860a05260014303 4060c0524660e0526101006000f3"
            .replace(' ', "");
    let payload = json!({ "returnFullTransactions": true, "blockStateCalls": [
        {
            "blockOverrides": {
                "number": "0x5", "time": "0x77777777", "feeRecipient": B, "gasLimit": "0x989680",
                "prevRandao": B256::repeat_byte(9), "baseFeePerGas": "0x3"
            },
            "stateOverrides": { A.to_string(): { "code": code } },
            "calls": [{ "from": B, "to": A }]
        },
        { "calls": [{ "from": B, "to": A }, { "from": B, "to": A }] },
    ]});
    let blocks = chain.result("eth_simulateV1", json!([payload, "latest"])).await;
    let blocks = blocks.as_array().expect("blocks");
    let numbers: Vec<_> = blocks.iter().map(|block| block["number"].clone()).collect();
    assert_eq!(numbers, ["0x1", "0x2", "0x3", "0x4", "0x5", "0x6"]);
    for pair in blocks.windows(2) {
        assert_eq!(pair[1]["parentHash"], pair[0]["hash"]);
    }
    let words = |block: &Value, call: usize| -> Vec<U256> {
        let data: Bytes =
            serde_json::from_value(block["calls"][call]["returnData"].clone()).expect("bytes");
        data.chunks(32).map(U256::from_be_slice).collect()
    };
    let hash = |block: &Value| -> U256 {
        serde_json::from_value::<B256>(block["hash"].clone()).expect("a hash").into()
    };
    let got = words(&blocks[4], 0);
    let expected = [
        U256::from(5),
        U256::from(0x7777_7777),
        U256::from_be_slice(B.as_slice()),
        B256::repeat_byte(9).into(),
        U256::from(10_000_000),
        U256::from(3),
        hash(&blocks[3]),
    ];
    assert_eq!(got[..7], expected);
    let later = words(&blocks[5], 1);
    assert_eq!((later[0], later[1]), (U256::from(6), U256::from(0x7777_7778)));
    assert_eq!((later[5], later[6]), (U256::ZERO, hash(&blocks[4])));
    let second = &blocks[5]["transactions"][1];
    assert_eq!((&second["nonce"], &second["type"]), (&json!("0x2"), &json!("0x2")));
    assert_eq!((&second["r"], &second["s"]), (&json!("0x0"), &json!("0x0")));
    assert_eq!((&second["from"], &second["blockNumber"]), (&json!(B), &json!("0x6")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_simulated_has_the_specifications_codes() {
    let chain = Chain::start().await;
    let rich = json!({ A.to_string(): { "balance": "0xde0b6b3a7640000" } });
    let one = |validation: bool, block: Value| json!({ "blockStateCalls": [block], "validation": validation });
    let call = |fields: Value| {
        let mut call = json!({ "from": A, "to": B, "maxFeePerGas": "0x77359400" });
        call.as_object_mut().expect("a call").extend(fields.as_object().expect("fields").clone());
        json!({ "stateOverrides": rich, "calls": [call] })
    };
    let moves = |moves: Value| json!({ "stateOverrides": moves });
    let (first, second) = (Address::with_last_byte(1), Address::with_last_byte(2));
    let large = format!("0x{}", "00".repeat(50_000));
    for (payload, code) in [
        (json!({ "blockStateCalls": [] }), -32602),
        (one(true, call(json!({ "nonce": "0x7" }))), -38011),
        (
            one(
                true,
                json!({
                    "stateOverrides": { A.to_string(): { "balance": "0xde0b6b3a7640000", "nonce": "0x9" } },
                    "calls": [{ "from": A, "to": B, "maxFeePerGas": "0x77359400", "nonce": "0x8" }]
                }),
            ),
            -38010,
        ),
        (one(true, call(json!({ "maxFeePerGas": "0x1" }))), -38012),
        (one(false, call(json!({ "gas": "0x5207" }))), -38013),
        (one(false, call(json!({ "value": "0xffffffffffffffff" }))), -38014),
        (one(false, call(json!({ "gas": "0xffffffffff" }))), -38015),
        (one(false, json!({ "blockOverrides": { "number": "0x0" } })), -38020),
        (one(false, json!({ "blockOverrides": { "time": "0x1" } })), -38021),
        (
            one(false, moves(json!({ first.to_string(): { "movePrecompileToAddress": first } }))),
            -38022,
        ),
        (
            one(
                false,
                moves(json!({
                    first.to_string(): { "movePrecompileToAddress": C },
                    second.to_string(): { "movePrecompileToAddress": C },
                })),
            ),
            -38023,
        ),
        (one(false, moves(json!({ A.to_string(): { "movePrecompileToAddress": C } }))), -32000),
        (
            one(
                true,
                json!({
                    "stateOverrides": rich,
                    "calls": [{ "from": A, "input": large, "gas": "0x989680", "maxFeePerGas": "0x77359400" }]
                }),
            ),
            -38025,
        ),
        (json!({ "blockStateCalls": vec![json!({}); 257] }), -38026),
        (one(false, json!({ "blockOverrides": { "number": "0x999" } })), -38026),
        (one(false, call(json!({ "gasPrice": "0x1" }))), -32000),
        (one(false, call(json!({ "input": "0x01", "data": "0x02" }))), -32602),
    ] {
        let (got, message, _) = chain.error("eth_simulateV1", json!([payload, "latest"])).await;
        let shown: String = payload.to_string().chars().take(300).collect();
        assert_eq!(got, code, "{message}: {shown}");
    }
    // Without validation a nonce is not looked at, and a fee below the base fee is none.
    for fields in [json!({ "nonce": "0x7" }), json!({ "maxFeePerGas": "0x0" })] {
        let mut block = call(fields);
        block["blockOverrides"] = json!({ "baseFeePerGas": "0xa" });
        assert_eq!(calls(&chain, one(false, block)).await[0]["status"], "0x1");
    }
    // A contract may send in either case.
    let contract = json!({
        "stateOverrides": { A.to_string(): { "balance": "0xde0b6b3a7640000", "code": "0x00" } },
        "calls": [{ "from": A, "to": B, "maxFeePerGas": "0x77359400" }]
    });
    assert_eq!(calls(&chain, one(true, contract)).await[0]["status"], "0x1");
    let halted = json!({ "calls": [{ "from": A, "input": bytes!("fe"), "gas": "0x186a0" }] });
    let halted = calls(&chain, one(false, halted)).await;
    assert_eq!(halted[0]["error"]["code"], -32015);
    assert_eq!(halted[0]["gasUsed"], "0x186a0");
}

/// A transaction of Osaka may not use all of a block that is larger than 2^24 gas (EIP-7825): one that does not say how much it may use gets no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn calls_get_no_more_gas_than_a_transaction_may_have() {
    let rich = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
    let chain = Chain::on(&json!({
        "config": {
            "chainId": CHAIN_ID, "londonBlock": 0, "mergeNetsplitBlock": 0, "terminalTotalDifficulty": 0,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0,
        },
        "gasLimit": "0x3938700", "difficulty": "0x0", "alloc": { rich: { "balance": "0xde0b6b3a7640000" } },
    }))
    .await;
    let call = json!({ "from": rich, "to": SOMEBODY, "maxFeePerGas": "0x3b9aca00" });
    for (validation, gas) in [(true, "0x1000000"), (false, "0x3938700")] {
        let payload = json!({
            "blockStateCalls": [{ "calls": [call] }], "validation": validation, "returnFullTransactions": true,
        });
        let blocks = chain.result("eth_simulateV1", json!([payload, "latest"])).await;
        assert_eq!(blocks[0]["calls"][0]["status"], "0x1", "{blocks}");
        assert_eq!(blocks[0]["transactions"][0]["gas"], gas);
    }
}
