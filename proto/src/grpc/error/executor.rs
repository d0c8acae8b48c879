//! The executor's errors on the wire.

use std::time::Duration;

use tonic::Code;

use crate::{
    grpc::error::{
        Fault, RemoteError, WireError,
        reject::{add_facts, reject_from_parts},
        transport::{transport_fault, transport_from_fault},
    },
    service::{
        BlockSelector, ExecutorError, OpenPoint, SimulationCode, SimulationError, TraceLimit,
        TransportError,
    },
};

const UNKNOWN_BLOCK: &str = "UNKNOWN_BLOCK";
const STATE_PRUNED: &str = "STATE_PRUNED";
const NOT_HEAD: &str = "NOT_HEAD";
const INVALID_REQUEST: &str = "INVALID_REQUEST";
const NOT_INCLUDABLE: &str = "NOT_INCLUDABLE";
const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
const TRACE_LIMIT: &str = "TRACE_LIMIT_EXCEEDED";
const SIMULATION: &str = "SIMULATION_FAILED";
const BUILD_DISCARDED: &str = "BUILD_DISCARDED";
const STORE: &str = "EXECUTOR_STORE";
const STOPPED: &str = "EXECUTOR_STOPPED";

impl WireError for ExecutorError {
    fn fault(&self) -> Fault {
        let fault = |code, reason| Fault::new(code, reason, self);
        match self {
            Self::UnknownBlock(at) => fault(Code::NotFound, UNKNOWN_BLOCK).with("block", at),
            Self::StatePruned { block, oldest } => {
                fault(Code::OutOfRange, STATE_PRUNED).with("block", block).with("oldest", oldest)
            }
            Self::NotHead { head_number, head_hash, problem } => {
                fault(Code::FailedPrecondition, NOT_HEAD)
                    .with("head_number", head_number)
                    .with("head_hash", head_hash)
                    .with("problem", problem)
            }
            Self::InvalidRequest(problem) => {
                fault(Code::InvalidArgument, INVALID_REQUEST).with("problem", problem)
            }
            Self::NotIncludable { hash, reason } => {
                let fault = fault(Code::FailedPrecondition, NOT_INCLUDABLE)
                    .with("transaction", hash)
                    .with("reject_reason", reason.code());
                add_facts(reason, fault)
            }
            Self::LimitExceeded { what, limit } => {
                fault(Code::OutOfRange, LIMIT_EXCEEDED).with("what", what).with("limit", limit)
            }
            Self::TraceLimit(over) => {
                let (what, limit) = match over {
                    TraceLimit::Gas(gas) => ("gas", *gas),
                    TraceLimit::Bytes(bytes) => ("bytes", *bytes),
                    TraceLimit::Time(time) => ("milliseconds", milliseconds(*time)),
                };
                fault(Code::OutOfRange, TRACE_LIMIT).with("what", what).with("limit", limit)
            }
            Self::Simulation(error) => fault(Code::InvalidArgument, SIMULATION)
                .with("code", error.code.code())
                .with("problem", &error.message),
            Self::BuildDiscarded => fault(Code::Unavailable, BUILD_DISCARDED),
            Self::Store(source) => fault(Code::Internal, STORE).with("problem", source),
            Self::Stopped(problem) => fault(Code::Internal, STOPPED).with("problem", problem),
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        Some(match fault.reason.as_ref() {
            UNKNOWN_BLOCK => Self::UnknownBlock(parse_selector(fault.text("block"))?),
            STATE_PRUNED => {
                Self::StatePruned { block: fault.get("block")?, oldest: fault.get("oldest")? }
            }
            NOT_HEAD => Self::NotHead {
                head_number: fault.get("head_number")?,
                head_hash: fault.get("head_hash")?,
                problem: fault.text("problem").to_owned(),
            },
            INVALID_REQUEST => Self::InvalidRequest(fault.text("problem").to_owned()),
            NOT_INCLUDABLE => Self::NotIncludable {
                hash: fault.get("transaction")?,
                reason: reject_from_parts(fault.text("reject_reason"), fault)?,
            },
            LIMIT_EXCEEDED => Self::LimitExceeded {
                what: known_quantity(fault.text("what")),
                limit: fault.get("limit")?,
            },
            TRACE_LIMIT => {
                let limit = fault.get("limit")?;
                Self::TraceLimit(match fault.text("what") {
                    "gas" => TraceLimit::Gas(limit),
                    "bytes" => TraceLimit::Bytes(limit),
                    "milliseconds" => TraceLimit::Time(Duration::from_millis(limit)),
                    _ => return None,
                })
            }
            SIMULATION => {
                let code: i32 = fault.get("code")?;
                let code = *SimulationCode::ALL.iter().find(|known| known.code() == code)?;
                let message = fault.text("problem").to_owned();
                Self::Simulation(SimulationError { code, message })
            }
            BUILD_DISCARDED => Self::BuildDiscarded,
            STORE => Self::Store(RemoteError::boxed(fault)),
            STOPPED => Self::Stopped(fault.text("problem").to_owned()),
            _ => return transport_from_fault(fault).map(Self::Transport),
        })
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The inverse of the selector's `Display`.
fn parse_selector(text: &str) -> Option<BlockSelector> {
    Some(match text {
        "latest" => BlockSelector::Latest,
        open if open.starts_with("open:") => {
            let mut parts = open.split(':').skip(1);
            let number = parts.next()?.parse().ok()?;
            let [parent, last] = [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?];
            BlockSelector::Open(OpenPoint { number, parent, last })
        }
        hash if hash.starts_with("0x") => BlockSelector::Hash(hash.parse().ok()?),
        number => BlockSelector::Number(number.parse().ok()?),
    })
}

/// What an executor says there is too much of.
fn known_quantity(what: &str) -> &'static str {
    const KNOWN: [&str; 2] = ["block range", "number of logs"];
    KNOWN.into_iter().find(|known| *known == what).unwrap_or("the result")
}
