//! Calldata, cut into tokens: what the Solidity ABI makes of it is words of 32 bytes, most of them small numbers or addresses.
//!
//! A token's kind says how many bytes of input it stands for, and where they are. Any bytes can be written, as literals if nothing else fits.

use std::iter;

use alloy::primitives::{Address, B256};

use super::{
    addresses::{AddressBook, References},
    error::{BatchColumn as Column, BatchDecodeError},
    limits::{BatchLimits, within},
    numbers::{Decimal, byte_len},
    reader::{Reader, sum},
    writer::put_varint,
};

/// Bytes of an ABI word.
const WORD: usize = 32;
/// Bytes of a function's selector.
const SELECTOR: usize = 4;
/// Zeros after a call in a call, which fill its last word.
const FILL: usize = WORD - SELECTOR;
/// Longest number, in bytes.
const LONGEST_NUMBER: usize = 16;
/// Fewer zeros than this belong to the literal around them.
const ZERO_RUN: usize = 3;
/// What a run of zeros with the literal after it costs, in bytes, when it is decided between runs and words.
const RUN_COST: usize = 4;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A word of zeros.
    ZeroWord,
    /// A word that is a number of so many bytes, 1 to 16.
    Number(u8),
    /// A word that begins with so many bytes, 1 to 30, and is zero after them.
    Padded(u8),
    /// A word that is an address.
    Address,
    /// Any other word.
    Word,
    /// A word of ones.
    Ones,
    /// Four bytes: a function's selector.
    Selector,
    /// 28 zeros.
    Fill,
    /// Zeros.
    Zeros,
    /// Bytes as they are.
    Literal,
    /// No bytes: the input's end.
    End,
    /// A word that is a number with so many zeros at the end of its decimal form.
    Decimal(u8),
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::ZeroWord => 0,
            Self::Number(length) => length,
            Self::Padded(length) => 0x20 + length,
            Self::Address => 0x40,
            Self::Word => 0x41,
            Self::Ones => 0x42,
            Self::Selector => 0x43,
            Self::Fill => 0x44,
            Self::Zeros => 0x45,
            Self::Literal => 0x46,
            Self::End => 0x47,
            Self::Decimal(exponent) => 0x80 + exponent,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::ZeroWord,
            1..=0x10 => Self::Number(code),
            0x21..=0x3e => Self::Padded(code - 0x20),
            0x40 => Self::Address,
            0x41 => Self::Word,
            0x42 => Self::Ones,
            0x43 => Self::Selector,
            0x44 => Self::Fill,
            0x45 => Self::Zeros,
            0x46 => Self::Literal,
            0x47 => Self::End,
            0x81..=0xa6 => Self::Decimal(code - 0x80),
            _ => return None,
        })
    }

    const fn is_word(self) -> bool {
        !matches!(self, Self::Selector | Self::Fill | Self::Zeros | Self::Literal | Self::End)
    }
}

/// The columns of inputs, and of the access lists' keys, which are words.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    kinds: Vec<u8>,
    selectors: Vec<u8>,
    zero_lengths: Vec<u8>,
    literal_lengths: Vec<u8>,
    short_numbers: Vec<u8>,
    mantissa_lengths: Vec<u8>,
    mantissas: Vec<u8>,
    numbers: Vec<u8>,
    literals: [Vec<u8>; 3],
    padded: Vec<u8>,
    words: Vec<u8>,
    addresses: Vec<u8>,
}

impl Inputs {
    /// The input of a transaction.
    pub(super) fn push(&mut self, input: &[u8], creates: bool, book: &mut AddressBook) {
        match input.split_first_chunk::<SELECTOR>() {
            Some((selector, arguments)) if !creates => {
                self.push_selector(selector);
                if runs_are_shorter(arguments) {
                    self.push_runs(arguments);
                } else {
                    self.push_words(arguments, book);
                }
            }
            _ => self.push_literal(input),
        }
        self.push_kind(Kind::End);
    }

    /// A key of an access list. All of them come after all inputs.
    pub(super) fn push_key(&mut self, key: &B256, book: &mut AddressBook) {
        self.push_word(key, book);
    }

    fn push_kind(&mut self, kind: Kind) {
        self.kinds.push(kind.code());
    }

    fn push_selector(&mut self, selector: &[u8; SELECTOR]) {
        self.push_kind(Kind::Selector);
        self.selectors.extend_from_slice(selector);
    }

