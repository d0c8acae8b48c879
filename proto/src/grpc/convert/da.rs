//! The DA adapter's status and batches.

use crate::{
    grpc::{
        convert::{Parsed, block_ref_from_pb, block_ref_to_pb, hash, hash_bytes, u256, u256_bytes},
        pb,
    },
    service::{DaStatus, OutboxBatch, RefusedBlocks, TransportError, WindowLeft},
    types::DataPrice,
};

impl From<DaStatus> for pb::DaStatus {
    fn from(status: DaStatus) -> Self {
        Self {
            backend: status.backend,
            batched_block: status.batched_block,
            batches_closed: status.batches_closed,
            batches_posted: status.batches_posted,
            posted_block: status.posted_block,
            backlog_bytes: status.backlog_bytes,
            posted_bytes: status.posted_bytes,
            posted_transactions: status.posted_transactions,
            l1_fees: u256_bytes(status.l1_fees),
            halted: status.halted.unwrap_or_default(),
            chosen: status.chosen.unwrap_or_default(),
            window_left: status.window.map_or(0, |window| window.seconds),
            window: status.window.map_or(0, |window| window.whole),
            refused: status.refused.map(Into::into),
            data_price: status.data_price.0,
        }
    }
}

impl TryFrom<pb::DaStatus> for DaStatus {
    type Error = TransportError;

    fn try_from(message: pb::DaStatus) -> Parsed<Self> {
        Ok(Self {
            backend: message.backend,
            batched_block: message.batched_block,
            batches_closed: message.batches_closed,
            batches_posted: message.batches_posted,
            posted_block: message.posted_block,
            backlog_bytes: message.backlog_bytes,
            posted_bytes: message.posted_bytes,
            posted_transactions: message.posted_transactions,
            l1_fees: u256("DaStatus.l1_fees", &message.l1_fees)?,
            halted: (!message.halted.is_empty()).then_some(message.halted),
            chosen: (!message.chosen.is_empty()).then_some(message.chosen),
            window: (message.window > 0)
                .then_some(WindowLeft { seconds: message.window_left, whole: message.window }),
            refused: message.refused.map(RefusedBlocks::try_from).transpose()?,
            data_price: DataPrice(message.data_price),
        })
    }
}

impl From<RefusedBlocks> for pb::RefusedBlocks {
    fn from(refused: RefusedBlocks) -> Self {
        let RefusedBlocks { after, last, due } = refused;
        Self { after, last: Some(block_ref_to_pb(last)), due }
    }
}

impl TryFrom<pb::RefusedBlocks> for RefusedBlocks {
    type Error = TransportError;

    fn try_from(message: pb::RefusedBlocks) -> Parsed<Self> {
        let pb::RefusedBlocks { after, last, due } = message;
        Ok(Self { after, last: block_ref_from_pb("RefusedBlocks.last", last)?, due })
    }
}

impl From<Option<OutboxBatch>> for pb::Batch {
    fn from(batch: Option<OutboxBatch>) -> Self {
        batch.map_or_else(Self::default, |batch| Self {
            number: batch.number,
            first_block: batch.first_block,
            last_block: batch.last_block,
            digest: hash_bytes(batch.digest),
            data: batch.data.0,
            posted: batch.posted,
        })
    }
}

impl TryFrom<pb::Batch> for Option<OutboxBatch> {
    type Error = TransportError;

    fn try_from(message: pb::Batch) -> Parsed<Self> {
        if message.number == 0 {
            return Ok(None);
        }
        Ok(Some(OutboxBatch {
            number: message.number,
            first_block: message.first_block,
            last_block: message.last_block,
            digest: hash("Batch.digest", &message.digest)?,
            data: message.data.into(),
            posted: message.posted,
        }))
    }
}
