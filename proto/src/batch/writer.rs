//! Writing integers into columns.

use alloy::primitives::U256;

/// LEB128: seven bits a byte, lowest first, the high bit set on all bytes but the last.
pub(super) fn put_varint(out: &mut Vec<u8>, value: impl Into<u128>) {
    let mut value = value.into();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The length of the big-endian form without leading zeros into one column, the bytes into another.
pub(super) fn put_trimmed(lengths: &mut Vec<u8>, bytes: &mut Vec<u8>, value: &U256) {
    let length = value.byte_len();
    lengths.push(length as u8);
    bytes.extend_from_slice(&value.to_be_bytes::<32>()[32 - length..]);
}

/// `r ‖ s`.
pub(super) fn put_signature(out: &mut Vec<u8>, r: &U256, s: &U256) {
    out.extend_from_slice(&r.to_be_bytes::<32>());
    out.extend_from_slice(&s.to_be_bytes::<32>());
}
