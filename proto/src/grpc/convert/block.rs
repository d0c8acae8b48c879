//! Blocks, transactions and receipts between services.

use std::sync::Arc;

use alloy::{
    consensus::{Header, ReceiptWithBloom, Sealable, TxReceipt},
    eips::eip2718::{Decodable2718, Encodable2718},
    rlp::{Decodable, Encodable},
};
use bytes::Bytes;

use crate::{
    grpc::{
        convert::{Parsed, address, address_bytes, from_json, hash, hash_bytes, missing, to_json},
        error::{Fault, reject_fault, reject_from_fault},
        pb::{self, transaction_outcome::Outcome},
    },
    service::{Executed, Noting, TransportError, TxOutcome},
    types::{
        BlockAttributes, ExecutedBlock, Receipt, RecoveredTx, RejectReason, SealedHeader, StateDiff,
    },
};

pub(crate) fn header_bytes(header: &Header) -> Bytes {
    let mut out = Vec::with_capacity(header.length());
    header.encode(&mut out);
    out.into()
}

fn sealed_header(field: &'static str, rlp: &[u8], seal: &Bytes) -> Parsed<SealedHeader> {
    let mut rest = rlp;
    let header =
        Header::decode(&mut rest).map_err(|error| TransportError::malformed(field, error))?;
    if !rest.is_empty() {
        return Err(TransportError::malformed(field, "bytes follow the header"));
    }
    let header = header.seal_slow();
    if header.seal() != hash(field, seal)? {
        return Err(TransportError::malformed(field, "the header does not have the given hash"));
    }
    Ok(header)
}

impl From<&SealedHeader> for pb::SealedHeader {
    fn from(header: &SealedHeader) -> Self {
        Self { header: header_bytes(header), hash: hash_bytes(header.seal()) }
    }
}

impl TryFrom<pb::SealedHeader> for Option<SealedHeader> {
    type Error = TransportError;

    /// `None` if the message says that there is no such block.
    fn try_from(message: pb::SealedHeader) -> Parsed<Self> {
        if message.header.is_empty() {
            return Ok(None);
        }
        sealed_header("SealedHeader.header", &message.header, &message.hash).map(Some)
    }
}

/// A receipt as in the receipts trie.
fn receipt_bytes(receipt: &Receipt) -> Bytes {
    receipt.with_bloom_ref().encoded_2718().into()
}

fn receipt(field: &'static str, mut bytes: &[u8]) -> Parsed<Receipt> {
    let receipt = ReceiptWithBloom::<Receipt>::decode_2718(&mut bytes)
        .map_err(|error| TransportError::malformed(field, error))?;
    if !bytes.is_empty() {
        return Err(TransportError::malformed(field, "bytes follow the receipt"));
    }
    Ok(receipt.receipt)
}

pub(crate) fn txs_to_pb(transactions: &[Arc<RecoveredTx>]) -> Vec<pb::RecoveredTransaction> {
    transactions
        .iter()
        .map(|tx| pb::RecoveredTransaction {
            raw: tx.encoded().0.clone(),
            sender: address_bytes(tx.sender()),
        })
        .collect()
}

pub(crate) fn txs_from_pb(
    transactions: Vec<pb::RecoveredTransaction>,
) -> Parsed<Vec<Arc<RecoveredTx>>> {
    transactions
        .into_iter()
        .map(|tx| {
            let sender = address("RecoveredTransaction.sender", &tx.sender)?;
            RecoveredTx::decode_trusted(tx.raw.into(), sender)
                .map(Arc::new)
                .map_err(|error| TransportError::malformed("RecoveredTransaction.raw", error))
        })
        .collect()
}

/// An executed block, or the empty message for none.
pub(crate) fn block_to_pb(block: Option<&ExecutedBlock>) -> pb::ExecutedBlock {
    block.map(pb::ExecutedBlock::from).unwrap_or_default()
}

impl From<&ExecutedBlock> for pb::ExecutedBlock {
    fn from(block: &ExecutedBlock) -> Self {
        Self {
            header: header_bytes(&block.header),
            hash: hash_bytes(block.hash()),
            transactions: txs_to_pb(&block.transactions),
            receipts: block.receipts.iter().map(receipt_bytes).collect(),
        }
    }
}

impl TryFrom<pb::ExecutedBlock> for Option<Arc<ExecutedBlock>> {
    type Error = TransportError;

    /// `None` if the message says that there is no such block.
    fn try_from(message: pb::ExecutedBlock) -> Parsed<Self> {
        if message.header.is_empty() {
            return Ok(None);
        }
        let header = sealed_header("ExecutedBlock.header", &message.header, &message.hash)?;
        let transactions = txs_from_pb(message.transactions)?;
        let receipts: Vec<_> = message
            .receipts
            .iter()
            .map(|bytes| receipt("ExecutedBlock.receipts", bytes))
            .collect::<Parsed<_>>()?;
        if receipts.len() != transactions.len() {
            return Err(TransportError::malformed(
                "ExecutedBlock.receipts",
                format!("{} receipts for {} transactions", receipts.len(), transactions.len()),
            ));
        }
        Ok(Some(Arc::new(ExecutedBlock { header, transactions, receipts })))
    }
}

