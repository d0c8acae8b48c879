//! The seeds of `proto/fuzz`, made of real messages, and what is near them. No map in them has two entries: their order is none.

use std::{path::PathBuf, sync::Arc, time::Duration};

use alloy::{
    consensus::{Header, Sealable, SignableTransaction, Signed, TxEip1559, TxLegacy},
    eips::BlockNumHash,
    primitives::{Address, B256, Log, LogData, Signature, TxKind, U256},
    rpc::types::TransactionRequest,
};
use prost::Message;
use serde_json::{Value, json};

#[path = "../../../fuzz/mutations.rs"]
mod mutations;

use self::mutations::{keep, near, seeds};
use super::{MESSAGES, any_message};
use crate::{
    grpc::{
        convert::{block_to_pb, call_request, outcome_to_pb, trace_request, txs_to_pb},
        error::{WireError, reject_fault},
        pb,
    },
    service::{
        BatchPoint, BatchRecord, BatchVerdict, BlockSelector, CallOutcome, CallRequest, CallStatus,
        ChainHeads, DaStatus, ExecutorError, GasEstimate, OutboxBatch, PoolStatus, PooledTx,
        RefusedBlocks, SequencerStatus, SettlementStatus, SimulatedBlock, SimulatedCall,
        TraceTarget, TxLocation, TxOutcome, WindowLeft,
    },
    types::{
        AccountInfo, AddressPrefix, Attestation, BatchOutcome, BlockAttributes, DaKind, DataPrice,
        ExecutedBlock, FrameStart, Inclusion, L1Ref, Preconfirmation, Receipt, RecoveredTx,
        RejectReason, SealedHeader, Stage, TxDeposit, TxEnvelope, TxStatus, TxType,
    },
};

const SOMEBODY: Address = Address::repeat_byte(0xb0);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/messages")
}

fn place(number: u64) -> BlockNumHash {
    BlockNumHash::new(number, B256::repeat_byte(number as u8))
}

fn transactions() -> Vec<Arc<RecoveredTx>> {
    let signature = Signature::test_signature();
    let input = vec![1, 2, 3].into();
    let create = TxLegacy { chain_id: Some(5), gas_limit: 90_000, input, ..TxLegacy::default() };
    let transfer = TxEip1559 {
        chain_id: 5,
        nonce: 300,
        gas_limit: 21_000,
        max_fee_per_gas: 1 << 40,
        to: TxKind::Call(SOMEBODY),
        value: U256::from(10).pow(U256::from(18)),
        ..TxEip1559::default()
    };
    let deposit = TxDeposit { from: SOMEBODY, mint: 5, ..TxDeposit::default() };
    [
        deposit.into(),
        TxEnvelope::Legacy(create.into_signed(signature)),
        TxEnvelope::Eip1559(Signed::new_unhashed(transfer, signature)),
    ]
    .map(|tx| Arc::new(RecoveredTx::new_unchecked(tx, SOMEBODY)))
    .into()
}

fn receipts() -> Vec<Receipt> {
    let data = LogData::new_unchecked(vec![B256::repeat_byte(1)], vec![7; 5].into());
    let log = Log { address: SOMEBODY, data };
    let receipt = |tx_type, cumulative_gas_used, logs| Receipt {
        tx_type,
        success: true,
        cumulative_gas_used,
        logs,
    };
    vec![
        receipt(TxType::Deposit, 21_000, vec![]),
        receipt(TxType::Legacy, 100_000, vec![log]),
        receipt(TxType::Eip1559, 121_000, vec![]),
    ]
}

fn header() -> SealedHeader {
    Header {
        number: 7,
        parent_hash: B256::repeat_byte(6),
        timestamp: 1_700_000_000,
        gas_limit: 30_000_000,
        gas_used: 121_000,
        base_fee_per_gas: Some(7),
        withdrawals_root: Some(B256::repeat_byte(2)),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        ..Header::default()
    }
    .seal_slow()
}

fn block() -> Arc<ExecutedBlock> {
    let (header, transactions, receipts) = (header(), transactions(), receipts());
    Arc::new(ExecutedBlock { header, transactions, receipts })
}