    fn push_literal(&mut self, literal: &[u8]) {
        if !literal.is_empty() {
            self.push_kind(Kind::Literal);
            put_varint(&mut self.literal_lengths, literal.len() as u64);
            self.literals[literal_size(literal.len())].extend_from_slice(literal);
        }
    }

    fn push_runs(&mut self, bytes: &[u8]) {
        for (zeros, literal) in runs(bytes) {
            if zeros > 0 {
                self.push_kind(Kind::Zeros);
                put_varint(&mut self.zero_lengths, zeros as u64);
            }
            self.push_literal(literal);
        }
    }

    fn push_words(&mut self, mut arguments: &[u8], book: &mut AddressBook) {
        while let Some((word, after)) = arguments.split_first_chunk::<WORD>() {
            self.push_word(&B256::from(*word), book);
            arguments = after;
            if let Some((call, after)) = nested_call(word, arguments) {
                if let Some((selector, words)) = call.split_first_chunk::<SELECTOR>() {
                    self.push_selector(selector);
                    for word in words.chunks_exact(WORD) {
                        self.push_word(&B256::from_slice(word), book);
                    }
                }
                self.push_kind(Kind::Fill);
                arguments = after;
            }
        }
        self.push_literal(arguments);
    }

    fn push_word(&mut self, word: &B256, book: &mut AddressBook) {
        match significant(word.as_slice()) {
            0 => self.push_kind(Kind::ZeroWord),
            length @ 1..=LONGEST_NUMBER => {
                let bytes = &word[WORD - length..];
                let mut number = [0; 16];
                number[16 - length..].copy_from_slice(bytes);
                if let Some(Decimal { mantissa, exponent }) =
                    Decimal::of(u128::from_be_bytes(number))
                {
                    let length = byte_len(mantissa);
                    self.push_kind(Kind::Decimal(exponent));
                    self.mantissa_lengths.push(length as u8);
                    self.mantissas.extend_from_slice(&mantissa.to_be_bytes()[16 - length..]);
                } else {
                    self.push_kind(Kind::Number(length as u8));
                    let column =
                        if length <= 2 { &mut self.short_numbers } else { &mut self.numbers };
                    column.extend_from_slice(bytes);
                }
            }
            17..=20 => {
                self.push_kind(Kind::Address);
                book.refer(&mut self.addresses, Some(Address::from_word(*word)));
            }
            _ => {
                let length = padded(word.as_slice());
                if length <= 30 {
                    self.push_kind(Kind::Padded(length as u8));
                    self.padded.extend_from_slice(&word[..length]);
                } else if *word == B256::repeat_byte(0xff) {
                    self.push_kind(Kind::Ones);
                } else {
                    self.push_kind(Kind::Word);
                    self.words.extend_from_slice(word.as_slice());
                }
            }
        }
    }

    pub(super) fn columns(&self) -> [&[u8]; 14] {
        let [short_literals, middle_literals, long_literals] = &self.literals;
        [
            &self.kinds,
            &self.selectors,
            &self.zero_lengths,
            &self.literal_lengths,
            &self.short_numbers,
            &self.mantissa_lengths,
            &self.mantissas,
            &self.numbers,
            short_literals,
            middle_literals,
            &self.padded,
            long_literals,
            &self.words,
            &self.addresses,
        ]
    }
}

/// Which column holds a literal of this length.
const fn literal_size(length: usize) -> usize {
    match length {
        ..=2 => 0,
        3..=16 => 1,
        _ => 2,
    }
}

/// Bytes from the first that is not zero on.
fn significant(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().take_while(|byte| **byte == 0).count()
}

/// Bytes to the last that is not zero.
fn padded(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

/// A call that is an argument of another, and what follows it: `length` is the word in front of it.
fn nested_call<'a>(length: &[u8; WORD], after: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (zeros, length) = length.split_last_chunk::<8>()?;
    if significant(zeros) > 0 {
        return None;
    }
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    if length % WORD != SELECTOR || length > after.len() {
        return None;
    }
    let (call, after) = after.split_at(length);
    let (fill, after) = after.split_first_chunk::<FILL>()?;
    (significant(fill) == 0).then_some((call, after))
}

