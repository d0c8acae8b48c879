//! Accounts by name: those that the state before a batch has need not be told in full, since its readers have that state.

use std::{collections::BTreeMap, sync::Arc};

use alloy::primitives::{Address, B256};

use super::{KeyHints, words::Words};
use crate::{
    batch::{
        BatchColumn, BatchDecodeError, BatchLimits, limits::within, reader::Reader,
        writer::put_varint,
    },
    types::{AddressPrefix, ExecutedBlock, StateDiff},
};

/// Accounts that may be named in a batch by the first bits of their addresses, as no other account of the state before it has an address
/// that begins so. (A batch is the same without them, only larger.)
#[derive(Debug, Clone, Default)]
pub struct AccountNames {
    bits: u8,
    accounts: BTreeMap<AddressPrefix, Address>,
}

impl AccountNames {
    /// The addresses that a batch of these blocks holds and that may be accounts of the state before it, in order: those of the accounts that changed and were there,
    /// and those among the words that keys of slots follow from.
    pub fn wanted(
        blocks: &[(Arc<ExecutedBlock>, Arc<StateDiff>)],
        hints: &KeyHints,
    ) -> Vec<Address> {
        let words = hints.words().filter(|word| !Words::is_short(*word)).filter_map(Words::address);
        let mut wanted: BTreeMap<_, _> = words.map(|address| (address, true)).collect();
        // Whether it was there is what the first of the blocks that change it says.
        let mut changed = BTreeMap::new();
        for (address, account) in blocks.iter().flat_map(|(_, diff)| &diff.accounts) {
            changed.entry(*address).or_insert(account.before.is_some());
        }
        wanted.extend(changed);
        wanted.into_iter().filter(|(_, was_there)| *was_there).map(|(address, _)| address).collect()
    }

    /// Of the `wanted` addresses those that their first `bits` (1 to [`AddressPrefix::MAX_BITS`]) name: `found` is, for each of them (of more there is nothing known), the account
    /// of the state before the batch that alone begins so.
    pub fn new(bits: u8, wanted: &[Address], found: &[Option<Address>]) -> Self {
        let named = wanted.iter().zip(found).filter(|(address, found)| Some(**address) == **found);
        let named = named.map(|(address, _)| (AddressPrefix::of(*address, bits), *address));
        Self { bits, accounts: named.collect() }
    }

    /// Whether an account has a name.
    pub fn has(&self, address: Address) -> bool {
        self.of(address).is_some()
    }

    /// For each name the account that has it.
    pub fn find(&self, names: &[AddressPrefix]) -> Vec<Option<Address>> {
        names.iter().map(|name| self.accounts.get(name).copied()).collect()
    }

    pub(super) fn of(&self, address: Address) -> Option<AddressPrefix> {
        let prefix = AddressPrefix::of(address, self.bits);
        (self.accounts.get(&prefix) == Some(&address)).then_some(prefix)
    }
}

/// Writes names of the same length, which ascend strictly.
pub(super) fn write(names: &[AddressPrefix], out: &mut Vec<u8>) {
    put_varint(out, names.len() as u64);
    let Some(first) = names.first() else { return };
    // Steps are mostly about as long as the bits allow on average: their lower bytes do not compress.
    let mean = u32::from(first.bits()).saturating_sub(names.len().ilog2());
    let raw = (mean / 8).min(7) as usize;
    out.extend_from_slice(&[first.bits(), raw as u8]);
    let mut next = 0;
    let steps: Vec<_> = names
        .iter()
        .map(|name| {
            let step = name.value().wrapping_sub(next);
            next = name.value().wrapping_add(1);
            step
        })
        .collect();
    for step in &steps {
        put_varint(out, step >> (8 * raw));
    }
    for place in 0..raw {
        out.extend(steps.iter().map(|step| step.to_le_bytes()[place]));
    }
}

/// Reads what [`write`] wrote.
pub(super) fn read(
    reader: &mut Reader<'_>,
    limits: &BatchLimits,
) -> Result<Vec<AddressPrefix>, BatchDecodeError> {
    reader.column(BatchColumn::Names);
    let count = within(reader.varint()?, limits.max_changes, "names")?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let (bits, raw) = (reader.byte()?, usize::from(reader.byte()?));
    if raw > 7 {
        return Err(reader.invalid("names over 64 bits"));
    }
    let heads = reader.many(count, Reader::varint)?;
    reader.require(count, raw)?;
    let mut steps: Vec<_> =
        heads.into_iter().map(u128::from).map(|head| head << (8 * raw)).collect();
    for place in 0..raw {
        for (step, byte) in steps.iter_mut().zip(reader.take(count)?) {
            *step |= u128::from(*byte) << (8 * place);
        }
    }
    let mut next = 0u128;
    let name = |step: u128| {
        let value = next + step;
        next = value + 1;
        u64::try_from(value)
            .ok()
            .and_then(|value| AddressPrefix::new(bits, value))
            .ok_or_else(|| reader.invalid("a name that its bits do not hold"))
    };
    steps.into_iter().map(name).collect()
}

/// Why a batch cannot be read with the state before it. Everybody has the same, so the batch is invalid for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name that names nothing.
    #[error(
        "no account, or more than one, of the state before the batch has an address that begins with {0}"
    )]
    Unknown(AddressPrefix),
    /// An address is named and told in full.
    #[error("{0} is there twice, by its name and in full")]
    Twice(Address),
    /// Two groups have the same slot: one of them would be lost.
    #[error("slot {slot} of {account} is there twice")]
    SlotTwice {
        /// The account.
        account: Address,
        /// The slot.
        slot: B256,
    },
    /// The messages to L1 are not those that the message passer recorded: a batch could otherwise name any.
    #[error("the messages to L1 are others than the blocks recorded")]
    Messages,
}