fn status(stage: Stage) -> TxStatus {
    let reached = stage >= Stage::Posted && stage != Stage::Dropped;
    TxStatus {
        hash: transactions()[1].hash(),
        stage,
        reached_at: Some(Duration::from_millis(1_700_000_000_123)),
        inclusion: reached.then(|| Inclusion {
            block: place(7),
            index: 1,
            gas_used: 79_000,
            receipt: receipts()[1].clone(),
            contract_address: Some(Address::repeat_byte(9)),
        }),
        batch: reached.then_some(3),
        l1: reached.then(|| L1Ref { tx_hash: B256::repeat_byte(3), block: place(100) }),
        reason: (stage == Stage::Dropped).then_some(RejectReason::Underpriced { required: 12 }),
    }
}

fn outcome(status: CallStatus) -> CallOutcome {
    CallOutcome { status, output: vec![8; 36].into(), gas_used: 22_000 }
}

fn request() -> CallRequest {
    let transaction = TransactionRequest::default().from(SOMEBODY).to(SOMEBODY);
    let overrides =
        json!({ SOMEBODY.to_string(): { "balance": "0x5", "nonce": "0x1", "code": "0x00" } });
    CallRequest {
        transaction,
        state_overrides: serde_json::from_value(overrides).expect("overrides"),
        block_overrides: serde_json::from_value(json!({ "number": "0x9" })).expect("overrides"),
    }
}

fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let attributes = BlockAttributes {
        number: 8,
        parent_hash: header().seal(),
        timestamp: 1_700_000_001,
        fee_recipient: SOMEBODY,
        gas_limit: 30_000_000,
        prev_randao: B256::ZERO,
        parent_beacon_block_root: B256::ZERO,
        extra_data: vec![1; 32].into(),
    };
    let batch =
        pb::TransactionBatch { transactions: txs_to_pb(&transactions()), ..Default::default() };
    let receipt = receipts().swap_remove(1).into();
    let included = TxOutcome::Included { index: 1, gas_used: 79_000, receipt };
    let invalid = TxOutcome::Invalid(RejectReason::Underpriced { required: 12 });
    let frame = Preconfirmation {
        block: 7,
        parent_hash: B256::repeat_byte(6),
        timestamp: 1_700_000_000,
        base_fee: 7,
        frame: 2,
        start: FrameStart::default(),
        transactions: transactions(),
        receipts: receipts().into_iter().map(Into::into).collect(),
        diff: None,
    };
    let call = |logs: &Receipt| SimulatedCall {
        outcome: outcome(CallStatus::Halted("out of gas".to_owned())),
        max_used_gas: 50_000,
        logs: logs.logs.clone(),
    };
    let calls = receipts().iter().map(call).collect();
    let simulated = vec![SimulatedBlock { block: block(), calls }];
    vec![
        ("SealedHeader", pb::SealedHeader::from(&header()).encode_to_vec()),
        ("ExecutedBlock", block_to_pb(Some(&block())).encode_to_vec()),
        ("BlockAttributes", pb::BlockAttributes::from(attributes).encode_to_vec()),
        ("TransactionBatch", batch.encode_to_vec()),
        ("TransactionOutcome", outcome_to_pb(included).encode_to_vec()),
        ("TransactionOutcome", outcome_to_pb(invalid).encode_to_vec()),
        ("Preconfirmation", pb::Preconfirmation::from(&frame).encode_to_vec()),
        ("Block", pb::Block::from(&*block()).encode_to_vec()),
        ("SimulatedBlocks", pb::SimulatedBlocks::from(simulated).encode_to_vec()),
    ]
}

fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let at = BlockSelector::Hash(B256::repeat_byte(7));
    let account = AccountInfo { nonce: 3, balance: U256::MAX, code_hash: B256::repeat_byte(5) };
    let location = TxLocation { block: place(7), index: 1 };
    let request_of = |request| call_request(&request, at).expect("a request").encode_to_vec();
    let target = TraceTarget::Call { request: Box::new(request()), at, index: Some(2) };
    let options = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } });
    let options = serde_json::from_value(options).expect("options");
    let trace = trace_request(&target, &options).expect("a request");
    let prefix = AddressPrefix::new(8, 0xb0).expect("eight bits");
    vec![
        ("BlockSelector", pb::BlockSelector::from(at).encode_to_vec()),
        ("TransactionLocation", pb::TransactionLocation::from(Some(location)).encode_to_vec()),
        ("Account", pb::Account::from(Some(account)).encode_to_vec()),
        ("AddressPrefix", pb::AddressPrefix::from(prefix).encode_to_vec()),
        ("StorageValue", pb::StorageValue::from(U256::from(77)).encode_to_vec()),
        ("CallRequest", request_of(request())),
        ("CallResponse", pb::CallResponse::from(outcome(CallStatus::Reverted)).encode_to_vec()),
        ("EstimateGasResponse", {
            let estimate = GasEstimate::Fails(outcome(CallStatus::Halted("stack".to_owned())));
            pb::EstimateGasResponse::from(estimate).encode_to_vec()
        }),
        ("TraceRequest", trace.encode_to_vec()),
    ]
}

