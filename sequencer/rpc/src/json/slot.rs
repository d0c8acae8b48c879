//! The key of a slot, as clients write it.

use std::borrow::Cow;

use alloy::serde::JsonStorageKey;
use serde::{Deserialize, Deserializer, de::Error};

/// The key of a slot: up to 32 bytes, or a number.
#[derive(Debug, Clone)]
pub(crate) struct SlotKey(pub(crate) JsonStorageKey);

impl<'de> Deserialize<'de> for SlotKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        // Zeros in front would be read over.
        if text.strip_prefix("0x").is_some_and(|digits| digits.len() > 64) {
            return Err(D::Error::custom("storage key too long (want at most 32 bytes)"));
        }
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    fn read(text: &str) -> Result<B256, serde_json::Error> {
        let key: Result<SlotKey, _> = serde_json::from_value(text.into());
        key.map(|SlotKey(key)| key.as_b256())
    }

    #[test]
    fn keys_are_numbers_and_words_of_at_most_32_bytes() {
        let zeros = "0".repeat(63);
        for text in ["0x1", "0x01", &format!("0x{zeros}1")] {
            assert_eq!(read(text).ok(), Some(B256::with_last_byte(1)), "{text}");
        }
        for text in [&format!("0x{zeros}01"), "0xasdf", "key"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
