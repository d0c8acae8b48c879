//! The sequencer's errors on the wire. An executor's error behind it carries the fact `service` = `executor`.

use tonic::Code;

use crate::{
    grpc::error::{
        Fault, RemoteError, WireError,
        reject::{reject_fault, reject_from_fault},
        transport::{transport_fault, transport_from_fault},
    },
    service::{ExecutorError, SequencerError, SubmitError, TransportError},
};

const UNKNOWN_TRANSACTION: &str = "UNKNOWN_TRANSACTION";
const ORDER_LOG: &str = "ORDER_LOG";
const NOT_TAKING: &str = "NOT_TAKING_TRANSACTIONS";
const LAGGED: &str = "SUBSCRIBER_LAGGED";
const NO_STATE_DIFFS: &str = "NO_STATE_DIFFS";

impl WireError for SequencerError {
    fn fault(&self) -> Fault {
        let fault = |code, reason| Fault::new(code, reason, self);
        match self {
            Self::UnknownTransaction(hash) => {
                fault(Code::NotFound, UNKNOWN_TRANSACTION).with("hash", hash)
            }
            Self::Executor(error) => error.fault().with("service", "executor"),
            Self::OrderLog(source) => fault(Code::Internal, ORDER_LOG).with("problem", source),
            Self::Lagged { missed } => {
                fault(Code::ResourceExhausted, LAGGED).with("missed", missed)
            }
            Self::NoStateDiffs => fault(Code::FailedPrecondition, NO_STATE_DIFFS),
            Self::Unavailable(problem) => {
                fault(Code::Unavailable, NOT_TAKING).with("problem", problem)
            }
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        if fault.text("service") == "executor" {
            return ExecutorError::from_fault(fault).map(Self::Executor);
        }
        Some(match fault.reason.as_ref() {
            UNKNOWN_TRANSACTION => Self::UnknownTransaction(fault.get("hash")?),
            ORDER_LOG => Self::OrderLog(RemoteError::boxed(fault)),
            LAGGED => Self::Lagged { missed: fault.get("missed")? },
            NO_STATE_DIFFS => Self::NoStateDiffs,
            NOT_TAKING => Self::Unavailable(fault.text("problem").to_owned()),
            _ => return transport_from_fault(fault).map(Self::Transport),
        })
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl WireError for SubmitError {
    fn fault(&self) -> Fault {
        match self {
            Self::Rejected(reason) => reject_fault(reason),
            Self::Failed(error) => error.fault(),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        reject_from_fault(fault)
            .map(Self::Rejected)
            .or_else(|| SequencerError::from_fault(fault).map(Self::Failed))
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Failed(SequencerError::Transport(error))
    }
}