/// Runs of zeros, each with the bytes up to the next one.
fn runs(mut bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let zeros = bytes.len() - significant(bytes);
        let after = &bytes[zeros..];
        let end = after.windows(ZERO_RUN).position(|window| significant(window) == 0);
        let (literal, next) = after.split_at(end.unwrap_or_else(|| padded(after)));
        bytes = next;
        Some((zeros, literal))
    })
}

/// Whether the bytes are better cut at their zeros than into words.
fn runs_are_shorter(bytes: &[u8]) -> bool {
    let words: usize = bytes.chunks(WORD).map(|word| 1 + significant(word).min(padded(word))).sum();
    let runs: usize = runs(bytes).map(|(_, literal)| RUN_COST + literal.len()).sum();
    runs < words
}

/// Inputs and keys that were read, but for the addresses that they name.
#[derive(Debug)]
pub(super) struct ReadInputs<'a> {
    kinds: Vec<Kind>,
    selectors: Reader<'a>,
    zero_lengths: std::vec::IntoIter<usize>,
    literal_lengths: std::vec::IntoIter<usize>,
    short_numbers: Reader<'a>,
    mantissa_lengths: &'a [u8],
    mantissas: Reader<'a>,
    numbers: Reader<'a>,
    literals: [Reader<'a>; 3],
    padded: Reader<'a>,
    words: Reader<'a>,
    addresses: std::vec::IntoIter<usize>,
}

