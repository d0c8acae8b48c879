//! The outbox's records and their bytes, which `docs/db.md` writes down.

use alloy::{
    eips::BlockNumHash,
    primitives::{Address, B256, Bytes, U256},
};
use millrace_proto::{DaKind, L1Ref, QueueMark};

/// Version of every record's bytes, and their first byte.
const VERSION: u8 = 1;

/// Which chain an outbox belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutboxIdentity {
    pub(crate) chain_id: u64,
    pub(crate) rollup: Address,
}

/// The end of the last closed batch: where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The batch; 0 before the first.
    pub(crate) batch: u64,
    /// Its last block.
    pub(crate) block: BlockNumHash,
    /// Deposits consumed through that block.
    pub(crate) deposits_end: u64,
    /// The deposit queue's accumulator there.
    pub(crate) deposits_hash: B256,
}

impl Cursor {
    /// Behind a batch that ends with a block, up to which the chain has taken so much of L1's queue.
    pub(crate) const fn new(batch: u64, block: BlockNumHash, queue: QueueMark) -> Self {
        Self { batch, block, deposits_end: queue.end, deposits_hash: queue.hash }
    }
}

/// A closed batch, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchEntry {
    pub(crate) number: u64,
    pub(crate) first_block: u64,
    pub(crate) last_block: u64,
    pub(crate) deposits_end: u64,
    pub(crate) deposits_hash: B256,
    pub(crate) digest: B256,
    /// Encoded bytes.
    pub(crate) size: u64,
    pub(crate) transactions: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) closed_at: u64,
    /// Where the contract recorded it, as last seen.
    pub(crate) post: Option<Post>,
}

/// A batch's record in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) l1: L1Ref,
    /// Wei paid for the transaction.
    pub(crate) fee: U256,
}

/// Where a batch was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) kind: DaKind,
    /// What the backend gave for it; empty where the posting transaction carries the batch.
    pub(crate) da_pointer: Bytes,
}

/// What posting has cost on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// Days since the Unix epoch.
    pub(super) day: u64,
    /// Wei.
    pub(super) fees: U256,
}

impl Spent {
    /// With one more fee; on a new day alone.
    pub(super) fn plus(self, day: u64, fee: U256) -> Self {
        let before = if self.day == day { self.fees } else { U256::ZERO };
        Self { day, fees: before.saturating_add(fee) }
    }
}

/// The backend that an operator has chosen, if one has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Chosen(pub(super) Option<DaKind>);

/// The epoch under which this outbox's batches are posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Epoch(pub(super) u32);

/// The last batch that L1 held when the outbox last went on after it, whoever had closed it: the contract's hash of it, and the last block of the chain there. Zeros if that never
/// happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rejoined {
    pub(crate) batch: u64,
    pub(crate) hash: B256,
    pub(crate) block: u64,
}

/// How far the archive is complete: the last batch up to which it has the blobs of all that the contract recorded, and the L1 block that holds it, which is final. Zeros before the
/// first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) batch: u64,
    pub(crate) block: BlockNumHash,
}

/// Sums over the posted batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: u64,
    pub(crate) transactions: u64,
    /// Wei.
    pub(crate) fees: U256,
}

impl Totals {
    /// With one more batch.
    pub(crate) fn plus(self, entry: &BatchEntry, post: &Post) -> Self {
        Self {
            bytes: self.bytes.saturating_add(entry.size),
            transactions: self.transactions.saturating_add(entry.transactions),
            fees: self.fees.saturating_add(post.fee),
        }
    }

    /// With one batch less, whose record a reorg removed.
    pub(crate) fn minus(self, entry: &BatchEntry, post: &Post) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(entry.size),
            transactions: self.transactions.saturating_sub(entry.transactions),
            fees: self.fees.saturating_sub(post.fee),
        }
    }
}

/// A record with a version byte and fields of fixed width, integers big-endian.
pub(super) trait Record: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(fields: &mut Fields<'_>) -> Option<Self>;

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.write(&mut out);
        out
    }

    /// `None` if the bytes are not exactly one record of this version.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let mut fields = Fields(rest);
        let record = Self::read(&mut fields)?;
        (*version == VERSION && fields.0.is_empty()).then_some(record)
    }
}

/// Reads fields off the front.
pub(super) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn hash(&mut self) -> Option<B256> {
        self.array().map(B256::new)
    }

    fn word(&mut self) -> Option<U256> {
        self.hash().map(Into::into)
    }
}

impl Record for OutboxIdentity {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.chain_id.to_be_bytes());
        out.extend(self.rollup);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { chain_id: fields.u64()?, rollup: fields.array().map(Address::new)? })
    }
}

impl Record for Cursor {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.batch.to_be_bytes());
        out.extend(self.block.number.to_be_bytes());
        out.extend(self.block.hash);
        out.extend(self.deposits_end.to_be_bytes());
        out.extend(self.deposits_hash);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            batch: fields.u64()?,
            block: BlockNumHash { number: fields.u64()?, hash: fields.hash()? },
            deposits_end: fields.u64()?,
            deposits_hash: fields.hash()?,
        })
    }
}

impl Record for Totals {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.bytes.to_be_bytes());
        out.extend(self.transactions.to_be_bytes());
        out.extend(self.fees.to_be_bytes::<32>());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { bytes: fields.u64()?, transactions: fields.u64()?, fees: fields.word()? })
    }
}

