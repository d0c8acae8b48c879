//! Messages to domain types and back. Parsing checks every length and every field, and names the one that is wrong.

mod block;
mod da;
mod field;
mod query;
mod sequencer;
mod settlement;
mod status;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::block::{outcome_from_pb, outcome_to_pb};
pub(crate) use self::{
    block::{
        block_to_pb, executed_from_pb, executed_to_pb, noting_from_pb, noting_to_pb, txs_from_pb,
        txs_to_pb,
    },
    field::{
        address, address_bytes, block_ref_from_pb, block_ref_to_pb, from_json, hash, hash_bytes,
        missing, to_json, u256, u256_bytes,
    },
    query::{call_from_pb, call_request, selector_from_pb, trace_from_pb, trace_request},
    sequencer::frame_to_pb,
    status::{Wait, wait_to_pb},
};

use crate::service::TransportError;

/// The result of parsing a message.
pub(crate) type Parsed<T> = Result<T, TransportError>;
