//! What the executor is asked, and what it answers.

use std::sync::Arc;

use alloy::{
    primitives::{Log, U256},
    rlp::{self, Decodable},
    rpc::types::trace::geth::GethDebugTracingOptions,
};
use bytes::Bytes;

use crate::{
    grpc::{
        convert::{
            Parsed, block_ref_from_pb, block_ref_to_pb, from_json, hash, hash_bytes, missing,
            to_json, u256, u256_bytes,
        },
        pb::{self, block_selector::Selector, call_response::Status, trace_request::Target},
    },
    service::{
        BlockSelector, CallOutcome, CallRequest, CallStatus, GasEstimate, OpenPoint,
        SimulatedBlock, SimulatedCall, TraceTarget, TransportError, TxLocation,
    },
    types::{AccountInfo, AddressPrefix, ExecutedBlock},
};

impl From<BlockSelector> for pb::BlockSelector {
    fn from(at: BlockSelector) -> Self {
        Self {
            selector: Some(match at {
                BlockSelector::Latest => Selector::Latest(pb::Latest {}),
                BlockSelector::Number(number) => Selector::Number(number),
                BlockSelector::Hash(hash) => Selector::Hash(hash_bytes(hash)),
                BlockSelector::Open(OpenPoint { number, parent, last }) => {
                    let (parent, last) = (hash_bytes(parent), hash_bytes(last));
                    Selector::Open(pb::OpenPoint { number, parent, last })
                }
            }),
        }
    }
}

pub(crate) fn selector_from_pb(at: Option<pb::BlockSelector>) -> Parsed<BlockSelector> {
    match at.and_then(|at| at.selector).ok_or_else(|| missing("BlockSelector.selector"))? {
        Selector::Latest(_) => Ok(BlockSelector::Latest),
        Selector::Number(number) => Ok(BlockSelector::Number(number)),
        Selector::Hash(bytes) => hash("BlockSelector.hash", &bytes).map(BlockSelector::Hash),
        Selector::Open(pb::OpenPoint { number, parent, last }) => {
            let parent = hash("OpenPoint.parent", &parent)?;
            let last = hash("OpenPoint.last", &last)?;
            Ok(BlockSelector::Open(OpenPoint { number, parent, last }))
        }
    }
}

pub(crate) fn call_request(request: &CallRequest, at: BlockSelector) -> Parsed<pb::CallRequest> {
    Ok(pb::CallRequest { json: to_json("CallRequest.json", request)?, at: Some(at.into()) })
}

pub(crate) fn call_from_pb(message: pb::CallRequest) -> Parsed<(CallRequest, BlockSelector)> {
    Ok((from_json("CallRequest.json", &message.json)?, selector_from_pb(message.at)?))
}

pub(crate) fn trace_request(
    target: &TraceTarget,
    options: &GethDebugTracingOptions,
) -> Parsed<pb::TraceRequest> {
    let target = match target {
        TraceTarget::Transaction { block, index } => Target::Transaction(pb::TracedTransaction {
            block: Some((*block).into()),
            index: *index,
        }),
        TraceTarget::Block(block) => Target::Block((*block).into()),
        TraceTarget::Call { request, at, index } => {
            let request = Some(call_request(request, *at)?);
            Target::Call(pb::TracedCall { request, index: *index })
        }
    };
    let options_json = to_json("TraceRequest.options_json", options)?;
    Ok(pb::TraceRequest { target: Some(target), options_json })
}

pub(crate) fn trace_from_pb(
    message: pb::TraceRequest,
) -> Parsed<(TraceTarget, GethDebugTracingOptions)> {
    let target = match message.target.ok_or_else(|| missing("TraceRequest.target"))? {
        Target::Transaction(pb::TracedTransaction { block, index }) => {
            TraceTarget::Transaction { block: selector_from_pb(block)?, index }
        }
        Target::Block(block) => TraceTarget::Block(selector_from_pb(Some(block))?),
        Target::Call(pb::TracedCall { request, index }) => {
            let request = request.ok_or_else(|| missing("TracedCall.request"))?;
            let (request, at) = call_from_pb(request)?;
            TraceTarget::Call { request: Box::new(request), at, index }
        }
    };
    Ok((target, from_json("TraceRequest.options_json", &message.options_json)?))
}

impl From<Option<TxLocation>> for pb::TransactionLocation {
    fn from(location: Option<TxLocation>) -> Self {
        location.map_or_else(Self::default, |location| Self {
            block: Some(block_ref_to_pb(location.block)),
            index: location.index,
        })
    }
}

impl TryFrom<pb::TransactionLocation> for Option<TxLocation> {
    type Error = TransportError;

    fn try_from(message: pb::TransactionLocation) -> Parsed<Self> {
        if message.block.is_none() {
            return Ok(None);
        }
        let block = block_ref_from_pb("TransactionLocation.block", message.block)?;
        Ok(Some(TxLocation { block, index: message.index }))
    }
}

impl From<AddressPrefix> for pb::AddressPrefix {
    fn from(prefix: AddressPrefix) -> Self {
        Self { bits: prefix.bits().into(), value: prefix.value() }
    }
}

impl TryFrom<pb::AddressPrefix> for AddressPrefix {
    type Error = TransportError;

    fn try_from(message: pb::AddressPrefix) -> Parsed<Self> {
        let bits = u8::try_from(message.bits).ok();
        bits.and_then(|bits| Self::new(bits, message.value)).ok_or_else(|| {
            let problem = format!("has no {} bits, 1 to 64", message.bits);
            TransportError::malformed("AddressPrefix.value", problem)
        })
    }
}

