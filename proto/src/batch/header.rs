//! The part in front of the columns, and how the three parts of a batch lie in its bytes.

use alloy::primitives::B256;

use super::{
    dictionary::BatchDictionary,
    error::{BatchColumn, BatchDecodeError},
    frame,
    limits::{BatchLimits, within},
    reader::Reader,
    writer::put_varint,
};
use crate::types::BatchPayload;

/// The version of the format.
const VERSION: u8 = 2;
/// The payload is signed transactions.
const TRANSACTIONS: u8 = 1;
/// The payload is what the blocks changed. (2 was another form of it.)
const STATE_DIFFS: u8 = 3;
/// Bytes of a signature.
pub(super) const SIGNATURE_LEN: usize = 64;

/// What the header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchPreamble {
    pub(super) payload: BatchPayload,
    pub(super) chain_id: u64,
    pub(super) first_block: u64,
    pub(super) parent_hash: B256,
    pub(super) deposits_start: u64,
    pub(super) last_block_hash: B256,
    pub(super) block_count: u64,
    pub(super) transaction_count: u64,
}

/// A batch cut into its parts.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) preamble: BatchPreamble,
    pub(super) dictionary: &'a BatchDictionary,
    /// The compressed columns.
    pub(super) frame: &'a [u8],
    /// All that follows: at least a signature for each transaction, or nothing.
    pub(super) signatures: &'a [u8],
}

impl BatchPreamble {
    pub(super) fn write(&self, dictionary: &BatchDictionary, out: &mut Vec<u8>) {
        let payload = match self.payload {
            BatchPayload::Transactions => TRANSACTIONS,
            BatchPayload::StateDiffs => STATE_DIFFS,
        };
        out.extend_from_slice(&[VERSION, payload, dictionary.number()]);
        put_varint(out, self.chain_id);
        put_varint(out, self.first_block);
        out.extend_from_slice(self.parent_hash.as_slice());
        put_varint(out, self.deposits_start);
        out.extend_from_slice(self.last_block_hash.as_slice());
        put_varint(out, self.block_count);
        put_varint(out, self.transaction_count);
    }
}

/// The payload that a batch says it holds; of bytes that are none, any, as decoding them as such says what is wrong.
pub(super) fn payload_of(encoded: &[u8]) -> BatchPayload {
    match encoded.get(1) {
        Some(&STATE_DIFFS) => BatchPayload::StateDiffs,
        _ => BatchPayload::Transactions,
    }
}

impl<'a> Parts<'a> {
    /// Cuts a batch that holds `payload` into its parts, and checks everything that the header alone can tell. `tried` is a dictionary to read with
    /// beside the known ones.
    pub(super) fn split(
        encoded: &'a [u8],
        payload: BatchPayload,
        tried: Option<&'a BatchDictionary>,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        within(encoded.len() as u64, limits.max_encoded, "bytes")?;
        let mut reader = Reader::new(encoded, BatchColumn::Header);
        match reader.byte()? {
            VERSION => {}
            other => return Err(BatchDecodeError::Version(other)),
        }
        let found = match reader.byte()? {
            TRANSACTIONS => BatchPayload::Transactions,
            STATE_DIFFS => BatchPayload::StateDiffs,
            other => return Err(BatchDecodeError::PayloadKind(other)),
        };
        if found != payload {
            return Err(BatchDecodeError::Payload { found, expected: payload });
        }
        let number = reader.byte()?;
        let dictionary = tried
            .filter(|dictionary| dictionary.number() == number)
            .or_else(|| BatchDictionary::numbered(number))
            .ok_or(BatchDecodeError::Dictionary(number))?;
        let preamble = BatchPreamble {
            payload,
            chain_id: reader.varint()?,
            first_block: reader.varint()?,
            parent_hash: reader.hash()?,
            deposits_start: reader.varint()?,
            last_block_hash: reader.hash()?,
            block_count: within(reader.varint()?, limits.max_blocks, "blocks")? as u64,
            transaction_count: within(reader.varint()?, limits.max_transactions, "transactions")?
                as u64,
        };
        if preamble.first_block == 0 {
            return Err(reader.invalid("block 0 is the genesis block"));
        }
        if preamble.block_count == 0 {
            return Err(reader.invalid("no blocks"));
        }
        if preamble.first_block.checked_add(preamble.block_count).is_none() {
            return Err(reader.invalid("block numbers over 64 bits"));
        }
        reader.column(BatchColumn::Frame);
        let frame = reader.take(frame::length(reader.rest())?)?;
        reader.column(BatchColumn::Signatures);
        match payload {
            BatchPayload::Transactions => {
                reader.require(preamble.transaction_count as usize, SIGNATURE_LEN)?;
            }
            BatchPayload::StateDiffs if !reader.rest().is_empty() => {
                let count = reader.rest().len();
                return Err(BatchDecodeError::TrailingBytes { after: BatchColumn::Frame, count });
            }
            BatchPayload::StateDiffs => {}
        }
        Ok(Self { preamble, dictionary, frame, signatures: reader.rest() })
    }
}
