//! Records as bytes: a version byte, a kind byte, then the fields. Integers are big-endian; a list is its length as `u32`
//! and its items; byte strings are their length as `u32` and their bytes. docs/order-log.md has the table.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, B256, Bytes, U256};
use millrace_proto::{DecodeTxError, QueueMark, QueuedTxs, RecoveredTx};

use super::{
    reason::{decode_reason, encode_reason},
    record::{AcceptTimes, BlockOpened, BlockTimes, DroppedTx, Record},
    times::{self, millis},
};

const VERSION: u8 = 3;
/// As version 3, without any time but that of a drop.
const WITHOUT_TIMES: u8 = 2;

const POOLED: u8 = 1;
const BLOCK_OPENED: u8 = 2;
const FRAME: u8 = 3;
const BLOCK_SEALED: u8 = 4;
const DROPPED: u8 = 5;
const BLOCK_UNWOUND: u8 = 6;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// They end too early.
    #[error("{needed} bytes are missing")]
    Truncated {
        /// At least so many.
        needed: usize,
    },
    /// Bytes follow the record.
    #[error("{0} bytes follow the record")]
    TrailingBytes(usize),
    /// Written by a version that this one does not know.
    #[error("unknown record version {0}")]
    UnknownVersion(u8),
    /// A kind of record that this version does not know.
    #[error("unknown record kind {0}")]
    UnknownKind(u8),
    /// A drop reason that this version does not know.
    #[error("unknown reason {0}")]
    UnknownReason(u8),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// Times that no version writes so.
    #[error("the times at which transactions were accepted are malformed")]
    Times,
    /// A number that is not in its shortest form, or has more than 64 bits.
    #[error("a number is not in its shortest form, or has more than 64 bits")]
    Number,
    /// A transaction that does not decode.
    #[error("transaction: {0}")]
    Transaction(#[from] DecodeTxError),
    /// A record that cannot follow those before it.
    #[error("{0}")]
    Sequence(String),
}

/// The record's bytes.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(size_hint(record)));
    out.u8(VERSION);
    match record {
        Record::Pooled { txs, accepted_at } => {
            out.u8(POOLED);
            out.txs(txs);
            times::write(&mut out, accepted_at);
        }
        Record::BlockOpened(block) => {
            out.u8(BLOCK_OPENED);
            out.u64(block.number);
            out.fixed(block.parent_hash.as_slice());
            out.u64(block.timestamp);
            out.u64(block.queued.mark.end);
            out.fixed(block.queued.mark.hash.as_slice());
            out.u64(u64::from(block.queued.mark.forced));
            out.txs(&block.queued.txs);
        }
        Record::Frame { block, txs, accepted_at } => {
            out.u8(FRAME);
            out.u64(*block);
            out.txs(txs);
            times::write(&mut out, accepted_at);
        }
        Record::BlockSealed { number, hash, returned, times } => {
            out.u8(BLOCK_SEALED);
            out.u64(*number);
            out.fixed(hash.as_slice());
            out.len(returned.len());
            for hash in returned {
                out.fixed(hash.as_slice());
            }
            out.time(times.sealed_at);
            times::write(&mut out, &times.accepted_at);
        }
        Record::BlockUnwound { number, hash, txs, accepted_at } => {
            out.u8(BLOCK_UNWOUND);
            out.u64(*number);
            out.len(usize::from(hash.is_some()));
            if let Some(hash) = hash {
                out.fixed(hash.as_slice());
            }
            out.txs(txs);
            times::write(&mut out, accepted_at);
        }
        Record::Dropped { txs } => {
            out.u8(DROPPED);
            out.len(txs.len());
            for dropped in txs {
                out.dropped(dropped);
            }
        }
    }
    out.0
}

/// Reads a record back.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Record, CodecError> {
    let mut input = Reader::new(bytes)?;
    let record = match input.u8()? {
        POOLED => Record::Pooled { txs: input.txs()?, accepted_at: input.times()? },
        BLOCK_OPENED => Record::BlockOpened(BlockOpened {
            number: input.u64()?,
            parent_hash: input.b256()?,
            timestamp: input.u64()?,
            queued: QueuedTxs {
                mark: QueueMark {
                    end: input.u64()?,
                    hash: input.b256()?,
                    forced: u32::try_from(input.u64()?).unwrap_or(u32::MAX),
                },
                txs: input.txs()?,
            },
        }),
        FRAME => {
            Record::Frame { block: input.u64()?, txs: input.txs()?, accepted_at: input.times()? }
        }
        BLOCK_SEALED => Record::BlockSealed {
            number: input.u64()?,
            hash: input.b256()?,
            returned: input.list(32, Reader::b256)?,
            times: BlockTimes { sealed_at: input.time()?, accepted_at: input.times()? },
        },
        BLOCK_UNWOUND => Record::BlockUnwound {
            number: input.u64()?,
            hash: input.list(32, Reader::b256)?.pop(),
            txs: input.txs()?,
            accepted_at: input.times()?,
        },
        DROPPED => Record::Dropped { txs: input.list(33, Reader::dropped)? },
        other => return Err(CodecError::UnknownKind(other)),
    };
    input.end()?;
    Ok(record)
}

/// A drop alone, as the table of drops holds it.
pub(crate) fn encode_dropped(dropped: &DroppedTx) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(128 + dropped.tx.encoded().len()));
    out.u8(VERSION);
    out.dropped(dropped);
    out.0
}

/// Reads what [`encode_dropped`] wrote.
pub(crate) fn decode_dropped(bytes: Vec<u8>) -> Result<DroppedTx, CodecError> {
    let mut input = Reader::new(bytes)?;
    let dropped = input.dropped()?;
    input.end()?;
    Ok(dropped)
}

