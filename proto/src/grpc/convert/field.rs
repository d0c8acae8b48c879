//! Single fields. Each function takes the field's name for its error.

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, U256},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    grpc::{convert::Parsed, pb},
    service::TransportError,
    types::L1Ref,
};

/// The error for a field that must be set.
pub(crate) fn missing(field: &'static str) -> TransportError {
    TransportError::malformed(field, "must be set")
}

pub(crate) fn hash(field: &'static str, bytes: &Bytes) -> Parsed<B256> {
    B256::try_from(bytes.as_ref())
        .map_err(|_| TransportError::malformed(field, length_problem(bytes, 32)))
}

pub(crate) fn address(field: &'static str, bytes: &Bytes) -> Parsed<Address> {
    Address::try_from(bytes.as_ref())
        .map_err(|_| TransportError::malformed(field, length_problem(bytes, 20)))
}

fn length_problem(bytes: &Bytes, expected: usize) -> String {
    format!("must have {expected} bytes, has {}", bytes.len())
}

/// Big endian, at most 32 bytes; empty is zero.
pub(crate) fn u256(field: &'static str, bytes: &Bytes) -> Parsed<U256> {
    U256::try_from_be_slice(bytes).ok_or_else(|| {
        TransportError::malformed(field, format!("must have at most 32 bytes, has {}", bytes.len()))
    })
}

pub(crate) fn hash_bytes(hash: B256) -> Bytes {
    Bytes::copy_from_slice(hash.as_slice())
}

pub(crate) fn address_bytes(address: Address) -> Bytes {
    Bytes::copy_from_slice(address.as_slice())
}

pub(crate) fn u256_bytes(value: U256) -> Bytes {
    value.to_be_bytes_trimmed_vec().into()
}

pub(crate) fn from_json<T: DeserializeOwned>(field: &'static str, json: &[u8]) -> Parsed<T> {
    serde_json::from_slice(json).map_err(|error| TransportError::malformed(field, error))
}

pub(crate) fn to_json<T: Serialize>(field: &'static str, value: &T) -> Parsed<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| TransportError::malformed(field, error))
}

pub(crate) fn block_ref_to_pb(block: BlockNumHash) -> pb::BlockRef {
    pb::BlockRef { number: block.number, hash: hash_bytes(block.hash) }
}

pub(crate) fn block_ref_from_pb(
    field: &'static str,
    block: Option<pb::BlockRef>,
) -> Parsed<BlockNumHash> {
    let block = block.ok_or_else(|| missing(field))?;
    Ok(BlockNumHash::new(block.number, hash(field, &block.hash)?))
}

impl From<L1Ref> for pb::L1Ref {
    fn from(l1: L1Ref) -> Self {
        Self { tx_hash: hash_bytes(l1.tx_hash), block: Some(block_ref_to_pb(l1.block)) }
    }
}

impl TryFrom<pb::L1Ref> for L1Ref {
    type Error = TransportError;

    fn try_from(l1: pb::L1Ref) -> Parsed<Self> {
        Ok(Self {
            tx_hash: hash("L1Ref.tx_hash", &l1.tx_hash)?,
            block: block_ref_from_pb("L1Ref.block", l1.block)?,
        })
    }
}
