//! Millrace's contracts: domain types, service traits and their errors, wire formats.
//!
//! Everything else in the workspace depends on this crate, and this crate depends on no other of it.
//!
//! ```text
//!  types     blocks, transactions, deposits, batches, stages: parsed once, then trusted
//!  service   one trait a service; implemented by the service itself and by its gRPC client
//!  grpc      generated messages, conversions, servers and clients (millrace/v1/*.proto)
//!  batch     the versioned batch codec: pure, bounded, total
//! ```

mod batch;
pub mod grpc;
mod service;
mod types;

pub use self::{
    batch::{
        AccountNames, Batch, BatchBlock, BatchColumn, BatchDecodeError, BatchDictionary,
        BatchEncodeError, BatchLimits, BatchOutline, BlockMark, DecodedBatch, DiffBatch, KeyHints,
        MAX_BLOCK_TX_BYTES, NameError, NamedDelta, batch_digest,
    },
    service::*,
    types::*,
};
