//! The beginning of an address, by which an account of a state may be named.

use std::fmt;

use alloy::primitives::Address;

/// The first 1 to 64 bits of an address. In a state that has one account whose address begins so, it names that account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPrefix {
    bits: u8,
    /// Below 2^bits.
    value: u64,
}

impl AddressPrefix {
    /// The longest.
    pub const MAX_BITS: u8 = 64;

    /// So many bits, as a big-endian number. `None` if there are none, too many, or the number has more.
    pub const fn new(bits: u8, value: u64) -> Option<Self> {
        if bits == 0 || bits > Self::MAX_BITS || value.unbounded_shr(bits as u32) != 0 {
            return None;
        }
        Some(Self { bits, value })
    }

    /// The first bits of an address: so many, but at least one and at most [`Self::MAX_BITS`].
    pub fn of(address: Address, bits: u8) -> Self {
        let bits = bits.clamp(1, Self::MAX_BITS);
        let mut head = [0; 8];
        head.copy_from_slice(&address[..8]);
        Self { bits, value: u64::from_be_bytes(head) >> (Self::MAX_BITS - bits) }
    }

    /// How many bits it has.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The bits as a big-endian number.
    pub const fn value(self) -> u64 {
        self.value
    }

    /// The lowest address that begins so.
    pub fn first(self) -> Address {
        let mut address = Address::ZERO;
        let head = self.value << (Self::MAX_BITS - self.bits);
        address[..8].copy_from_slice(&head.to_be_bytes());
        address
    }

    /// Whether an address begins so.
    pub fn begins(self, address: Address) -> bool {
        Self::of(address, self.bits) == self
    }

    /// The one of some distinct accounts whose address begins so, if no other's does.
    pub fn only_of<'a>(self, accounts: impl IntoIterator<Item = &'a Address>) -> Option<Address> {
        let mut alike = accounts.into_iter().filter(|account| self.begins(**account));
        alike.next().copied().filter(|_| alike.next().is_none())
    }
}

/// As hex digits, the last of them filled up with zeros, and the number of bits.
impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.bits).div_ceil(4);
        write!(f, "0x{}/{}", &format!("{:x}", self.first())[..digits], self.bits)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;

    #[test]
    fn the_first_bits_are_those_of_the_address() {
        let address = address!("dac17f958d2ee523a2206206994597c13d831ec7");
        let prefix = AddressPrefix::of(address, 10);
        assert_eq!((prefix.bits(), prefix.value()), (10, 0xdac1 >> 6));
        assert_eq!(prefix.to_string(), "0xdac/10");
        assert_eq!(prefix.first(), address!("dac0000000000000000000000000000000000000"));
        assert!(prefix.begins(address) && prefix.begins(prefix.first()));
        assert!(!prefix.begins(address!("dabfffffffffffffffffffffffffffffffffffff")));
        assert!(!prefix.begins(address!("db00000000000000000000000000000000000000")));
        let other = address!("db00000000000000000000000000000000000000");
        assert_eq!(prefix.only_of(&[other, address]), Some(address));
        assert_eq!(prefix.only_of(&[prefix.first(), other, address]), None);
        assert_eq!(prefix.only_of(&[other]), None);
        let longest = AddressPrefix::of(address, 200);
        assert_eq!((longest.bits(), longest.value()), (64, 0xdac1_7f95_8d2e_e523));
        assert_eq!(AddressPrefix::of(address, 0).bits(), 1);
        assert_eq!(AddressPrefix::new(10, 0xdac1 >> 6), Some(prefix));
        assert_eq!(AddressPrefix::new(64, u64::MAX).map(AddressPrefix::value), Some(u64::MAX));
        for (bits, value) in [(0, 0), (65, 0), (3, 8)] {
            assert_eq!(AddressPrefix::new(bits, value), None);
        }
    }
}
