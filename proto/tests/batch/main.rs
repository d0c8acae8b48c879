//! The batch codec: decode(encode(x)) is x for every kind of transaction, decoding is total, and
//! the version and its dictionary are frozen.

#![allow(missing_docs, clippy::unwrap_used)]

/// Batches of executed blocks, and of the largest.
mod blocks;
/// Batches of state diffs.
mod diffs;
/// What was posted is readable for ever.
mod frozen;
/// Batches that are made up.
mod made;
/// Accounts that batches of state diffs name.
mod names;
/// A batch's bytes, taken apart.
mod parts;
/// What is refused, and before what.
mod refused;
/// Any bytes decode to a batch or an error.
mod total;

use std::sync::Arc;

use alloy::{
    consensus::{
        EthereumReceipt, Header, Sealable, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702,
        TxLegacy,
    },
    eips::{
        Decodable2718, Encodable2718,
        eip2930::{AccessList, AccessListItem},
        eip7702::{Authorization, SignedAuthorization},
    },
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, b256},
};
use millrace_proto::{
    Batch, BatchBlock, BatchColumn, BatchDecodeError, BatchDictionary, BatchEncodeError,
    BatchLimits, Deposit, ExecutedBlock, QueueMark, RecoveredTx, TxEnvelope, TxType, batch_digest,
};
use proptest::{collection::vec, option, prelude::*};

use self::{
    blocks::deposit,
    frozen::frozen_batch,
    parts::{check_total, columns, decode, parts, with_columns},
};

const CHAIN_ID: u64 = 7_077;