impl Record for Spent {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.day.to_be_bytes());
        out.extend(self.fees.to_be_bytes::<32>());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { day: fields.u64()?, fees: fields.word()? })
    }
}

impl Record for Rejoined {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.batch.to_be_bytes());
        out.extend(self.hash);
        out.extend(self.block.to_be_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { batch: fields.u64()?, hash: fields.hash()?, block: fields.u64()? })
    }
}

impl Record for Archived {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.batch.to_be_bytes());
        out.extend(self.block.number.to_be_bytes());
        out.extend(self.block.hash);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let batch = fields.u64()?;
        Some(Self { batch, block: BlockNumHash { number: fields.u64()?, hash: fields.hash()? } })
    }
}

impl Record for Epoch {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(u64::from(self.0).to_be_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.u64().and_then(|epoch| u32::try_from(epoch).ok()).map(Self)
    }
}

impl Record for Chosen {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0.map_or(0, |kind| kind as u8));
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        match fields.array()? {
            [0] => Some(Self(None)),
            [kind] => Some(Self(Some(DaKind::try_from(kind).ok()?))),
        }
    }
}

impl Record for Submitted {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend((self.da_pointer.len() as u64).to_be_bytes());
        out.extend(&self.da_pointer);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let [kind] = fields.array()?;
        let length = usize::try_from(fields.u64()?).ok()?;
        let (pointer, rest) = fields.0.split_at_checked(length)?;
        fields.0 = rest;
        let da_pointer = Bytes::copy_from_slice(pointer);
        Some(Self { kind: DaKind::try_from(kind).ok()?, da_pointer })
    }
}

impl Record for BatchEntry {
    fn write(&self, out: &mut Vec<u8>) {
        for number in [self.number, self.first_block, self.last_block, self.deposits_end] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.deposits_hash);
        out.extend(self.digest);
        for number in [self.size, self.transactions, self.closed_at] {
            out.extend(number.to_be_bytes());
        }
        if let Some(Post { l1, fee }) = &self.post {
            out.extend(l1.tx_hash);
            out.extend(l1.block.number.to_be_bytes());
            out.extend(l1.block.hash);
            out.extend(fee.to_be_bytes::<32>());
        }
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            number: fields.u64()?,
            first_block: fields.u64()?,
            last_block: fields.u64()?,
            deposits_end: fields.u64()?,
            deposits_hash: fields.hash()?,
            digest: fields.hash()?,
            size: fields.u64()?,
            transactions: fields.u64()?,
            closed_at: fields.u64()?,
            post: if fields.0.is_empty() {
                None
            } else {
                let tx_hash = fields.hash()?;
                let block = BlockNumHash { number: fields.u64()?, hash: fields.hash()? };
                Some(Post { l1: L1Ref { tx_hash, block }, fee: fields.word()? })
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{hex, keccak256};

    use super::*;

    fn entry(post: Option<Post>) -> BatchEntry {
        BatchEntry {
            number: 1,
            first_block: 2,
            last_block: 3,
            deposits_end: 4,
            deposits_hash: B256::repeat_byte(5),
            digest: B256::repeat_byte(6),
            size: 7,
            transactions: 8,
            closed_at: 9,
            post,
        }
    }

    fn post() -> Post {
        let block = BlockNumHash { number: 10, hash: B256::repeat_byte(11) };
        Post { l1: L1Ref { tx_hash: B256::repeat_byte(12), block }, fee: U256::from(13) }
    }

    fn check<R: Record + PartialEq + std::fmt::Debug>(record: R) -> Vec<u8> {
        let bytes = record.to_bytes();
        assert_eq!(R::from_bytes(&bytes).as_ref(), Some(&record));
        assert_eq!(R::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(R::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(R::from_bytes(&[]), None);
        bytes
    }

    /// Outboxes outlive the binaries that wrote them.
    #[test]
    fn records_are_frozen() {
        let identity = OutboxIdentity { chain_id: 1, rollup: Address::repeat_byte(2) };
        let cursor = Cursor {
            batch: 1,
            block: BlockNumHash { number: 2, hash: B256::repeat_byte(3) },
            deposits_end: 4,
            deposits_hash: B256::repeat_byte(5),
        };
        let totals = Totals { bytes: 1, transactions: 2, fees: U256::from(3) };
        assert_eq!(
            hex::encode(check(identity)),
            "0100000000000000010202020202020202020202020202020202020202"
        );
        let submitted =
            Submitted { kind: DaKind::AltDa, da_pointer: Bytes::from_static(&[1, 0xab]) };
        assert_eq!(hex::encode(check(submitted)), "0103000000000000000201ab");
        let spent = check(Spent { day: 3, fees: U256::from(4) });
        assert_eq!(hex::encode(spent), format!("01{:016x}{:064x}", 3, 4));
        let archived = check(Archived { batch: 7, block: cursor.block });
        assert_eq!(hex::encode(archived), format!("01{:016x}{:016x}{}", 7, 2, "03".repeat(32)));
        assert_eq!(hex::encode(check(Epoch(7))), "010000000000000007");
        assert_eq!(hex::encode(check(Chosen(None))), "0100");
        assert_eq!(hex::encode(check(Chosen(Some(DaKind::AltDa)))), "0103");
        let all =
            [check(cursor), check(totals), check(entry(None)), check(entry(Some(post())))].concat();
        assert_eq!(
            hex::encode(keccak256(all)),
            "a43ebb9925c374cc0592628eb6a0ab4dc8d1e8abd8486813104d2ac47c1969b5"
        );
    }
}