impl From<BlockAttributes> for pb::BlockAttributes {
    fn from(attributes: BlockAttributes) -> Self {
        Self {
            number: attributes.number,
            parent_hash: hash_bytes(attributes.parent_hash),
            timestamp: attributes.timestamp,
            fee_recipient: address_bytes(attributes.fee_recipient),
            gas_limit: attributes.gas_limit,
            prev_randao: hash_bytes(attributes.prev_randao),
            parent_beacon_block_root: hash_bytes(attributes.parent_beacon_block_root),
            extra_data: attributes.extra_data.0,
        }
    }
}

impl TryFrom<pb::BlockAttributes> for BlockAttributes {
    type Error = TransportError;

    fn try_from(message: pb::BlockAttributes) -> Parsed<Self> {
        if message.extra_data.len() > 32 {
            return Err(TransportError::malformed(
                "BlockAttributes.extra_data",
                format!("must have at most 32 bytes, has {}", message.extra_data.len()),
            ));
        }
        Ok(Self {
            number: message.number,
            parent_hash: hash("BlockAttributes.parent_hash", &message.parent_hash)?,
            timestamp: message.timestamp,
            fee_recipient: address("BlockAttributes.fee_recipient", &message.fee_recipient)?,
            gas_limit: message.gas_limit,
            prev_randao: hash("BlockAttributes.prev_randao", &message.prev_randao)?,
            parent_beacon_block_root: hash(
                "BlockAttributes.parent_beacon_block_root",
                &message.parent_beacon_block_root,
            )?,
            extra_data: message.extra_data.into(),
        })
    }
}

pub(crate) const fn noting_to_pb(noting: Noting) -> pb::Noting {
    match noting {
        Noting::Nothing => pb::Noting::Nothing,
        Noting::Kept => pb::Noting::Kept,
        Noting::Told => pb::Noting::Told,
    }
}

pub(crate) const fn noting_from_pb(noting: pb::Noting) -> Noting {
    match noting {
        pb::Noting::Nothing => Noting::Nothing,
        pb::Noting::Kept => Noting::Kept,
        pb::Noting::Told => Noting::Told,
    }
}

/// Fails if the diff cannot be written.
pub(crate) fn executed_to_pb(executed: Executed) -> Parsed<pb::TransactionOutcomes> {
    let Executed { outcomes, diff } = executed;
    let outcomes = outcomes.into_iter().map(outcome_to_pb).collect();
    let state_diff_json = diff_to_pb("TransactionOutcomes.state_diff_json", diff.as_deref())?;
    Ok(pb::TransactionOutcomes { outcomes, state_diff_json })
}

pub(crate) fn executed_from_pb(message: pb::TransactionOutcomes) -> Parsed<Executed> {
    Ok(Executed {
        outcomes: message.outcomes.into_iter().map(outcome_from_pb).collect::<Parsed<_>>()?,
        diff: diff_from_pb("TransactionOutcomes.state_diff_json", &message.state_diff_json)?,
    })
}

/// A state diff as JSON; nothing for none.
pub(super) fn diff_to_pb(field: &'static str, diff: Option<&StateDiff>) -> Parsed<Bytes> {
    diff.map_or_else(|| Ok(Bytes::new()), |diff| to_json(field, diff))
}

pub(super) fn diff_from_pb(field: &'static str, json: &Bytes) -> Parsed<Option<Arc<StateDiff>>> {
    (!json.is_empty()).then(|| from_json(field, json).map(Arc::new)).transpose()
}

pub(crate) fn outcome_to_pb(outcome: TxOutcome) -> pb::TransactionOutcome {
    let outcome = match outcome {
        TxOutcome::Included { index, gas_used, receipt } => {
            Outcome::Included(pb::Included { index, gas_used, receipt: receipt_bytes(&receipt) })
        }
        TxOutcome::Invalid(reason) => {
            let Fault { reason, message, metadata, .. } = reject_fault(&reason);
            Outcome::Invalid(pb::InvalidTransaction {
                reason: reason.into_owned(),
                message,
                metadata,
            })
        }
        TxOutcome::NoRoom => Outcome::NoRoom(pb::NoRoom {}),
    };
    pb::TransactionOutcome { outcome: Some(outcome) }
}

pub(crate) fn outcome_from_pb(message: pb::TransactionOutcome) -> Parsed<TxOutcome> {
    Ok(match message.outcome.ok_or_else(|| missing("TransactionOutcome.outcome"))? {
        Outcome::Included(included) => TxOutcome::Included {
            index: included.index,
            gas_used: included.gas_used,
            receipt: receipt("Included.receipt", &included.receipt)?.into(),
        },
        Outcome::Invalid(invalid) => {
            TxOutcome::Invalid(reason_from_parts(invalid.reason, invalid.message, invalid.metadata))
        }
        Outcome::NoRoom(_) => TxOutcome::NoRoom,
    })
}

/// A reason that this version does not know is kept by its text.
pub(super) fn reason_from_parts(
    reason: String,
    message: String,
    metadata: std::collections::HashMap<String, String>,
) -> RejectReason {
    let fault = Fault {
        code: tonic::Code::Unknown,
        reason: reason.into(),
        message,
        metadata,
        retry_after: None,
    };
    reject_from_fault(&fault).unwrap_or_else(|| RejectReason::Invalid {
        detail: format!("{}: {}", fault.reason, fault.message),
    })
}