fn statuses() -> Vec<(&'static str, Vec<u8>)> {
    let heads = ChainHeads { latest: place(9), safe: place(8), finalized: place(7) };
    let sequencer = SequencerStatus {
        chain_id: 5,
        heads,
        pool: PoolStatus { pending: 1, queued: 2 },
        block_time: Duration::from_millis(250),
        next_base_fee: 7,
        version: "1.2.3".to_owned(),
        data_price: DataPrice(8),
    };
    let refused = RefusedBlocks { after: 1, last: place(2), due: 3 };
    let da = DaStatus {
        backend: "l1_blob".to_owned(),
        batched_block: 5,
        l1_fees: U256::from(10).pow(U256::from(20)),
        halted: Some("why".to_owned()),
        chosen: Some("l1_calldata".to_owned()),
        window: Some(WindowLeft { seconds: 8, whole: 9 }),
        refused: Some(refused),
        data_price: DataPrice(13),
        ..DaStatus::default()
    };
    let batch = OutboxBatch {
        number: 1,
        first_block: 1,
        last_block: 9,
        digest: B256::repeat_byte(4),
        data: vec![2; 40].into(),
        posted: true,
    };
    let pooled = PooledTx { tx: transactions().swap_remove(2), status: status(Stage::Accepted) };
    vec![
        (
            "TransactionStatus",
            pb::TransactionStatus::from(status(Stage::Committed)).encode_to_vec(),
        ),
        ("TransactionStatus", pb::TransactionStatus::from(status(Stage::Dropped)).encode_to_vec()),
        ("Transaction", pb::Transaction::from(pooled).encode_to_vec()),
        ("SequencerStatus", pb::SequencerStatus::from(sequencer).encode_to_vec()),
        ("DaStatus", pb::DaStatus::from(da).encode_to_vec()),
        ("Batch", pb::Batch::from(Some(batch)).encode_to_vec()),
    ]
}

fn settlement() -> Vec<(&'static str, Vec<u8>)> {
    let l1 = L1Ref { tx_hash: B256::repeat_byte(3), block: place(100) };
    let point =
        BatchPoint { batch: 2, last_block: 20, last_block_hash: Some(B256::repeat_byte(2)) };
    let status = SettlementStatus {
        l1_head: place(100),
        posted: Some(BatchPoint { last_block_hash: None, ..point }),
        verified: Some(point),
        committed: Some(point),
        finalized: None,
        l1_fees: U256::from(12_345),
        halted: None,
        unmatched: Some(place(20)),
    };
    let verdict = |end| BatchVerdict { batch_hash: B256::repeat_byte(1), end };
    let outcome = BatchOutcome {
        batch: 2,
        batch_hash: B256::repeat_byte(1),
        first_block: 11,
        last_block: 20,
        last_block_hash: B256::repeat_byte(2),
        state_root: B256::repeat_byte(3),
        message_root: B256::ZERO,
    };
    let attestation = Attestation { outcome, reverts: 1, signature: Signature::test_signature() };
    let record = BatchRecord {
        number: 2,
        first_block: 11,
        last_block: 20,
        digest: B256::repeat_byte(4),
        da_kind: DaKind::L1Blob,
        posted: l1,
        committed: Some(l1),
        finalized: false,
    };
    vec![
        ("SettlementStatus", pb::SettlementStatus::from(status).encode_to_vec()),
        ("BatchPoint", pb::BatchPoint::from(point).encode_to_vec()),
        ("BatchVerdict", pb::BatchVerdict::from(Some(verdict(Ok(place(20))))).encode_to_vec()),
        ("BatchVerdict", pb::BatchVerdict::from(Some(verdict(Err("bad".into())))).encode_to_vec()),
        ("AttestReply", pb::AttestReply::from(Some(attestation)).encode_to_vec()),
        ("BatchRecord", pb::BatchRecord::from(Some(record)).encode_to_vec()),
        ("L1Ref", pb::L1Ref::from(l1).encode_to_vec()),
    ]
}

