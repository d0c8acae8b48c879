//! Requests of any bytes: the seeds of `proto/fuzz`, and what is near them.

use std::path::PathBuf;

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::{Filter, TransactionRequest},
};
use millrace_proto::{BlockSelector, CallRequest, grpc::pb};
use prost::Message;
use serde_json::json;
use tonic::Code;

#[path = "../../fuzz/mutations.rs"]
mod mutations;

use self::mutations::{keep, near, seeds};
use crate::{
    any_bytes::{METHODS, any_request, call, executor},
    fixture::{ALICE, BOB, attributes, genesis, transfer},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/requests")
}

fn hash(hash: B256) -> bytes::Bytes {
    hash.to_vec().into()
}

fn account(address: Address) -> bytes::Bytes {
    address.to_vec().into()
}

/// A call of each method.
fn calls() -> Vec<(String, Vec<Vec<u8>>)> {
    let at = || Some(pb::BlockSelector::from(BlockSelector::Number(1)));
    let known = hash(transfer(7).hash());
    let raw = |nonce| transfer(nonce).encoded().0.clone();
    let json = |value: &serde_json::Value| value.to_string().into();
    let request = || {
        let transaction = TransactionRequest::default().from(ALICE).to(BOB).value(U256::from(5));
        let request = CallRequest { transaction, ..CallRequest::default() };
        pb::CallRequest { json: serde_json::to_vec(&request).unwrap().into(), at: at() }
    };
    let submission = |raw: Vec<bytes::Bytes>, wait_for: pb::Stage| {
        let [one] = raw.as_slice() else {
            let request = pb::SubmitTransactionsRequest { batch: raw, ..Default::default() };
            return request.encode_to_vec();
        };
        let (raw, wait_for) = (one.clone(), wait_for.into());
        pb::SubmitTransactionsRequest { raw, wait_for, tag: 9, batch: vec![] }.encode_to_vec()
    };
    let step = |step| pb::BuildRequest { step: Some(step) }.encode_to_vec();
    use pb::build_request::Step;
    let open = attributes(&executor().0.last().header);
    let transactions = vec![pb::RecoveredTransaction { raw: raw(0), sender: account(ALICE) }];
    let call_of = |request| pb::TracedCall { request: Some(request), index: Some(1) };
    let list = [
        (
            "Sequencer/SubmitTransaction",
            vec![pb::SubmitTransactionRequest { raw: raw(0), wait_for: 1 }.encode_to_vec()],
        ),
        (
            "Sequencer/SubmitTransactions",
            vec![
                submission(vec![raw(0)], pb::Stage::Accepted),
                submission(vec![raw(1), raw(2)], pb::Stage::Unspecified),
                submission(vec![raw(3)], pb::Stage::Dropped),
            ],
        ),
        (
            "Sequencer/WatchTransaction",
            vec![pb::WatchTransactionRequest { hash: known.clone(), until: 2 }.encode_to_vec()],
        ),
        (
            "Sequencer/GetTransaction",
            vec![pb::GetTransactionRequest { hash: known.clone() }.encode_to_vec()],
        ),
        (
            "Sequencer/GetBlock",
            vec![
                pb::GetBlockRequest { id: Some(pb::get_block_request::Id::Head(1)) }
                    .encode_to_vec(),
            ],
        ),
        ("Sequencer/SubscribeBlocks", vec![pb::SubscribeBlocksRequest { from: 1 }.encode_to_vec()]),
        ("Sequencer/SubscribePreconfirmations", vec![vec![]]),
        (
            "Sequencer/GetPendingNonce",
            vec![pb::GetPendingNonceRequest { address: account(ALICE) }.encode_to_vec()],
        ),
        ("Sequencer/GetStatus", vec![vec![]]),
        (
            "Executor/Build",
            vec![
                step(Step::Open(open.into())),
                step(Step::Transactions(pb::TransactionBatch {
                    transactions,
                    ..Default::default()
                })),
                step(Step::Close(pb::Close {})),
                step(Step::Seal(pb::Seal {})),
            ],
        ),
        ("Executor/GetGenesis", vec![vec![]]),
        ("Executor/GetHead", vec![vec![]]),
        ("Executor/GetHeader", vec![at().unwrap().encode_to_vec()]),
        (
            "Executor/GetExecutedBlock",
            vec![pb::BlockSelector::from(BlockSelector::Hash(genesis().hash())).encode_to_vec()],
        ),
        (
            "Executor/SubscribeExecutedBlocks",
            vec![pb::SubscribeExecutedBlocksRequest { from: 2 }.encode_to_vec()],
        ),
        (
            "Executor/Unwind",
            vec![pb::UnwindRequest { number: 0, hash: hash(genesis().hash()) }.encode_to_vec()],
        ),
        (
            "Executor/LocateTransaction",
            vec![pb::LocateTransactionRequest { hash: hash(transfer(1).hash()) }.encode_to_vec()],
        ),
        (
            "Executor/GetAccounts",
            vec![
                pb::GetAccountsRequest { addresses: vec![account(ALICE), account(BOB)], at: at() }
                    .encode_to_vec(),
            ],
        ),
        (
            "Executor/FindAccounts",
            vec![
                pb::FindAccountsRequest {
                    prefixes: vec![pb::AddressPrefix { bits: 8, value: 0xa1 }],
                    at: at(),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Executor/GetStorage",
            vec![
                pb::GetStorageRequest { address: account(BOB), slot: hash(B256::ZERO), at: at() }
                    .encode_to_vec(),
            ],
        ),
        (
            "Executor/GetCode",
            vec![pb::GetCodeRequest { address: account(BOB), at: at() }.encode_to_vec()],
        ),
        (
            "Executor/GetProof",
            vec![
                pb::GetProofRequest {
                    address: account(BOB),
                    slots: vec![hash(B256::ZERO)],
                    at: at(),
                }
                .encode_to_vec(),
            ],
        ),
        ("Executor/Call", vec![request().encode_to_vec()]),
        ("Executor/EstimateGas", vec![request().encode_to_vec()]),
        ("Executor/CreateAccessList", vec![request().encode_to_vec()]),
        (
            "Executor/Trace",
            vec![
                pb::TraceRequest {
                    target: Some(pb::trace_request::Target::Call(call_of(request()))),
                    options_json: json(
                        &json!({"tracer": "callTracer", "tracerConfig": {"withLog": true}}),
                    ),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Executor/Simulate",
            vec![
                pb::SimulateRequest {
                    payload_json: json(&json!({"blockStateCalls": [{"calls": [{"from": ALICE}]}]})),
                    at: at(),
                }
                .encode_to_vec(),
            ],
        ),
        (
            "Executor/GetLogs",
            vec![
                pb::GetLogsRequest {
                    filter_json: serde_json::to_vec(&Filter::new().from_block(1)).unwrap().into(),
                    max_results: 10,
                }
                .encode_to_vec(),
            ],
        ),
        ("Executor/GetStateDiff", vec![pb::GetStateDiffRequest { number: 1 }.encode_to_vec()]),
    ];
    list.map(|(path, messages)| (path.to_owned(), messages)).into()
}

#[test]
fn the_seeds_call_every_method() {
    let calls = calls();
    let made = calls.iter().map(|(path, messages)| {
        let bytes =
            call(&format!("/millrace.v1.{path}"), path.ends_with("WatchTransaction"), messages);
        (path.replace('/', "."), bytes)
    });
    let made: Vec<_> = made.collect();
    for (path, bytes) in &made {
        // Those that follow the chain do not end.
        let status = any_request(bytes).unwrap_or(Code::Ok);
        assert_eq!(status, Code::Ok, "{path}");
    }
    keep(&folder(), made);
    assert_eq!(calls.len(), METHODS.len());
}

#[test]
fn any_bytes_as_requests_are_answered() {
    for bytes in near(seeds(&folder()), 4_000) {
        any_request(&bytes);
    }
}