impl<'a> ReadInputs<'a> {
    /// Reads the columns of so many inputs and keys.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        references: &mut References,
        inputs: usize,
        keys: usize,
        limits: &BatchLimits,
    ) -> Result<Self, BatchDecodeError> {
        reader.column(Column::InputTokens);
        let kinds = read_kinds(reader, inputs, keys)?;
        let count = |wanted: fn(Kind) -> bool| kinds.iter().filter(|kind| wanted(**kind)).count();
        let bytes =
            |length: fn(Kind) -> u8| kinds.iter().map(|kind| usize::from(length(*kind))).sum();
        let part = |reader: &mut Reader<'a>, column, size| {
            reader.column(column);
            reader.take(size).map(|bytes| Reader::new(bytes, column))
        };

        let selectors = SELECTOR * count(|kind| kind == Kind::Selector);
        let selectors = part(reader, Column::Selectors, selectors)?;
        reader.column(Column::ZeroLengths);
        let zero_lengths = reader.many(count(|kind| kind == Kind::Zeros), Reader::count)?;
        reader.column(Column::LiteralLengths);
        let literal_lengths = reader.many(count(|kind| kind == Kind::Literal), Reader::count)?;
        let length = kinds.iter().map(|kind| match kind {
            Kind::Selector => SELECTOR,
            Kind::Fill => FILL,
            Kind::Zeros | Kind::Literal | Kind::End => 0,
            _ => WORD,
        });
        let length = length.fold(sum(&zero_lengths), usize::saturating_add);
        let length = length.saturating_add(sum(&literal_lengths));
        within(length as u64, limits.max_decoded, "bytes of inputs and keys")?;

        let short_numbers = bytes(|kind| match kind {
            Kind::Number(length @ ..=2) => length,
            _ => 0,
        });
        let short_numbers = part(reader, Column::InputNumbers, short_numbers)?;
        let mantissa_lengths = reader.take(count(|kind| matches!(kind, Kind::Decimal(_))))?;
        if mantissa_lengths
            .iter()
            .any(|length| !(1..=LONGEST_NUMBER).contains(&usize::from(*length)))
        {
            return Err(reader.invalid("a mantissa of this length"));
        }
        let mantissas = mantissa_lengths.iter().map(|length| usize::from(*length)).sum();
        let mantissas = part(reader, Column::InputNumbers, mantissas)?;
        let numbers = bytes(|kind| match kind {
            Kind::Number(length @ 3..) => length,
            _ => 0,
        });
        let numbers = part(reader, Column::InputNumbers, numbers)?;
        let literals = [0, 1, 2].map(|size| {
            literal_lengths.iter().filter(|length| literal_size(**length) == size).sum::<usize>()
        });
        let short_literals = part(reader, Column::Literals, literals[0])?;
        let middle_literals = part(reader, Column::Literals, literals[1])?;
        let padded = bytes(|kind| match kind {
            Kind::Padded(length) => length,
            _ => 0,
        });
        let padded = part(reader, Column::InputWords, padded)?;
        let long_literals = part(reader, Column::Literals, literals[2])?;
        let words = WORD * count(|kind| kind == Kind::Word);
        let words = part(reader, Column::InputWords, words)?;
        reader.column(Column::InputAddresses);
        let addresses = reader
            .many(count(|kind| kind == Kind::Address), |reader| references.read(reader))?
            .into_iter();
        Ok(Self {
            kinds,
            selectors,
            zero_lengths: zero_lengths.into_iter(),
            literal_lengths: literal_lengths.into_iter(),
            short_numbers,
            mantissa_lengths,
            mantissas,
            numbers,
            literals: [short_literals, middle_literals, long_literals],
            padded,
            words,
            addresses,
        })
    }

    /// Puts the inputs together, and the keys.
    pub(super) fn join(
        mut self,
        addresses: &[Address],
    ) -> Result<(Vec<Vec<u8>>, Vec<B256>), BatchDecodeError> {
        let (mut inputs, mut input, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let kinds = std::mem::take(&mut self.kinds);
        let ends = kinds.iter().rposition(|kind| *kind == Kind::End).map_or(0, |last| last + 1);
        for kind in &kinds[..ends] {
            match kind {
                Kind::Selector => input.extend_from_slice(self.selectors.take(SELECTOR)?),
                Kind::Fill => input.resize(input.len() + FILL, 0),
                Kind::Zeros => {
                    let length = self.zero_lengths.next().unwrap_or_default();
                    input.resize(input.len() + length, 0);
                }
                Kind::Literal => {
                    let length = self.literal_lengths.next().unwrap_or_default();
                    input.extend_from_slice(self.literals[literal_size(length)].take(length)?);
                }
                Kind::End => inputs.push(std::mem::take(&mut input)),
                word => input.extend_from_slice(self.word(*word, addresses)?.as_slice()),
            }
        }
        for kind in &kinds[ends..] {
            keys.push(self.word(*kind, addresses)?);
        }
        Ok((inputs, keys))
    }

    /// The word that a token stands for; zeros for the kinds that are none.
    fn word(&mut self, kind: Kind, addresses: &[Address]) -> Result<B256, BatchDecodeError> {
        let mut word = B256::ZERO;
        match kind {
            Kind::Number(length) => {
                let length = usize::from(length);
                let numbers = if length <= 2 { &mut self.short_numbers } else { &mut self.numbers };
                word[WORD - length..].copy_from_slice(numbers.take(length)?);
            }
            Kind::Decimal(exponent) => {
                let (length, rest) = self.mantissa_lengths.split_first().unwrap_or((&0, &[]));
                self.mantissa_lengths = rest;
                let length = usize::from(*length);
                let mut bytes = [0; 16];
                bytes[16 - length..].copy_from_slice(self.mantissas.take(length)?);
                let decimal = Decimal { mantissa: u128::from_be_bytes(bytes), exponent };
                let value =
                    decimal.value().ok_or_else(|| self.mantissas.invalid("over 128 bits"))?;
                word[16..].copy_from_slice(&value.to_be_bytes());
            }
            Kind::Padded(length) => {
                let length = usize::from(length);
                word[..length].copy_from_slice(self.padded.take(length)?);
            }
            Kind::Address => {
                let position = self.addresses.next().and_then(|position| addresses.get(position));
                word = position.copied().unwrap_or_default().into_word();
            }
            Kind::Word => word = self.words.hash()?,
            Kind::Ones => word = B256::repeat_byte(0xff),
            _ => {}
        }
        Ok(word)
    }
}

/// As many kinds as so many inputs and keys have.
fn read_kinds(
    reader: &mut Reader<'_>,
    inputs: usize,
    keys: usize,
) -> Result<Vec<Kind>, BatchDecodeError> {
    reader.require(inputs.saturating_add(keys), 1)?;
    let mut kinds = Vec::new();
    let (mut ended, mut keys_read) = (0, 0);
    while ended < inputs || keys_read < keys {
        let kind = Kind::of(reader.byte()?).ok_or_else(|| reader.invalid("unknown kind"))?;
        if ended == inputs {
            if !kind.is_word() {
                return Err(reader.invalid("a key that is no word"));
            }
            keys_read += 1;
        } else if kind == Kind::End {
            ended += 1;
        }
        kinds.push(kind);
    }
    Ok(kinds)
}