fn errors() -> Vec<(&'static str, Vec<u8>)> {
    let full = RejectReason::PoolFull { limit: 5 };
    let details = |error: ExecutorError| {
        let status = error.status();
        [&[i32::from(status.code()) as u8], status.details()].concat()
    };
    let unknown = ExecutorError::UnknownBlock(BlockSelector::Number(4));
    vec![
        ("Rejection", reject_fault(&full).into_rejection().encode_to_vec()),
        ("google.rpc.Status", details(unknown)),
        ("google.rpc.Status", details(ExecutorError::BuildDiscarded)),
    ]
}

fn json_values() -> Vec<(&'static str, Vec<u8>)> {
    let word = B256::repeat_byte(3);
    let logs = json!([{
        "address": SOMEBODY, "topics": [word], "data": "0x0102", "blockHash": word, "blockNumber": "0x7",
        "blockTimestamp": "0x65", "transactionHash": word, "transactionIndex": "0x1", "logIndex": "0x0", "removed": false,
    }]);
    let genesis = json!({
        "config": { "chainId": 5, "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0,
                    "millrace": { "gasLimit": 30_000_000 } },
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "alloc": { SOMEBODY.to_string(): { "balance": "0x5" } },
    });
    let proof = json!({
        "address": SOMEBODY, "balance": "0x5", "codeHash": word, "nonce": "0x1", "storageHash": word,
        "accountProof": ["0xc0"], "storageProof": [{ "key": "0x1", "value": "0x2", "proof": ["0xc0"] }],
    });
    let list = json!({ "accessList": [{ "address": SOMEBODY, "storageKeys": [word] }], "gasUsed": "0x5208" });
    let diff = json!({
        "accounts": { SOMEBODY.to_string(): {
            "before": null,
            "after": { "nonce": 1, "balance": "0x5", "codeHash": word },
            "storage": { word.to_string(): { "before": "0x0", "after": "0x1" } },
        } },
        "code": { word.to_string(): "0x6000" },
    });
    let filter = json!({ "fromBlock": "0x1", "toBlock": "0x2", "address": [SOMEBODY], "topics": [word, null, [word]] });
    let payload = json!({
        "blockStateCalls": [{
            "blockOverrides": { "number": "0x9", "time": "0x65" },
            "stateOverrides": { SOMEBODY.to_string(): { "balance": "0x5" } },
            "calls": [{ "from": SOMEBODY, "to": SOMEBODY, "value": "0x1", "input": "0x01" }],
        }],
        "traceTransfers": true, "validation": false, "returnFullTransactions": true,
    });
    let bytes = |value: Value| value.to_string().into_bytes();
    vec![
        ("Genesis.json", bytes(genesis)),
        ("JsonValue.json of GetProof", bytes(proof)),
        ("JsonValue.json of CreateAccessList", bytes(list)),
        ("JsonValue.json of GetLogs", bytes(logs)),
        ("JsonValue.json of GetStateDiff", bytes(diff)),
        ("GetLogsRequest.filter_json", bytes(filter)),
        ("SimulateRequest.payload_json", bytes(payload)),
    ]
}

#[test]
fn the_seeds_are_every_message() {
    let all = [blocks(), answers(), statuses(), settlement(), errors(), json_values()].concat();
    let place_of = |name: &str| {
        let place = MESSAGES.iter().position(|(message, _)| *message == name);
        place.unwrap_or_else(|| panic!("there is no {name}"))
    };
    for (message, _) in MESSAGES {
        assert!(all.iter().any(|(name, _)| name == message), "there is no seed of {message}");
    }
    let made = all.iter().enumerate().map(|(number, (name, bytes))| {
        let selector = u8::try_from(place_of(name)).expect("few messages");
        (format!("{number:02}-{}", name.replace(' ', "-")), [&[selector], &bytes[..]].concat())
    });
    let made: Vec<_> = made.collect();
    for (name, bytes) in &made {
        assert!(any_message(bytes), "{name} makes no sense");
    }
    keep(&folder(), made);
}

#[test]
fn any_bytes_as_messages_are_a_value_or_an_error() {
    for bytes in near(seeds(&folder()), 20_000) {
        any_message(&bytes);
    }
}
