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
const UNKNOWN_BACKEND: &str = "DA_UNKNOWN_BACKEND";

impl WireError for DaAdapterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Outbox(source) => {
                Fault::new(Code::Internal, OUTBOX, self).with("problem", source)
            }
            Self::UnknownBackend { backend, known } => {
                Fault::new(Code::InvalidArgument, UNKNOWN_BACKEND, self)
                    .with("backend", backend)
                    .with("known", known)
            }
            Self::Transport(error) => transport_fault(error),
        }
    }

    fn from_fault(fault: &Fault) -> Option<Self> {
        if fault.reason == OUTBOX {
            return Some(Self::Outbox(RemoteError::boxed(fault)));
        }
        if fault.reason == UNKNOWN_BACKEND {
            let (backend, known) = (fault.get("backend")?, fault.get("known")?);
            return Some(Self::UnknownBackend { backend, known });
        }
        transport_from_fault(fault).map(Self::Transport)
    }

    fn from_transport(error: TransportError) -> Self {
        Self::Transport(error)
    }
}