fn size_hint(record: &Record) -> usize {
    let txs =
        |txs: &[Arc<RecoveredTx>]| txs.iter().map(|tx| 26 + tx.encoded().len()).sum::<usize>();
    80 + match record {
        Record::Pooled { txs: list, .. }
        | Record::Frame { txs: list, .. }
        | Record::BlockUnwound { txs: list, .. } => txs(list),
        Record::BlockOpened(block) => txs(&block.queued.txs),
        Record::BlockSealed { returned, times, .. } => {
            32 * returned.len() + 2 * times.accepted_at.len()
        }
        Record::Dropped { txs } => txs.iter().map(|dropped| 128 + dropped.tx.encoded().len()).sum(),
    }
}

/// Appends fields.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.fixed(&value.to_be_bytes());
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.fixed(&value.to_be_bytes());
    }

    pub(super) fn u256(&mut self, value: U256) {
        self.fixed(&value.to_be_bytes::<32>());
    }

    pub(super) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.fixed(bytes);
    }

    /// LEB128: seven bits a byte, lowest first, in its shortest form.
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Unix milliseconds; 0 where it is not known.
    fn time(&mut self, at: Option<Duration>) {
        self.u64(at.map_or(0, millis));
    }

    pub(super) fn len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("pool and block limits keep every list below 2^32");
        self.fixed(&len.to_be_bytes());
    }

    fn tx(&mut self, tx: &RecoveredTx) {
        self.fixed(tx.sender().as_slice());
        self.bytes(tx.encoded());
    }

    fn txs(&mut self, txs: &[Arc<RecoveredTx>]) {
        self.len(txs.len());
        for tx in txs {
            self.tx(tx);
        }
    }

    fn dropped(&mut self, dropped: &DroppedTx) {
        self.tx(&dropped.tx);
        self.u64(millis(dropped.at));
        encode_reason(self, &dropped.reason);
        self.time(dropped.accepted_at);
    }
}

/// Takes fields from the front.
pub(super) struct Reader {
    bytes: Bytes,
    /// Whether the bytes hold times: an earlier version wrote none.
    has_times: bool,
}

impl Reader {
    /// Begins with the version.
    fn new(bytes: Vec<u8>) -> Result<Self, CodecError> {
        let mut reader = Self { bytes: bytes.into(), has_times: true };
        match reader.u8()? {
            VERSION => {}
            WITHOUT_TIMES => reader.has_times = false,
            other => return Err(CodecError::UnknownVersion(other)),
        }
        Ok(reader)
    }

    fn take(&mut self, len: usize) -> Result<Bytes, CodecError> {
        match len.checked_sub(self.bytes.len()) {
            None | Some(0) => Ok(self.bytes.split_to(len)),
            Some(needed) => Err(CodecError::Truncated { needed }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let bytes = self.take(N)?;
        Ok(bytes.as_ref().try_into().expect("take returns as many bytes as asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn u128(&mut self) -> Result<u128, CodecError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(super) fn u256(&mut self) -> Result<U256, CodecError> {
        Ok(U256::from_be_bytes(self.array::<32>()?))
    }

    pub(super) fn b256(&mut self) -> Result<B256, CodecError> {
        Ok(B256::from(self.array()?))
    }

    pub(super) fn address(&mut self) -> Result<Address, CodecError> {
        Ok(Address::from(self.array()?))
    }

    pub(super) fn text(&mut self) -> Result<String, CodecError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| CodecError::NotUtf8)
    }

    fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = self.len()?;
        self.take(len)
    }

    fn len(&mut self) -> Result<usize, CodecError> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    /// A list whose items have at least `least` bytes, so that a false length cannot make it allocate much.
    fn list<T>(
        &mut self,
        least: usize,
        item: fn(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let len = self.count(least)?;
        (0..len).map(|_| item(self)).collect()
    }

    /// The length of a list whose items have at least `least` bytes.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, CodecError> {
        let len = self.len()?;
        let bytes = len.saturating_mul(least);
        match bytes.checked_sub(self.bytes.len()) {
            None | Some(0) => Ok(len),
            Some(needed) => Err(CodecError::Truncated { needed }),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(CodecError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || shift == 0;
                return if is_shortest { Ok(value) } else { Err(CodecError::Number) };
            }
        }
        Err(CodecError::Number)
    }

    /// A time, where this version has it.
    fn time(&mut self) -> Result<Option<Duration>, CodecError> {
        if !self.has_times {
            return Ok(None);
        }
        let at = self.u64()?;
        Ok((at > 0).then(|| Duration::from_millis(at)))
    }

    fn times(&mut self) -> Result<AcceptTimes, CodecError> {
        if self.has_times { times::read(self) } else { Ok(AcceptTimes::new()) }
    }

    fn tx(&mut self) -> Result<Arc<RecoveredTx>, CodecError> {
        let sender = self.address()?;
        let raw = self.bytes()?;
        Ok(Arc::new(RecoveredTx::decode_trusted(raw, sender)?))
    }

    fn txs(&mut self) -> Result<Vec<Arc<RecoveredTx>>, CodecError> {
        self.list(24, Self::tx)
    }

    fn dropped(&mut self) -> Result<DroppedTx, CodecError> {
        Ok(DroppedTx {
            tx: self.tx()?,
            at: Duration::from_millis(self.u64()?),
            reason: decode_reason(self)?,
            accepted_at: self.time()?,
        })
    }

    fn end(self) -> Result<(), CodecError> {
        match self.bytes.len() {
            0 => Ok(()),
            more => Err(CodecError::TrailingBytes(more)),
        }
    }
}

#[cfg(test)]
mod tests;
