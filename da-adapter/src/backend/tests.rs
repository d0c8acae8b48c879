//! Every backend against the suite that is the same for all; and what is special about some.

mod alt_da;
#[cfg(feature = "celestia")]
mod celestia;
mod conformance;
mod l1;
mod object_store;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod store_server;

use alloy::{eips::BlockNumHash, primitives::B256};
use millrace_proto::{BatchHeader, L1Ref, PostedBatch, batch_digest};

use self::conformance::{Fault, Layer, conforms};
use super::*;
use crate::{reader::DaSources, testing::noise};

fn request(data: Bytes) -> SubmitRequest {
    SubmitRequest { number: 1, digest: batch_digest(&data), data }
}

/// The contract's record of a batch.
fn posted(kind: DaKind, digest: B256, da_pointer: impl Into<Bytes>) -> PostedBatch {
    PostedBatch {
        header: BatchHeader {
            number: 1,
            first_block: 1,
            last_block: 1,
            deposits_end: 0,
            deposits_hash: B256::ZERO,
            digest,
            da_kind: kind,
        },
        batch_hash: B256::ZERO,
        blob_hashes: Vec::new(),
        da_pointer: da_pointer.into(),
        l1: L1Ref { tx_hash: B256::ZERO, block: BlockNumHash::default() },
        l1_timestamp: 0,
    }
}

/// The same record, with another pointer.
fn pointing_to(record: &PostedBatch, da_pointer: impl Into<Bytes>) -> PostedBatch {
    PostedBatch { da_pointer: da_pointer.into(), ..record.clone() }
}

/// The same record, of other bytes.
fn of_other_bytes(record: &PostedBatch) -> PostedBatch {
    let header = BatchHeader { digest: B256::repeat_byte(1), ..record.header };
    PostedBatch { header, ..record.clone() }
}
