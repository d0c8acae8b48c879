//! The public API's blocks, transactions and status.

use std::{sync::Arc, time::Duration};

use alloy::{
    consensus::{Header, Sealable, Transaction},
    primitives::{Address, Bytes},
    rlp::Decodable,
};

use crate::{
    grpc::{
        convert::{
            Parsed, address, address_bytes,
            block::{diff_from_pb, diff_to_pb, header_bytes},
            block_ref_from_pb, block_ref_to_pb, hash, hash_bytes, missing,
            status::{public_receipt, receipt_from_public},
        },
        pb,
    },
    service::{ChainHeads, FrameDetail, PoolStatus, PooledTx, SequencerStatus, TransportError},
    types::{
        DataPrice, ExecutedBlock, FrameStart, Preconfirmation, PublishedBlock, Receipt, RecoveredTx,
    },
};

/// The contract that a transaction creates. A deposit never creates one.
fn created_contract(tx: &RecoveredTx) -> Option<Address> {
    let creates = !tx.tx().is_deposit() && tx.tx().kind().is_create();
    creates.then(|| tx.sender().create(tx.tx().nonce()))
}

fn block_transaction(tx: &RecoveredTx, receipt: &Receipt, gas_used: u64) -> pb::BlockTransaction {
    pb::BlockTransaction {
        hash: hash_bytes(tx.hash()),
        from: address_bytes(tx.sender()),
        raw: tx.encoded().0.clone(),
        receipt: Some(public_receipt(receipt, gas_used, created_contract(tx))),
    }
}

/// A frame with what was asked for. Fails if its diff cannot be written.
pub(crate) fn frame_to_pb(
    frame: &Preconfirmation,
    detail: FrameDetail,
) -> Parsed<pb::Preconfirmation> {
    let diff = frame.diff.as_deref().filter(|_| detail == FrameDetail::StateDiffs);
    let state_diff_json = diff_to_pb("Preconfirmation.state_diff_json", diff)?;
    Ok(pb::Preconfirmation { state_diff_json, ..frame.into() })
}

impl From<&Preconfirmation> for pb::Preconfirmation {
    /// Without its diff.
    fn from(frame: &Preconfirmation) -> Self {
        let transactions = frame.transactions.iter().zip(&frame.receipts).enumerate();
        let transactions = transactions
            .map(|(index, (tx, receipt))| {
                block_transaction(tx, receipt, frame.gas_used_by(index).unwrap_or_default())
            })
            .collect();
        Self {
            block: frame.block,
            parent_hash: hash_bytes(frame.parent_hash),
            timestamp: frame.timestamp,
            base_fee_per_gas: frame.base_fee,
            frame: frame.frame,
            first_index: frame.start.index,
            first_log_index: frame.start.log_index,
            gas_used_before: frame.start.gas_used,
            transactions,
            state_diff_json: Default::default(),
        }
    }
}

impl TryFrom<pb::Preconfirmation> for Preconfirmation {
    type Error = TransportError;

    fn try_from(message: pb::Preconfirmation) -> Parsed<Self> {
        let count = message.transactions.len();
        let (mut transactions, mut receipts) =
            (Vec::with_capacity(count), Vec::with_capacity(count));
        for tx in message.transactions {
            let receipt = tx.receipt.ok_or_else(|| missing("BlockTransaction.receipt"))?;
            receipts.push(receipt_from_public(receipt)?.into());
            let sender = address("BlockTransaction.from", &tx.from)?;
            let tx = RecoveredTx::decode_trusted(tx.raw.into(), sender)
                .map_err(|error| TransportError::malformed("BlockTransaction.raw", error))?;
            transactions.push(Arc::new(tx));
        }
        Ok(Self {
            block: message.block,
            parent_hash: hash("Preconfirmation.parent_hash", &message.parent_hash)?,
            timestamp: message.timestamp,
            base_fee: message.base_fee_per_gas,
            frame: message.frame,
            start: FrameStart {
                index: message.first_index,
                log_index: message.first_log_index,
                gas_used: message.gas_used_before,
            },
            transactions,
            receipts,
            diff: diff_from_pb("Preconfirmation.state_diff_json", &message.state_diff_json)?,
        })
    }
}

