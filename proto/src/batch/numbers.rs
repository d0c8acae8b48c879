//! Columns of numbers, most of which people chose: round ones are held as a decimal mantissa and exponent.

use alloy::primitives::U256;

use super::{
    error::{BatchColumn, BatchDecodeError},
    reader::Reader,
};

/// The code of a number that is the same as another that its column belongs to.
const SAME: u8 = 0xff;
/// Added to the exponent, which is 1 to 38, in the code of a round number. Smaller codes are the length of any other.
const DECIMAL: u8 = 0x40;

/// A number's digits, without zeros that follow from something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) mantissa: u128,
    /// At least 1.
    pub(super) exponent: u8,
}

impl Decimal {
    /// `None` if the mantissa would not be at least two bytes shorter than the number.
    pub(super) fn of(value: u128) -> Option<Self> {
        let decimal = match u64::try_from(value) {
            Ok(value) => {
                let (mut mantissa, mut exponent) = (value, 0);
                while mantissa != 0 && mantissa.is_multiple_of(10) {
                    mantissa /= 10;
                    exponent += 1;
                }
                Self { mantissa: mantissa.into(), exponent }
            }
            Err(_) => {
                let (mut mantissa, mut exponent) = (value, 0);
                while mantissa.is_multiple_of(10) {
                    mantissa /= 10;
                    exponent += 1;
                }
                Self { mantissa, exponent }
            }
        };
        (byte_len(decimal.mantissa) + 1 < byte_len(value)).then_some(decimal)
    }

    /// `None` over 128 bits.
    pub(super) fn value(self) -> Option<u128> {
        self.mantissa.checked_mul(10_u128.checked_pow(self.exponent.into())?)
    }
}

/// Bytes of the big-endian form without leading zeros.
pub(super) const fn byte_len(value: u128) -> usize {
    (u128::BITS - value.leading_zeros()).div_ceil(8) as usize
}

/// A column of numbers: how each is written, and its bytes by their places.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    codes: Vec<u8>,
    mantissa_lengths: Vec<u8>,
    firsts: Vec<u8>,
    seconds: Vec<u8>,
    rests: Vec<u8>,
}

impl Numbers {
    pub(super) fn push(&mut self, value: U256) {
        let decimal = u128::try_from(value).ok().and_then(Decimal::of);
        if let Some(Decimal { mantissa, exponent }) = decimal {
            self.codes.push(DECIMAL + exponent);
            self.mantissa_lengths.push(byte_len(mantissa) as u8);
            self.push_digits(&mantissa.to_be_bytes()[16 - byte_len(mantissa)..]);
        } else {
            let length = value.byte_len();
            self.codes.push(length as u8);
            self.push_digits(&value.to_be_bytes::<32>()[32 - length..]);
        }
    }

    pub(super) fn push_same(&mut self) {
        self.codes.push(SAME);
    }

    fn push_digits(&mut self, digits: &[u8]) {
        if let Some((first, after)) = digits.split_first() {
            self.firsts.push(*first);
            if let Some((second, rest)) = after.split_first() {
                self.seconds.push(*second);
                self.rests.extend_from_slice(rest);
            }
        }
    }

    pub(super) fn columns(&self) -> [&[u8]; 5] {
        [&self.codes, &self.mantissa_lengths, &self.firsts, &self.seconds, &self.rests]
    }
}

/// Reads `count` numbers; `None` are those that are the same as another.
pub(super) fn read_numbers(
    reader: &mut Reader<'_>,
    column: BatchColumn,
    count: usize,
) -> Result<Vec<Option<U256>>, BatchDecodeError> {
    reader.column(column);
    let codes = reader.take(count)?;
    let decimals = codes.iter().filter(|code| exponent(**code).is_some()).count();
    let mut mantissa_lengths = reader.take(decimals)?.iter();
    let lengths = codes
        .iter()
        .map(|code| match *code {
            0..=32 => Ok(usize::from(*code)),
            SAME => Ok(0),
            _ if exponent(*code).is_some() => match mantissa_lengths.next() {
                Some(length @ 1..=16) => Ok(usize::from(*length)),
                _ => Err(reader.invalid("a mantissa of this length")),
            },
            _ => Err(reader.invalid("unknown code")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let longer_than = |least: usize| lengths.iter().filter(|length| **length > least).count();
    let mut firsts = reader.take(longer_than(0))?.iter();
    let mut seconds = reader.take(longer_than(1))?.iter();
    let rests: usize = lengths.iter().map(|length| length.saturating_sub(2)).sum();
    reader.require(rests, 1)?;
    let mut numbers = Vec::with_capacity(count);
    for (code, length) in codes.iter().zip(lengths) {
        let rest = length.saturating_sub(2);
        let mut bytes = [0; 32];
        let digits = &mut bytes[32 - length..];
        if let Some(first) = digits.first_mut() {
            *first = firsts.next().copied().unwrap_or_default();
            if *first == 0 {
                return Err(reader.invalid("a number with leading zeros"));
            }
        }
        if let Some(second) = digits.get_mut(1) {
            *second = seconds.next().copied().unwrap_or_default();
        }
        digits[length - rest..].copy_from_slice(reader.take(rest)?);
        let digits = U256::from_be_bytes(bytes);
        numbers.push(match (*code, exponent(*code)) {
            (SAME, _) => None,
            (_, None) => Some(digits),
            (_, Some(exponent)) => {
                let decimal = Decimal { mantissa: digits.saturating_to(), exponent };
                let value = decimal.value().ok_or_else(|| reader.invalid("over 128 bits"))?;
                Some(U256::from(value))
            }
        });
    }
    Ok(numbers)
}

const fn exponent(code: u8) -> Option<u8> {
    match code {
        0x41..=0x66 => Some(code - DECIMAL),
        _ => None,
    }
}
