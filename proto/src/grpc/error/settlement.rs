//! The settlement service's errors on the wire.

use tonic::Code;

use crate::{
    grpc::error::{
        Fault, RemoteError, WireError,
        transport::{transport_fault, transport_from_fault},
    },
    service::{SettlementError, TransportError},
};

const STORE: &str = "SETTLEMENT_STORE";
const NOT_A_VERIFIER: &str = "SETTLEMENT_NOT_A_VERIFIER";
const ATTEST: &str = "SETTLEMENT_ATTEST";

impl WireError for SettlementError {
    fn fault(&self) -> Fault {
        match self {
            Self::Store(source) => Fault::new(Code::Internal, STORE, self).with("problem", source),
            Self::NotAVerifier => Fault::new(Code::Unimplemented, NOT_A_VERIFIER, self),
            Self::Attest(source) => {
                Fault::new(Code::FailedPrecondition, ATTEST, self).with("problem", source)
            }
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        match fault.reason.as_ref() {
            STORE => return Some(Self::Store(RemoteError::boxed(fault))),
            ATTEST => return Some(Self::Attest(RemoteError::boxed(fault))),
            NOT_A_VERIFIER => return Some(Self::NotAVerifier),
            _ => {}
        }
        transport_from_fault(fault).map(Self::Transport)
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}
