//! Reading integers out of columns. Nothing is allocated before the bytes that fill it are known to
//! be there.

use alloy::primitives::{Address, B256};

use super::error::{BatchColumn, BatchDecodeError};

/// Bytes that are read from the front, with the column that they belong to for errors.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    column: BatchColumn,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], column: BatchColumn) -> Self {
        Self { bytes, column }
    }

    /// The column that follows.
    pub(super) const fn column(&mut self, column: BatchColumn) {
        self.column = column;
    }

    pub(super) const fn invalid(&self, problem: &'static str) -> BatchDecodeError {
        BatchDecodeError::Invalid { column: self.column, problem }
    }

    /// Whether `count` items of at least `size` bytes each can still come.
    pub(super) fn require(&self, count: usize, size: usize) -> Result<(), BatchDecodeError> {
        let needed = count.saturating_mul(size);
        match needed.checked_sub(self.bytes.len()) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(BatchDecodeError::Truncated { column: self.column, missing }),
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], BatchDecodeError> {
        self.require(count, 1)?;
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchDecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn byte(&mut self) -> Result<u8, BatchDecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn hash(&mut self) -> Result<B256, BatchDecodeError> {
        self.array().map(B256::new)
    }

    pub(super) fn address(&mut self) -> Result<Address, BatchDecodeError> {
        self.array().map(Address::new)
    }

    /// LEB128 in its shortest form.
    pub(super) fn varint_u128(&mut self) -> Result<u128, BatchDecodeError> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                return Err(self.invalid("integer over 128 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.invalid("integer with leading zeros"));
                }
                return Ok(value);
            }
        }
        Err(self.invalid("integer over 128 bits"))
    }

    pub(super) fn varint(&mut self) -> Result<u64, BatchDecodeError> {
        u64::try_from(self.varint_u128()?).map_err(|_| self.invalid("integer over 64 bits"))
    }

    /// A number of things that memory holds; what bounds it is the caller's to check.
    pub(super) fn count(&mut self) -> Result<usize, BatchDecodeError> {
        usize::try_from(self.varint_u128()?)
            .map_err(|_| self.invalid("count over the address space"))
    }

    /// `count` items of at least one byte each.
    pub(super) fn many<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, BatchDecodeError>,
    ) -> Result<Vec<T>, BatchDecodeError> {
        self.require(count, 1)?;
        (0..count).map(|_| read(self)).collect()
    }

    /// All that is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Ends the reading; bytes that are left are an error.
    pub(super) const fn finish(self) -> Result<(), BatchDecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(BatchDecodeError::TrailingBytes { after: self.column, count: self.bytes.len() })
        }
    }
}

/// The sum of counts that were read. Saturates: a sum that large is over every limit.
pub(super) fn sum(counts: &[usize]) -> usize {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}
