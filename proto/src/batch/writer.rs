//! Writing integers into columns.

/// LEB128: seven bits a byte, lowest first, the high bit set on all bytes but the last.
pub(super) fn put_varint(out: &mut Vec<u8>, value: impl Into<u128>) {
    let mut value = value.into();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
