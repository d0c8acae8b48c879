//! The settlement service's status and records.

use alloy::primitives::Signature;

use crate::{
    grpc::{
        convert::{
            Parsed, block_ref_from_pb, block_ref_to_pb, hash, hash_bytes, missing, u256, u256_bytes,
        },
        pb,
    },
    service::{BatchPoint, BatchRecord, BatchVerdict, SettlementStatus, TransportError},
    types::{Attestation, BatchOutcome, DaKind},
};

impl From<BatchPoint> for pb::BatchPoint {
    fn from(point: BatchPoint) -> Self {
        Self {
            batch: point.batch,
            last_block: point.last_block,
            last_block_hash: point.last_block_hash.map(hash_bytes).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::BatchPoint> for BatchPoint {
    type Error = TransportError;

    fn try_from(message: pb::BatchPoint) -> Parsed<Self> {
        let last_block_hash = match message.last_block_hash.is_empty() {
            true => None,
            false => Some(hash("BatchPoint.last_block_hash", &message.last_block_hash)?),
        };
        Ok(Self { batch: message.batch, last_block: message.last_block, last_block_hash })
    }
}

impl From<SettlementStatus> for pb::SettlementStatus {
    fn from(status: SettlementStatus) -> Self {
        Self {
            l1_head: Some(block_ref_to_pb(status.l1_head)),
            posted: status.posted.map(Into::into),
            verified: status.verified.map(Into::into),
            committed: status.committed.map(Into::into),
            finalized: status.finalized.map(Into::into),
            l1_fees: u256_bytes(status.l1_fees),
            halted: status.halted.unwrap_or_default(),
            unmatched: status.unmatched.map(block_ref_to_pb),
        }
    }
}

impl TryFrom<pb::SettlementStatus> for SettlementStatus {
    type Error = TransportError;

    fn try_from(message: pb::SettlementStatus) -> Parsed<Self> {
        let point = |point: Option<pb::BatchPoint>| point.map(BatchPoint::try_from).transpose();
        Ok(Self {
            l1_head: block_ref_from_pb("SettlementStatus.l1_head", message.l1_head)?,
            posted: point(message.posted)?,
            verified: point(message.verified)?,
            committed: point(message.committed)?,
            finalized: point(message.finalized)?,
            l1_fees: u256("SettlementStatus.l1_fees", &message.l1_fees)?,
            halted: (!message.halted.is_empty()).then_some(message.halted),
            unmatched: message
                .unmatched
                .map(|block| block_ref_from_pb("SettlementStatus.unmatched", Some(block)))
                .transpose()?,
        })
    }
}

impl From<Option<BatchRecord>> for pb::BatchRecord {
    fn from(record: Option<BatchRecord>) -> Self {
        record.map_or_else(Self::default, |record| Self {
            number: record.number,
            first_block: record.first_block,
            last_block: record.last_block,
            digest: hash_bytes(record.digest),
            da_kind: (record.da_kind as u8).into(),
            posted: Some(record.posted.into()),
            committed: record.committed.map(Into::into),
            finalized: record.finalized,
        })
    }
}

impl From<Option<BatchVerdict>> for pb::BatchVerdict {
    fn from(verdict: Option<BatchVerdict>) -> Self {
        let Some(BatchVerdict { batch_hash, end }) = verdict else { return Self::default() };
        let (end, skipped) = match end {
            Ok(end) => (Some(block_ref_to_pb(end)), String::new()),
            Err(reason) => (None, reason),
        };
        Self { batch_hash: hash_bytes(batch_hash), end, skipped }
    }
}

impl TryFrom<pb::BatchVerdict> for Option<BatchVerdict> {
    type Error = TransportError;

    fn try_from(message: pb::BatchVerdict) -> Parsed<Self> {
        if message.batch_hash.is_empty() {
            return Ok(None);
        }
        let end = match message.end {
            Some(end) => Ok(block_ref_from_pb("BatchVerdict.end", Some(end))?),
            None => Err(message.skipped),
        };
        Ok(Some(BatchVerdict {
            batch_hash: hash("BatchVerdict.batch_hash", &message.batch_hash)?,
            end,
        }))
    }
}

impl From<Option<Attestation>> for pb::AttestReply {
    fn from(attestation: Option<Attestation>) -> Self {
        attestation.map_or_else(Self::default, |Attestation { outcome, reverts, signature }| Self {
            outcome: Some(pb::BatchOutcome {
                batch: outcome.batch,
                batch_hash: hash_bytes(outcome.batch_hash),
                first_block: outcome.first_block,
                last_block: outcome.last_block,
                last_block_hash: hash_bytes(outcome.last_block_hash),
                state_root: hash_bytes(outcome.state_root),
                message_root: hash_bytes(outcome.message_root),
            }),
            reverts,
            signature: signature.as_bytes().to_vec().into(),
        })
    }
}

impl TryFrom<pb::AttestReply> for Option<Attestation> {
    type Error = TransportError;

    fn try_from(message: pb::AttestReply) -> Parsed<Self> {
        let Some(outcome) = message.outcome else { return Ok(None) };
        let outcome = BatchOutcome {
            batch: outcome.batch,
            batch_hash: hash("BatchOutcome.batch_hash", &outcome.batch_hash)?,
            first_block: outcome.first_block,
            last_block: outcome.last_block,
            last_block_hash: hash("BatchOutcome.last_block_hash", &outcome.last_block_hash)?,
            state_root: hash("BatchOutcome.state_root", &outcome.state_root)?,
            message_root: hash("BatchOutcome.message_root", &outcome.message_root)?,
        };
        let signature = Signature::from_raw(&message.signature).map_err(|error| {
            TransportError::malformed("AttestReply.signature", error.to_string())
        })?;
        Ok(Some(Attestation { outcome, reverts: message.reverts, signature }))
    }
}

impl TryFrom<pb::BatchRecord> for Option<BatchRecord> {
    type Error = TransportError;

    fn try_from(message: pb::BatchRecord) -> Parsed<Self> {
        if message.number == 0 {
            return Ok(None);
        }
        let da_kind = u8::try_from(message.da_kind)
            .ok()
            .and_then(|byte| DaKind::try_from(byte).ok())
            .ok_or_else(|| {
                TransportError::malformed(
                    "BatchRecord.da_kind",
                    format!("{} is unknown", message.da_kind),
                )
            })?;
        let posted = message.posted.ok_or_else(|| missing("BatchRecord.posted"))?;
        Ok(Some(BatchRecord {
            number: message.number,
            first_block: message.first_block,
            last_block: message.last_block,
            digest: hash("BatchRecord.digest", &message.digest)?,
            da_kind,
            posted: posted.try_into()?,
            committed: message.committed.map(TryInto::try_into).transpose()?,
            finalized: message.finalized,
        }))
    }
}
