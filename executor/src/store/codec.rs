//! Bytes in and out: the primitives of every value's encoding.

use alloy::primitives::{B256, U256};

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DecodeError(pub(crate) &'static str);

/// Appends an integer, seven bits a byte, the lowest first; the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and as many bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a number as a length byte and its big-endian bytes without leading zeros.
pub(crate) fn put_u256(out: &mut Vec<u8>, value: &U256) {
    put_bytes(out, trimmed(&value.to_be_bytes::<32>()));
}

/// The bytes without leading zeros.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// A number from big-endian bytes without leading zeros.
pub(crate) fn u256_from(bytes: &[u8]) -> Result<U256, DecodeError> {
    U256::try_from_be_slice(bytes).ok_or(DecodeError("a number has more than 32 bytes"))
}

/// Reads a value from the front to the end.
#[derive(Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError("ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError("ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn hash(&mut self) -> Result<B256, DecodeError> {
        self.array().map(B256::from)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError("an integer has more than 64 bits"))
    }

    /// How many entries follow; each has at least `least` bytes, so that no count asks for more memory than there is input.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > self.0.len() / least.max(1) {
            return Err(DecodeError("a count is larger than what follows"));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count(1)?;
        self.take(length)
    }

    pub(crate) fn u256(&mut self) -> Result<U256, DecodeError> {
        u256_from(self.bytes()?)
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError("bytes follow the end")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(small in any::<u64>(), large in any::<[u64; 4]>()) {
            let large = U256::from_limbs(large);
            let mut out = Vec::new();
            put_varint(&mut out, small);
            put_u256(&mut out, &large);
            put_varint(&mut out, u64::from(small as u8));
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.varint(), Ok(small));
            prop_assert_eq!(cursor.u256(), Ok(large));
            prop_assert_eq!(cursor.varint(), Ok(u64::from(small as u8)));
            prop_assert_eq!(cursor.end(), Ok(()));
        }
    }

    #[test]
    fn impossible_integers_are_refused() {
        assert!(Cursor(&[0xff; 10]).varint().is_err());
        assert!(Cursor(&[0x80]).varint().is_err());
        assert!(Cursor(&[200, 1, 0]).bytes().is_err());
    }
}
