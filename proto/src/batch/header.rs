//! The fixed part in front of the columns, and how the three parts of a batch lie in its bytes.

use alloy::primitives::B256;

use super::{
    error::{BatchColumn, BatchDecodeError},
    limits::BatchLimits,
    reader::Reader,
};

/// The first four bytes of every batch.
pub(super) const MAGIC: [u8; 4] = *b"MRBT";
/// The only version so far.
pub(super) const VERSION: u8 = 1;
/// The payload is signed transactions. 2 is reserved for state diffs.
pub(super) const PAYLOAD_TRANSACTIONS: u8 = 1;
/// Bytes of an `r ‖ s`.
pub(super) const SIGNATURE_LEN: usize = 64;

/// The fixed part.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchPreamble {
    pub(super) chain_id: u64,
    pub(super) first_block: u64,
    pub(super) parent_hash: B256,
    pub(super) deposits_start: u64,
    pub(super) last_block_hash: B256,
    pub(super) state_root: B256,
    pub(super) block_count: usize,
    pub(super) transaction_count: usize,
}

/// A batch cut into its parts.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) preamble: BatchPreamble,
    /// The compressed columns.
    pub(super) frame: &'a [u8],
    /// All that follows: at least a signature for each transaction.
    pub(super) signatures: &'a [u8],
}

impl BatchPreamble {
    /// Counts were checked against the limits, so they fit their fields.
    pub(super) fn write(&self, frame_len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(PAYLOAD_TRANSACTIONS);
        out.extend_from_slice(&self.chain_id.to_be_bytes());
        out.extend_from_slice(&self.first_block.to_be_bytes());
        out.extend_from_slice(self.parent_hash.as_slice());
        out.extend_from_slice(&self.deposits_start.to_be_bytes());
        out.extend_from_slice(self.last_block_hash.as_slice());
        out.extend_from_slice(self.state_root.as_slice());
        for count in [self.block_count, self.transaction_count, frame_len] {
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

impl<'a> Parts<'a> {
    /// Cuts a batch into its parts, and checks everything that the fixed part alone can tell.
    pub(super) fn split(encoded: &'a [u8], limits: &BatchLimits) -> Result<Self, BatchDecodeError> {
        if encoded.len() > limits.max_encoded {
            return Err(BatchDecodeError::OverLimit {
                what: "bytes",
                size: encoded.len() as u64,
                limit: limits.max_encoded,
            });
        }
        let mut reader = Reader::new(encoded, BatchColumn::Header);
        if reader.array()? != MAGIC {
            return Err(BatchDecodeError::Magic);
        }
        match reader.byte()? {
            VERSION => {}
            other => return Err(BatchDecodeError::Version(other)),
        }
        match reader.byte()? {
            PAYLOAD_TRANSACTIONS => {}
            other => return Err(BatchDecodeError::PayloadKind(other)),
        }
        let preamble = BatchPreamble {
            chain_id: reader.u64()?,
            first_block: reader.u64()?,
            parent_hash: reader.hash()?,
            deposits_start: reader.u64()?,
            last_block_hash: reader.hash()?,
            state_root: reader.hash()?,
            block_count: within(reader.u32()?, limits.max_blocks, "blocks")?,
            transaction_count: within(reader.u32()?, limits.max_transactions, "transactions")?,
        };
        if preamble.first_block == 0 {
            return Err(reader.invalid("block 0 is the genesis block"));
        }
        if preamble.block_count == 0 {
            return Err(reader.invalid("no blocks"));
        }
        if preamble.first_block.checked_add(preamble.block_count as u64).is_none() {
            return Err(reader.invalid("block numbers over 64 bits"));
        }
        let frame_len = within(reader.u32()?, limits.max_encoded, "frame bytes")?;
        reader.column(BatchColumn::Frame);
        let frame = reader.take(frame_len)?;
        reader.column(BatchColumn::Signatures);
        reader.require(preamble.transaction_count, SIGNATURE_LEN)?;
        Ok(Self { preamble, frame, signatures: reader.rest() })
    }
}

fn within(count: u32, limit: usize, what: &'static str) -> Result<usize, BatchDecodeError> {
    match usize::try_from(count) {
        Ok(size) if size <= limit => Ok(size),
        _ => Err(BatchDecodeError::OverLimit { what, size: count.into(), limit }),
    }
}
