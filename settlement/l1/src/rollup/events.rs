//! The contract's events as domain types.

use alloy::eips::BlockNumHash;
use alloy::{primitives::B256, rpc::types::Log, sol_types::SolEvent};
use millrace_proto::{BatchHeader, Commitment, ForcedTx, L1Ref, PostedBatch, QueueEntry};

use crate::{
    L1Error,
    contracts::{self, Rollup},
};

/// Something that the rollup contract recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollupEvent {
    /// A batch was posted.
    Posted(PostedBatch),
    /// A batch was committed.
    Committed(Commitment),
    /// The commitments to this batch and to all later ones no longer stand.
    CommitmentsReverted {
        /// The first batch whose commitment fell.
        from: u64,
        /// The reverting transaction.
        l1: L1Ref,
    },
    /// A deposit or a transaction joined the queue.
    Queued {
        /// The queue's new entry.
        entry: QueueEntry,
        /// The queue's accumulator after it.
        accumulator: B256,
        /// The queueing transaction.
        l1: L1Ref,
    },
}

impl RollupEvent {
    /// The transaction that caused the event.
    pub const fn l1(&self) -> &L1Ref {
        match self {
            Self::Posted(batch) => &batch.l1,
            Self::Committed(commitment) => &commitment.l1,
            Self::CommitmentsReverted { l1, .. } | Self::Queued { l1, .. } => l1,
        }
    }
}

/// Which events to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventSet {
    All,
    Deposits,
}

impl EventSet {
    /// The label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "events",
            Self::Deposits => "deposits",
        }
    }

    /// The events' signature hashes.
    pub(super) fn topics(self) -> Vec<B256> {
        match self {
            Self::All => vec![
                Rollup::BatchPosted::SIGNATURE_HASH,
                Rollup::BatchCommitted::SIGNATURE_HASH,
                Rollup::CommitmentsReverted::SIGNATURE_HASH,
                Rollup::DepositQueued::SIGNATURE_HASH,
                Rollup::TransactionForced::SIGNATURE_HASH,
            ],
            Self::Deposits => vec![
                Rollup::DepositQueued::SIGNATURE_HASH,
                Rollup::TransactionForced::SIGNATURE_HASH,
            ],
        }
    }
}

/// Where a log is in L1.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogPlace {
    pub(super) l1: L1Ref,
    pub(super) index: u64,
}

/// Reads a log's place; mined logs always have one.
pub(super) fn place(log: &Log) -> Result<LogPlace, L1Error> {
    let missing = |field: &str| L1Error::BadAnswer {
        method: "eth_getLogs",
        problem: format!("a log without {field}"),
    };
    if log.removed {
        return Err(L1Error::Inconsistent("a log that a reorg has removed".to_owned()));
    }
    Ok(LogPlace {
        l1: L1Ref {
            tx_hash: log.transaction_hash.ok_or_else(|| missing("transactionHash"))?,
            block: BlockNumHash {
                number: log.block_number.ok_or_else(|| missing("blockNumber"))?,
                hash: log.block_hash.ok_or_else(|| missing("blockHash"))?,
            },
        },
        index: log.log_index.ok_or_else(|| missing("logIndex"))?,
    })
}

/// Decodes a log of the contract; `None` for an event that is not followed. `timestamp` is that of the log's block.
pub(super) fn decode(log: &Log, l1: L1Ref, timestamp: u64) -> Result<Option<RollupEvent>, L1Error> {
    let bad = |problem: String| L1Error::BadAnswer { method: "eth_getLogs", problem };
    let topic = log.topic0().copied().unwrap_or_default();
    let inner = &log.inner;
    Ok(Some(match topic {
        Rollup::BatchPosted::SIGNATURE_HASH => {
            let event =
                Rollup::BatchPosted::decode_log_data(inner).map_err(|e| bad(e.to_string()))?;
            RollupEvent::Posted(PostedBatch {
                header: BatchHeader::try_from(&event.header).map_err(|e| bad(e.to_string()))?,
                batch_hash: event.batchHash,
                blob_hashes: event.blobHashes,
                da_pointer: event.daPointer,
                l1,
                l1_timestamp: timestamp,
            })
        }
        Rollup::BatchCommitted::SIGNATURE_HASH => {
            let event =
                Rollup::BatchCommitted::decode_log_data(inner).map_err(|e| bad(e.to_string()))?;
            RollupEvent::Committed(contracts::commitment(&event.commitment, l1))
        }
        Rollup::CommitmentsReverted::SIGNATURE_HASH => {
            let event = Rollup::CommitmentsReverted::decode_log_data(inner)
                .map_err(|e| bad(e.to_string()))?;
            RollupEvent::CommitmentsReverted { from: event.fromBatch, l1 }
        }
        Rollup::DepositQueued::SIGNATURE_HASH => {
            let event =
                Rollup::DepositQueued::decode_log_data(inner).map_err(|e| bad(e.to_string()))?;
            let accumulator = event.accumulator;
            RollupEvent::Queued { entry: contracts::deposit(event).into(), accumulator, l1 }
        }
        Rollup::TransactionForced::SIGNATURE_HASH => {
            let event = Rollup::TransactionForced::decode_log_data(inner)
                .map_err(|e| bad(e.to_string()))?;
            let forced = ForcedTx { index: event.index, raw: event.transaction };
            let accumulator = event.accumulator;
            RollupEvent::Queued { entry: QueueEntry::Forced(forced), accumulator, l1 }
        }
        _ => return Ok(None),
    }))
}

/// Whether decoding needs the timestamp of the log's block.
pub(super) fn needs_timestamp(log: &Log) -> bool {
    log.topic0() == Some(&Rollup::BatchPosted::SIGNATURE_HASH)
}
