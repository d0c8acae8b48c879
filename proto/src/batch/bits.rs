//! Booleans, eight a byte, the first in the lowest bit.

/// Collects bits.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    len: usize,
}

impl BitWriter {
    pub(super) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bits that were read; `len` of them.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Bits<'a> {
    /// `None` unless `bytes` is exactly what `len` bits take, with zeros after the last.
    pub(super) fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) {
            return None;
        }
        let used = len % 8;
        let clean = used == 0 || bytes.last().is_none_or(|last| last >> used == 0);
        clean.then_some(Self { bytes, len })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        (0..self.len).map(|index| self.bytes[index / 8] >> (index % 8) & 1 == 1)
    }
}
