//! The words of a batch: its accounts' addresses, and the other short words that keys of mappings are.

use alloy::primitives::{Address, U256};

use super::{AccountNames, NameError, names};
use crate::{
    batch::{
        BatchColumn, BatchDecodeError, BatchLimits,
        limits::within,
        numbers::{Numbers, read_numbers},
        reader::Reader,
        writer::put_varint,
    },
    types::AddressPrefix,
};

/// Bytes of an address that are written as the step from the one before it.
const STEPPED: usize = 4;
/// Words for every account or slot that may change, at most.
pub(super) const WORDS_A_CHANGE: usize = 4;
/// Words shorter than this are written as numbers, others as addresses.
const SHORT: usize = 12;

/// Words in order: addresses that are named, addresses that are told in full, numbers, each ascending. A word is referred to by its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words<N = Address> {
    /// By their names, or once these are resolved by their addresses.
    named: Vec<N>,
    full: Vec<Address>,
    numbers: Vec<U256>,
}

impl<N> Words<N> {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.addresses() + self.numbers.len()
    }

    /// How many of them are addresses.
    pub(super) const fn addresses(&self) -> usize {
        self.named.len() + self.full.len()
    }
}

impl Words {
    /// `None` if a word is longer than an address.
    pub(super) fn address(word: U256) -> Option<Address> {
        (word.byte_len() <= Address::len_bytes()).then(|| Address::from_word(word.into()))
    }

    /// Whether a word that is no account's address is held as a number.
    pub(super) fn is_short(word: U256) -> bool {
        word.byte_len() <= SHORT
    }

    /// Of accounts, and of other words, none of which is longer than an address.
    pub(super) fn new(
        accounts: impl IntoIterator<Item = Address>,
        others: impl IntoIterator<Item = U256>,
        names: &AccountNames,
    ) -> Self {
        let mut addresses: Vec<_> = accounts.into_iter().collect();
        let mut numbers = Vec::new();
        for word in others {
            match Self::address(word) {
                Some(address) if !Self::is_short(word) => addresses.push(address),
                _ => numbers.push(word),
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        let is_address = |word: &U256| {
            Self::address(*word).is_some_and(|word| addresses.binary_search(&word).is_ok())
        };
        numbers.retain(|word| !is_address(word));
        numbers.sort_unstable();
        numbers.dedup();
        let (named, full) = addresses.into_iter().partition(|address| names.of(*address).is_some());
        Self { named, full, numbers }
    }

    /// Where a word is.
    pub(super) fn position(&self, word: U256) -> Option<usize> {
        let in_addresses = |address: Address| {
            let full = || self.full.binary_search(&address).map(|at| self.named.len() + at);
            self.named.binary_search(&address).or_else(|_| full()).ok()
        };
        let number = || Some(self.addresses() + self.numbers.binary_search(&word).ok()?);
        Self::address(word).and_then(in_addresses).or_else(number)
    }

    /// The address at a position that is one's.
    pub(super) fn address_at(&self, position: usize) -> Option<Address> {
        let full = || self.full.get(position - self.named.len());
        self.named.get(position).or_else(full).copied()
    }

    /// The word at a position.
    pub(super) fn word(&self, position: usize) -> Option<U256> {
        match self.address_at(position) {
            Some(address) => Some(address.into_word().into()),
            None => self.numbers.get(position.checked_sub(self.addresses())?).copied(),
        }
    }

    /// The words with names for the addresses that have some.
    pub(super) fn by_name(self, names: &AccountNames) -> Words<AddressPrefix> {
        let Self { named, full, numbers } = self;
        let named = named.into_iter().filter_map(|address| names.of(address)).collect();
        Words { named, full, numbers }
    }
}

impl Words<AddressPrefix> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        names::write(&self.named, out);
        put_varint(out, self.full.len() as u64);
        let mut before = 0;
        for address in &self.full {
            let head = head(address);
            put_varint(out, head - before);
            before = head;
        }
        for address in &self.full {
            out.extend_from_slice(&address[STEPPED..]);
        }
        put_varint(out, self.numbers.len() as u64);
        let mut numbers = Numbers::default();
        push_ascending(&mut numbers, self.numbers.iter().copied());
        out.extend(numbers.columns().concat());
    }

