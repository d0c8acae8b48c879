//! The words of a batch: its accounts' addresses, and the other short words that keys of mappings are.

use alloy::primitives::{Address, U256};

use super::super::{
    BatchLimits,
    error::{BatchColumn, BatchDecodeError},
    limits::within,
    numbers::{Numbers, read_numbers},
    reader::Reader,
    writer::put_varint,
};

/// Bytes of an address that are written as the step from the one before it.
const STEPPED: usize = 4;
/// Words for every account or slot that may change, at most.
pub(super) const WORDS_A_CHANGE: usize = 4;
/// Words shorter than this are written as numbers, others as addresses.
const SHORT: usize = 12;

/// Words in order: addresses, then numbers, each ascending. A word is named by its position.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) addresses: Vec<Address>,
    numbers: Vec<U256>,
}

impl Words {
    /// `None` if a word is longer than an address.
    pub(super) fn address(word: U256) -> Option<Address> {
        (word.byte_len() <= Address::len_bytes()).then(|| Address::from_word(word.into()))
    }

    /// Of accounts, and of other words, none of which is longer than an address.
    pub(super) fn new(
        accounts: impl IntoIterator<Item = Address>,
        others: impl IntoIterator<Item = U256>,
    ) -> Self {
        let mut words = Self { addresses: accounts.into_iter().collect(), numbers: Vec::new() };
        for word in others {
            match Self::address(word) {
                Some(address) if word.byte_len() > SHORT => words.addresses.push(address),
                _ => words.numbers.push(word),
            }
        }
        words.addresses.sort_unstable();
        words.addresses.dedup();
        let addresses = &words.addresses;
        let is_known = |word: &U256| {
            Self::address(*word).is_some_and(|word| addresses.binary_search(&word).is_ok())
        };
        words.numbers.retain(|word| !is_known(word));
        words.numbers.sort_unstable();
        words.numbers.dedup();
        words
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.addresses.len() + self.numbers.len()
    }

    /// Where a word is.
    pub(super) fn position(&self, word: U256) -> Option<u64> {
        let number = || {
            let at = self.numbers.binary_search(&word).ok()?;
            Some((self.addresses.len() + at) as u64)
        };
        let address = || self.addresses.binary_search(&Self::address(word)?).ok();
        address().map(|at| at as u64).or_else(number)
    }

    /// The word at a position.
    pub(super) fn word(&self, position: u64) -> Option<U256> {
        let position = usize::try_from(position).ok()?;
        match self.addresses.get(position) {
            Some(address) => Some(address.into_word().into()),
            None => self.numbers.get(position - self.addresses.len()).copied(),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.addresses.len() as u64);
        let mut before = 0;
        for address in &self.addresses {
            let head = head(address);
            put_varint(out, head - before);
            before = head;
        }
        for address in &self.addresses {
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
        reader.column(BatchColumn::Words);
        let limit = limits.max_changes.saturating_mul(WORDS_A_CHANGE);
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
        let mut addresses: Vec<Address> = Vec::with_capacity(count);
        for head in heads {
            let mut address = Address::ZERO;
            address[..STEPPED].copy_from_slice(&head.to_be_bytes());
            address[STEPPED..].copy_from_slice(reader.take(Address::len_bytes() - STEPPED)?);
            if addresses.last().is_some_and(|last| *last >= address) {
                return Err(reader.invalid("addresses that do not ascend"));
            }
            addresses.push(address);
        }
        let count = within(reader.varint()?, limit - count, "words")?;
        reader.require(count, 1)?;
        let numbers = read_values(reader, BatchColumn::Words, count)?;
        let numbers = ascending(reader, numbers)?;
        Ok(Self { addresses, numbers })
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