impl From<&ExecutedBlock> for pb::Block {
    fn from(block: &ExecutedBlock) -> Self {
        let header = &block.header;
        let transactions = block.transactions.iter().zip(&block.receipts).enumerate();
        let transactions = transactions
            .map(|(index, (tx, receipt))| {
                block_transaction(tx, receipt, block.gas_used_by(index).unwrap_or_default())
            })
            .collect();
        Self {
            number: header.number,
            hash: hash_bytes(header.seal()),
            parent_hash: hash_bytes(header.parent_hash),
            state_root: hash_bytes(header.state_root),
            timestamp: header.timestamp,
            gas_used: header.gas_used,
            gas_limit: header.gas_limit,
            base_fee_per_gas: header.base_fee_per_gas.unwrap_or_default(),
            header: header_bytes(header),
            transactions,
        }
    }
}

impl TryFrom<pb::Block> for PublishedBlock {
    type Error = TransportError;

    fn try_from(block: pb::Block) -> Result<Self, TransportError> {
        let mut bytes = block.header.as_ref();
        let header = Header::decode(&mut bytes)
            .map_err(|error| TransportError::malformed("Block.header", error))?;
        let transactions = block.transactions.into_iter().map(|tx| Bytes::from(tx.raw)).collect();
        Ok(Self { header: header.seal_slow(), transactions })
    }
}

impl From<PooledTx> for pb::Transaction {
    fn from(pooled: PooledTx) -> Self {
        Self {
            status: Some(pooled.status.into()),
            raw: pooled.tx.encoded().0.clone(),
            from: address_bytes(pooled.tx.sender()),
        }
    }
}

impl TryFrom<pb::Transaction> for PooledTx {
    type Error = TransportError;

    fn try_from(message: pb::Transaction) -> Parsed<Self> {
        let sender = address("Transaction.from", &message.from)?;
        let tx = RecoveredTx::decode_trusted(message.raw.into(), sender)
            .map_err(|error| TransportError::malformed("Transaction.raw", error))?;
        let status = message.status.ok_or_else(|| missing("Transaction.status"))?;
        Ok(Self { tx: Arc::new(tx), status: status.try_into()? })
    }
}

impl From<SequencerStatus> for pb::SequencerStatus {
    fn from(status: SequencerStatus) -> Self {
        Self {
            chain_id: status.chain_id,
            unsafe_head: Some(block_ref_to_pb(status.heads.latest)),
            safe_head: Some(block_ref_to_pb(status.heads.safe)),
            finalized_head: Some(block_ref_to_pb(status.heads.finalized)),
            pending: status.pool.pending,
            queued: status.pool.queued,
            block_time_ms: u64::try_from(status.block_time.as_millis()).unwrap_or(u64::MAX),
            next_base_fee_per_gas: status.next_base_fee,
            version: status.version,
            data_price: status.data_price.0,
        }
    }
}

impl TryFrom<pb::SequencerStatus> for SequencerStatus {
    type Error = TransportError;

    fn try_from(message: pb::SequencerStatus) -> Parsed<Self> {
        Ok(Self {
            chain_id: message.chain_id,
            heads: ChainHeads {
                latest: block_ref_from_pb("SequencerStatus.unsafe_head", message.unsafe_head)?,
                safe: block_ref_from_pb("SequencerStatus.safe_head", message.safe_head)?,
                finalized: block_ref_from_pb(
                    "SequencerStatus.finalized_head",
                    message.finalized_head,
                )?,
            },
            pool: PoolStatus { pending: message.pending, queued: message.queued },
            block_time: Duration::from_millis(message.block_time_ms),
            next_base_fee: message.next_base_fee_per_gas,
            version: message.version,
            data_price: DataPrice(message.data_price),
        })
    }
}