    pub(super) fn read(
        reader: &mut Reader<'_>,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        let named = names::read(reader, limits)?;
        reader.column(BatchColumn::Words);
        let limit = limits.max_changes.saturating_mul(WORDS_A_CHANGE).saturating_sub(named.len());
        let count = within(reader.varint()?, limit, "words")?;
        let mut head = 0u32;
        let heads = reader.many(count, |reader| {
            let step = reader.varint()?;
            head = u32::try_from(step)
                .ok()
                .and_then(|step| head.checked_add(step))
                .ok_or_else(|| reader.invalid("an address over 160 bits"))?;
            Ok(head)
        })?;
        reader.require(count, Address::len_bytes() - STEPPED)?;
        let mut full: Vec<Address> = Vec::with_capacity(count);
        for head in heads {
            let mut address = Address::ZERO;
            address[..STEPPED].copy_from_slice(&head.to_be_bytes());
            address[STEPPED..].copy_from_slice(reader.take(Address::len_bytes() - STEPPED)?);
            if full.last().is_some_and(|last| *last >= address) {
                return Err(reader.invalid("addresses that do not ascend"));
            }
            full.push(address);
        }
        let count = within(reader.varint()?, limit - count, "words")?;
        reader.require(count, 1)?;
        let numbers = read_values(reader, BatchColumn::Words, count)?;
        let numbers = ascending(reader, numbers)?;
        Ok(Self { named, full, numbers })
    }

    /// The names, each of an account of the state before the batch.
    pub(super) fn named(&self) -> &[AddressPrefix] {
        &self.named
    }

    /// The words, once it is found out whose each name is.
    pub(super) fn resolve(&self, found: &[Option<Address>]) -> Result<Words, NameError> {
        let mut found = found.iter().copied();
        let account = |name: &AddressPrefix| {
            let account = found.next().flatten().filter(|address| name.begins(*address));
            let account = account.ok_or(NameError::Unknown(*name))?;
            match self.full.binary_search(&account) {
                Ok(_) => Err(NameError::Twice(account)),
                Err(_) => Ok(account),
            }
        };
        let named = self.named.iter().map(account).collect::<Result<_, _>>()?;
        Ok(Words { named, full: self.full.clone(), numbers: self.numbers.clone() })
    }
}

fn head(address: &Address) -> u32 {
    let mut head = [0; STEPPED];
    head.copy_from_slice(&address[..STEPPED]);
    u32::from_be_bytes(head)
}

/// Writes numbers that ascend strictly: the first, then what each is more than the one after the one before it.
pub(super) fn push_ascending(numbers: &mut Numbers, values: impl IntoIterator<Item = U256>) {
    let mut next = U256::ZERO;
    for value in values {
        numbers.push(value.wrapping_sub(next));
        next = value.wrapping_add(U256::ONE);
    }
}

/// What [`push_ascending`] wrote.
pub(super) fn ascending(
    reader: &Reader<'_>,
    steps: impl IntoIterator<Item = U256>,
) -> Result<Vec<U256>, BatchDecodeError> {
    let mut next = Some(U256::ZERO);
    steps
        .into_iter()
        .map(|step| {
            let value = next
                .and_then(|next| next.checked_add(step))
                .ok_or_else(|| reader.invalid("numbers that ascend beyond 256 bits"))?;
            next = value.checked_add(U256::ONE);
            Ok(value)
        })
        .collect()
}

/// Numbers none of which may be the same as something else.
pub(super) fn read_values(
    reader: &mut Reader<'_>,
    column: BatchColumn,
    count: usize,
) -> Result<Vec<U256>, BatchDecodeError> {
    read_numbers(reader, column, count)?
        .into_iter()
        .map(|number| number.ok_or_else(|| reader.invalid("the same as nothing")))
        .collect()
}
