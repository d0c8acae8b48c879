//! L1 records made by hand.

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use millrace_proto::{BatchHeader, DaKind, Deposit, L1Ref, PostedBatch, batch_digest};

/// The hash of an L1 block on one of several forks.
pub(crate) fn l1_hash(number: u64, fork: u8) -> B256 {
    let mut seed = number.to_be_bytes().to_vec();
    seed.push(fork);
    keccak256(seed)
}

/// A reference to a transaction in an L1 block.
pub(crate) fn l1_ref(block: u64) -> L1Ref {
    L1Ref {
        tx_hash: keccak256(block.to_be_bytes()),
        block: BlockNumHash::new(block, l1_hash(block, 0)),
    }
}

/// An entry of the deposit queue.
pub(crate) fn deposit(index: u64) -> Deposit {
    Deposit {
        index,
        from: Address::repeat_byte(0xaa),
        to: Address::repeat_byte(0xcc),
        value: U256::from(1_000 + index),
        gas_limit: 100_000,
        data: Bytes::new(),
    }
}

/// The accumulator over the first `count` of [`deposit`]'s entries.
pub(crate) fn accumulator(count: u64) -> B256 {
    (0..count).map(deposit).fold(B256::ZERO, |before, deposit| deposit.accumulate(before))
}

/// The record of a posted batch, in L1 block `l1_block`; `batch_hash` is left to the caller.
pub(crate) fn post(
    number: u64,
    blocks: (u64, u64),
    deposits_end: u64,
    bytes: &[u8],
    l1_block: u64,
) -> PostedBatch {
    PostedBatch {
        header: BatchHeader {
            number,
            first_block: blocks.0,
            last_block: blocks.1,
            deposits_end,
            deposits_hash: accumulator(deposits_end),
            digest: batch_digest(bytes),
            da_kind: DaKind::ObjectStore,
        },
        batch_hash: B256::ZERO,
        blob_hashes: Vec::new(),
        da_pointer: format!("batch-{number}").into_bytes().into(),
        l1: l1_ref(l1_block),
        l1_timestamp: 1_000 + l1_block,
    }
}
