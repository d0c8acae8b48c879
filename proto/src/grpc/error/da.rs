//! The DA adapter's errors on the wire.

use tonic::Code;

use crate::{
    grpc::error::{
        Fault, RemoteError, WireError,
        transport::{transport_fault, transport_from_fault},
    },
    service::{DaAdapterError, TransportError},
};

const OUTBOX: &str = "DA_OUTBOX";

impl WireError for DaAdapterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Outbox(source) => {
                Fault::new(Code::Internal, OUTBOX, self).with("problem", source)
            }
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        if fault.reason == OUTBOX {
            return Some(Self::Outbox(RemoteError::boxed(fault)));
        }
        transport_from_fault(fault).map(Self::Transport)
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}
