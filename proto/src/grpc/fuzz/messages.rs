//! The messages that are converted, and how each is read and written.

use std::sync::Arc;

use alloy::{
    primitives::U256,
    rpc::types::{
        AccessListResult, EIP1186AccountProofResponse, Filter, Log, simulate::SimulatePayload,
    },
};

use crate::{
    grpc::{
        convert::{
            block_to_pb, call_from_pb, call_request, outcome_from_pb, outcome_to_pb,
            selector_from_pb, trace_from_pb, trace_request, txs_from_pb, txs_to_pb,
        },
        fuzz::{converts, decoded, errors, json_round_trips, reads, round_trips},
        pb,
    },
    service::{
        BatchPoint, BatchRecord, BatchVerdict, CallOutcome, DaStatus, GasEstimate, OutboxBatch,
        PooledTx, SequencerStatus, SettlementStatus, SimulatedBlock, TxLocation,
    },
    types::{
        AccountInfo, AddressPrefix, Attestation, BlockAttributes, ChainSpec, ExecutedBlock, L1Ref,
        Preconfirmation, PublishedBlock, RecoveredTx, SealedHeader, StateDiff, TxStatus,
    },
};

type Check = fn(&[u8]) -> bool;

/// Each by its name. Seeds name them by their place: new ones go to the end.
pub const MESSAGES: &[(&str, Check)] = &[
    ("SealedHeader", |bytes| {
        round_trips(bytes, Option::<SealedHeader>::try_from, |header: Option<SealedHeader>| {
            header.as_ref().map(pb::SealedHeader::from).unwrap_or_default()
        })
    }),
    ("ExecutedBlock", |bytes| {
        round_trips(bytes, Option::<Arc<ExecutedBlock>>::try_from, |block: Option<Arc<_>>| {
            block_to_pb(block.as_deref())
        })
    }),
    ("BlockAttributes", converts::<pb::BlockAttributes, BlockAttributes>),
    ("TransactionBatch", |bytes| {
        round_trips(
            bytes,
            |batch: pb::TransactionBatch| txs_from_pb(batch.transactions),
            |txs: Vec<Arc<RecoveredTx>>| pb::TransactionBatch {
                transactions: txs_to_pb(&txs),
                ..Default::default()
            },
        )
    }),
    ("TransactionOutcome", |bytes| round_trips(bytes, outcome_from_pb, outcome_to_pb)),
    ("BlockSelector", |bytes| {
        round_trips(bytes, |at| selector_from_pb(Some(at)), pb::BlockSelector::from)
    }),
    ("TransactionLocation", converts::<pb::TransactionLocation, Option<TxLocation>>),
    ("Account", converts::<pb::Account, Option<AccountInfo>>),
    ("AddressPrefix", converts::<pb::AddressPrefix, AddressPrefix>),
    ("StorageValue", converts::<pb::StorageValue, U256>),
    ("CallRequest", |bytes| {
        round_trips(bytes, call_from_pb, |(request, at)| {
            call_request(&request, at).unwrap_or_else(|error| panic!("{error}"))
        })
    }),
    ("CallResponse", converts::<pb::CallResponse, CallOutcome>),
    ("EstimateGasResponse", converts::<pb::EstimateGasResponse, GasEstimate>),
    ("TraceRequest", |bytes| {
        round_trips(bytes, trace_from_pb, |(target, options)| {
            trace_request(&target, &options).unwrap_or_else(|error| panic!("{error}"))
        })
    }),
    ("SimulatedBlocks", converts::<pb::SimulatedBlocks, Vec<SimulatedBlock>>),
    ("TransactionStatus", converts::<pb::TransactionStatus, TxStatus>),
    ("Transaction", transaction),
    ("Preconfirmation", |bytes| {
        let Some(Ok(frame)) = decoded::<pb::Preconfirmation>(bytes).map(Preconfirmation::try_from)
        else {
            return false;
        };
        let again = Preconfirmation::try_from(pb::Preconfirmation::from(&frame));
        let again = again.unwrap_or_else(|error| panic!("{error}"));
        // What was not filled in before is now: gas and addresses of contracts.
        assert_eq!(again, frame);
        true
    }),
    ("Block", |bytes| reads(bytes, |block: pb::Block| PublishedBlock::try_from(block))),
    ("SequencerStatus", converts::<pb::SequencerStatus, SequencerStatus>),
    ("DaStatus", converts::<pb::DaStatus, DaStatus>),
    ("Batch", converts::<pb::Batch, Option<OutboxBatch>>),
    ("SettlementStatus", converts::<pb::SettlementStatus, SettlementStatus>),
    ("BatchPoint", converts::<pb::BatchPoint, BatchPoint>),
    ("BatchVerdict", converts::<pb::BatchVerdict, Option<BatchVerdict>>),
    ("AttestReply", converts::<pb::AttestReply, Option<Attestation>>),
    ("BatchRecord", converts::<pb::BatchRecord, Option<BatchRecord>>),
    ("L1Ref", converts::<pb::L1Ref, L1Ref>),
    ("Rejection", errors::rejection),
    ("google.rpc.Status", errors::status),
    ("Genesis.json", |json| {
        let Ok(spec) = ChainSpec::from_json(json) else { return false };
        let written = serde_json::to_vec(spec.genesis()).unwrap_or_else(|error| panic!("{error}"));
        let again = ChainSpec::from_json(&written).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.genesis(), spec.genesis());
        true
    }),
    ("JsonValue.json of GetProof", json_round_trips::<EIP1186AccountProofResponse>),
    ("JsonValue.json of CreateAccessList", json_round_trips::<AccessListResult>),
    ("JsonValue.json of GetLogs", json_round_trips::<Vec<Log>>),
    ("JsonValue.json of GetStateDiff", json_round_trips::<Option<StateDiff>>),
    ("GetLogsRequest.filter_json", json_round_trips::<Filter>),
    ("SimulateRequest.payload_json", json_round_trips::<SimulatePayload>),
];

fn transaction(bytes: &[u8]) -> bool {
    let Some(Ok(pooled)) = decoded::<pb::Transaction>(bytes).map(PooledTx::try_from) else {
        return false;
    };
    let again = PooledTx::try_from(pb::Transaction::from(pooled.clone()));
    let again = again.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.tx, pooled.tx);
    true
}
