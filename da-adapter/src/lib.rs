//! The DA adapter: compresses blocks into batches and posts them, and reads posted batches back.
//!
//! ```text
//!  Executor::subscribe(cursor) ─> batcher ── one synced write ──> outbox: batches, cursor
//!                                                                  │          ^
//!                       DA layer <── backend <── poster <──────────┘          │
//!                       contract <── postBatch ──┘ └── posted, reorged, final ┘
//!
//!  beacon node, outbox ── blobs of final batches ──> archive
//!  PostedBatch ─> MultiReader ─> backend of its kind, or archive ── checked against L1's record ──> encoded batch
//! ```
//!
//! The contract is the truth of which batches are posted: after a restart or an L1 reorg, the
//! poster goes on with the number after the contract's last. Everything in the outbox that is not
//! on L1 can be made again from the executor's blocks.

#[cfg(any(test, feature = "testing"))]
pub mod alt_da_server;
mod archive;
mod availability;
mod backend;
mod batcher;
mod blob;
#[cfg(all(feature = "celestia", any(test, feature = "testing")))]
pub mod celestia_server;
mod chain;
mod config;
mod error;
mod halt;
mod inclusion;
mod metrics;
mod objects;
mod outbox;
mod poster;
mod price;
mod reader;
mod resume;
#[cfg(any(test, feature = "testing"))]
mod served;
mod service;
mod switch;
#[cfg(test)]
mod testing;
mod window;

#[cfg(feature = "celestia")]
pub use self::backend::{CelestiaBackend, CelestiaError};
pub use self::{
    archive::BlobArchive,
    availability::{AttestError, AvailabilityAttestation},
    backend::{
        AltDaBackend, AltDaError, Availability, BackendError, DaBackend, L1BlobBackend,
        L1CalldataBackend, ObjectStoreBackend, Prepared, SubmitRequest,
    },
    blob::{
        MAX_BLOBS, UnpackError, blobs_needed, capacity as blob_capacity, unpack as unpack_blobs,
    },
    config::{
        AltDaCommitment, AltDaConfig, BackendKind, CelestiaConfig, DaAdapterConfig, InvalidConfig,
        ObjectStoreConfig, SwitchingConfig, TokenSource,
    },
    error::{DaAdapterOpenError, DaAdapterRunError},
    inclusion::{
        ConfirmError, Confirmation, Holding, INCLUSION_PROOF_VERSION, Inclusion, InclusionProof,
        InclusionProofError, Standing,
    },
    objects::ObjectStoreError,
    outbox::OutboxError,
    reader::{DaSources, MultiReader},
    service::{DaAdapterDeps, DaAdapterHandle, DaAdapterService},
};
