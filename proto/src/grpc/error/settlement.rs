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

impl WireError for SettlementError {
    fn fault(&self) -> Fault {
        match self {
            Self::Store(source) => Fault::new(Code::Internal, STORE, self).with("problem", source),
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        if fault.reason == STORE {
            return Some(Self::Store(RemoteError::boxed(fault)));
        }
        transport_from_fault(fault).map(Self::Transport)
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}
