//! Addresses: each is held once, and the columns that name one refer to it.

use alloy::primitives::{Address, map::AddressMap};

use super::{
    error::{BatchColumn, BatchDecodeError},
    reader::Reader,
    writer::put_varint,
};

/// A reference to none.
const NONE: u64 = 0;
/// A reference to an address that was not named before: the next one.
const NEW: u64 = 1;
/// Added to the position of an address that was named before.
const KNOWN: u64 = 2;

/// Distinct addresses in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    positions: AddressMap<u64>,
    bytes: Vec<u8>,
}

impl AddressBook {
    pub(super) fn refer(&mut self, column: &mut Vec<u8>, address: Option<Address>) {
        let Some(address) = address else { return put_varint(column, NONE) };
        let next = self.positions.len() as u64;
        let position = *self.positions.entry(address).or_insert(next);
        if position == next {
            self.bytes.extend_from_slice(address.as_slice());
            put_varint(column, NEW);
        } else {
            put_varint(column, KNOWN + position);
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads references, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct References {
    /// How many addresses were named.
    named: usize,
}

impl References {
    /// A position among the addresses, or `None`.
    pub(super) fn read_optional(
        &mut self,
        reader: &mut Reader<'_>,
    ) -> Result<Option<usize>, BatchDecodeError> {
        match reader.varint()? {
            NONE => Ok(None),
            NEW => {
                self.named += 1;
                Ok(Some(self.named - 1))
            }
            known => usize::try_from(known - KNOWN)
                .ok()
                .filter(|position| *position < self.named)
                .map(Some)
                .ok_or_else(|| reader.invalid("no address has this position yet")),
        }
    }

    /// A position among the addresses.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<usize, BatchDecodeError> {
        self.read_optional(reader)?.ok_or_else(|| reader.invalid("no address where one is needed"))
    }

    /// The addresses that the references name.
    pub(super) fn addresses(
        self,
        reader: &mut Reader<'_>,
    ) -> Result<Vec<Address>, BatchDecodeError> {
        reader.column(BatchColumn::Addresses);
        reader.require(self.named, Address::len_bytes())?;
        (0..self.named).map(|_| reader.address()).collect()
    }
}