impl From<Option<AccountInfo>> for pb::Account {
    fn from(account: Option<AccountInfo>) -> Self {
        account.map_or_else(Self::default, |account| Self {
            exists: true,
            nonce: account.nonce,
            balance: u256_bytes(account.balance),
            code_hash: hash_bytes(account.code_hash),
        })
    }
}

impl TryFrom<pb::Account> for Option<AccountInfo> {
    type Error = TransportError;

    fn try_from(message: pb::Account) -> Parsed<Self> {
        if !message.exists {
            return Ok(None);
        }
        Ok(Some(AccountInfo {
            balance: u256("Account.balance", &message.balance)?,
            nonce: message.nonce,
            code_hash: hash("Account.code_hash", &message.code_hash)?,
        }))
    }
}

impl From<U256> for pb::StorageValue {
    fn from(value: U256) -> Self {
        Self { value: Bytes::copy_from_slice(&value.to_be_bytes::<32>()) }
    }
}

impl TryFrom<pb::StorageValue> for U256 {
    type Error = TransportError;

    fn try_from(message: pb::StorageValue) -> Parsed<Self> {
        hash("StorageValue.value", &message.value).map(Into::into)
    }
}

impl From<CallOutcome> for pb::CallResponse {
    fn from(outcome: CallOutcome) -> Self {
        let (status, halt_reason) = match outcome.status {
            CallStatus::Success => (Status::Success, String::new()),
            CallStatus::Reverted => (Status::Reverted, String::new()),
            CallStatus::Halted(reason) => (Status::Halted, reason),
        };
        Self {
            status: status.into(),
            output: outcome.output.0,
            gas_used: outcome.gas_used,
            halt_reason,
        }
    }
}

impl TryFrom<pb::CallResponse> for CallOutcome {
    type Error = TransportError;

    fn try_from(message: pb::CallResponse) -> Parsed<Self> {
        let status = match message.status() {
            Status::Success => CallStatus::Success,
            Status::Reverted => CallStatus::Reverted,
            Status::Halted => CallStatus::Halted(message.halt_reason),
            Status::Unspecified => return Err(missing("CallResponse.status")),
        };
        Ok(Self { status, output: message.output.into(), gas_used: message.gas_used })
    }
}

impl From<GasEstimate> for pb::EstimateGasResponse {
    fn from(estimate: GasEstimate) -> Self {
        match estimate {
            GasEstimate::Gas(gas) => Self { gas, failure: None },
            GasEstimate::Fails(outcome) => Self { gas: 0, failure: Some(outcome.into()) },
        }
    }
}

impl TryFrom<pb::EstimateGasResponse> for GasEstimate {
    type Error = TransportError;

    fn try_from(message: pb::EstimateGasResponse) -> Parsed<Self> {
        Ok(match message.failure {
            Some(failure) => Self::Fails(failure.try_into()?),
            None => Self::Gas(message.gas),
        })
    }
}

impl From<Vec<SimulatedBlock>> for pb::SimulatedBlocks {
    fn from(blocks: Vec<SimulatedBlock>) -> Self {
        let block = |SimulatedBlock { block, calls }: SimulatedBlock| pb::SimulatedBlock {
            block: Some((&*block).into()),
            calls: calls.into_iter().map(Into::into).collect(),
        };
        Self { blocks: blocks.into_iter().map(block).collect() }
    }
}

impl TryFrom<pb::SimulatedBlocks> for Vec<SimulatedBlock> {
    type Error = TransportError;

    fn try_from(message: pb::SimulatedBlocks) -> Parsed<Self> {
        let block = |message: pb::SimulatedBlock| {
            let block = message.block.map(Option::<Arc<ExecutedBlock>>::try_from).transpose()?;
            let block = block.flatten().ok_or_else(|| missing("SimulatedBlock.block"))?;
            let calls: Vec<_> =
                message.calls.into_iter().map(TryInto::try_into).collect::<Parsed<_>>()?;
            if calls.len() != block.transactions.len() {
                let problem =
                    format!("{} calls of {} transactions", calls.len(), block.transactions.len());
                return Err(TransportError::malformed("SimulatedBlock.calls", problem));
            }
            Ok(SimulatedBlock { block, calls })
        };
        message.blocks.into_iter().map(block).collect()
    }
}

impl From<SimulatedCall> for pb::SimulatedCall {
    fn from(call: SimulatedCall) -> Self {
        Self {
            outcome: Some(call.outcome.into()),
            max_used_gas: call.max_used_gas,
            logs: call.logs.iter().map(|log| rlp::encode(log).into()).collect(),
        }
    }
}

impl TryFrom<pb::SimulatedCall> for SimulatedCall {
    type Error = TransportError;

    fn try_from(message: pb::SimulatedCall) -> Parsed<Self> {
        let log = |bytes: &Bytes| {
            Log::decode(&mut &bytes[..])
                .map_err(|error| TransportError::malformed("SimulatedCall.logs", error))
        };
        let outcome = message.outcome.ok_or_else(|| missing("SimulatedCall.outcome"))?;
        Ok(Self {
            outcome: outcome.try_into()?,
            max_used_gas: message.max_used_gas,
            logs: message.logs.iter().map(log).collect::<Parsed<_>>()?,
        })
    }
}
