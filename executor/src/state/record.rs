//! An account as the store keeps it.

use alloy::primitives::{B256, KECCAK256_EMPTY};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use millrace_proto::AccountInfo;

use crate::store::codec::{Cursor, DecodeError, put_u256, put_varint};

const HAS_CODE: u8 = 1;
const HAS_STORAGE: u8 = 2;

/// An account with the root of its storage trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccountRecord {
    pub(crate) info: AccountInfo,
    pub(crate) storage_root: B256,
}

impl From<AccountInfo> for AccountRecord {
    /// Without storage.
    fn from(info: AccountInfo) -> Self {
        Self { info, storage_root: EMPTY_ROOT_HASH }
    }
}

impl AccountRecord {
    /// Flags (1: code, 2: storage), nonce, balance, then the code hash and the storage root where the flags say so. Never
    /// empty.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let code = self.info.code_hash != KECCAK256_EMPTY;
        let storage = self.storage_root != EMPTY_ROOT_HASH;
        out.push(if code { HAS_CODE } else { 0 } | if storage { HAS_STORAGE } else { 0 });
        put_varint(out, self.info.nonce);
        put_u256(out, &self.info.balance);
        if code {
            out.extend_from_slice(self.info.code_hash.as_slice());
        }
        if storage {
            out.extend_from_slice(self.storage_root.as_slice());
        }
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.encode(&mut out);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor(value);
        let flags = cursor.byte()?;
        if flags & !(HAS_CODE | HAS_STORAGE) != 0 {
            return Err(DecodeError("an account has unknown flags"));
        }
        let nonce = cursor.varint()?;
        let balance = cursor.u256()?;
        let code_hash = if flags & HAS_CODE != 0 { cursor.hash()? } else { KECCAK256_EMPTY };
        let storage_root = if flags & HAS_STORAGE != 0 { cursor.hash()? } else { EMPTY_ROOT_HASH };
        cursor.end()?;
        Ok(Self { info: AccountInfo { balance, nonce, code_hash }, storage_root })
    }

    /// The account as the trie's value.
    pub(crate) const fn to_trie(self) -> TrieAccount {
        let AccountInfo { balance, nonce, code_hash } = self.info;
        TrieAccount::new(nonce, balance, self.storage_root, code_hash)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;

    use super::*;

    #[test]
    fn records_come_back() {
        let plain = AccountInfo { balance: U256::from(300), nonce: 200, ..Default::default() };
        let contract = AccountInfo { code_hash: B256::repeat_byte(1), ..plain };
        for record in [
            AccountRecord::from(AccountInfo::default()),
            AccountRecord::from(plain),
            AccountRecord::from(contract),
            AccountRecord { info: plain, storage_root: B256::repeat_byte(2) },
            AccountRecord { info: contract, storage_root: B256::repeat_byte(2) },
        ] {
            let encoded = record.to_vec();
            assert!(!encoded.is_empty());
            assert_eq!(AccountRecord::decode(&encoded), Ok(record));
            assert!(AccountRecord::decode(&encoded[..encoded.len() - 1]).is_err());
        }
    }

    #[test]
    fn the_encoding_is_frozen() {
        let info = AccountInfo { balance: U256::from(0x0102), nonce: 300, ..Default::default() };
        let record = AccountRecord { info, storage_root: B256::repeat_byte(0xaa) };
        let expected = [&[HAS_STORAGE, 0xac, 0x02, 2, 1, 2][..], &[0xaa; 32]].concat();
        assert_eq!(record.to_vec(), expected);
    }
}
