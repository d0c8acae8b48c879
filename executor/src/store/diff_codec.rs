//! Values of the tables `diffs` and `node_changes`.

use alloy::primitives::{Address, B256};
use alloy_trie::Nibbles;
use millrace_proto::{AccountDiff, SlotDiff, StateDiff};

use super::{
    codec::{Cursor, DecodeError, put_bytes, put_u256, put_varint},
    keys,
};
use crate::state::{AccountRecord, RootUpdate};

/// A diff without the bytes of new code, which have a table of their own.
///
/// Count of accounts; for each its address, record before and after (each with its length, which is 0 for none), count of
/// slots; for each slot its key, value before and after. Then the count and hashes of new code.
pub(super) fn encode_diff(diff: &StateDiff) -> Vec<u8> {
    let mut out = Vec::new();
    let mut record = Vec::new();
    put_varint(&mut out, diff.accounts.len() as u64);
    for (address, account) in &diff.accounts {
        out.extend_from_slice(address.as_slice());
        for info in [&account.before, &account.after] {
            record.clear();
            if let Some(info) = info {
                AccountRecord::from(*info).encode(&mut record);
            }
            put_bytes(&mut out, &record);
        }
        put_varint(&mut out, account.storage.len() as u64);
        for (slot, SlotDiff { before, after }) in &account.storage {
            out.extend_from_slice(slot.as_slice());
            put_u256(&mut out, before);
            put_u256(&mut out, after);
        }
    }
    put_varint(&mut out, diff.code.len() as u64);
    diff.code.keys().for_each(|hash| out.extend_from_slice(hash.as_slice()));
    out
}

/// The diff, still without code, and the hashes of the code that belongs to it.
pub(super) fn decode_diff(value: &[u8]) -> Result<(StateDiff, Vec<B256>), DecodeError> {
    let mut cursor = Cursor(value);
    let mut diff = StateDiff::default();
    for _ in 0..cursor.count(23)? {
        let address = Address::from(cursor.array()?);
        let mut info = || match cursor.bytes()? {
            [] => Ok(None),
            record => AccountRecord::decode(record).map(|record| Some(record.info)),
        };
        let mut account = AccountDiff { before: info()?, after: info()?, ..Default::default() };
        for _ in 0..cursor.count(34)? {
            let slot = cursor.hash()?;
            let values = SlotDiff { before: cursor.u256()?, after: cursor.u256()? };
            account.storage.insert(slot, values);
        }
        diff.accounts.insert(address, account);
    }
    let code = (0..cursor.count(32)?).map(|_| cursor.hash()).collect::<Result<_, _>>()?;
    cursor.end()?;
    Ok((diff, code))
}

/// The paths whose nodes a block changed: the length and paths of the account trie, then for each storage trie its owner's
/// hashed address, length and paths. Paths are written as in keys.
pub(super) fn encode_node_changes(update: &RootUpdate) -> Vec<u8> {
    let mut out = Vec::new();
    put_paths(&mut out, update.account_nodes.iter().map(|change| &change.path));
    for (owner, changes) in &update.storage_nodes {
        out.extend_from_slice(owner.as_slice());
        put_paths(&mut out, changes.iter().map(|change| &change.path));
    }
    out
}

fn put_paths<'a>(out: &mut Vec<u8>, paths: impl Iterator<Item = &'a Nibbles>) {
    let paths: Vec<u8> = paths.flat_map(|path| keys::node(&[], path)).collect();
    put_bytes(out, &paths);
}

/// Calls `account` with the key of every account trie node that changed, and `storage` with that of every storage trie node.
pub(super) fn for_each_node_change(
    value: &[u8],
    mut account: impl FnMut(&[u8]),
    mut storage: impl FnMut(&[u8]),
) -> Result<(), DecodeError> {
    let mut cursor = Cursor(value);
    let each = |mut paths: &[u8], visit: &mut dyn FnMut(&[u8])| {
        while !paths.is_empty() {
            let (path, rest) = keys::split_path(paths).ok_or(DecodeError("a path does not end"))?;
            visit(path);
            paths = rest;
        }
        Ok(())
    };
    each(cursor.bytes()?, &mut account)?;
    while !cursor.0.is_empty() {
        let owner = cursor.hash()?;
        each(cursor.bytes()?, &mut |path| storage(&[owner.as_slice(), path].concat()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use millrace_proto::AccountInfo;

    use super::*;
    use crate::trie::NodeChange;

    #[test]
    fn diffs_come_back_without_their_code() {
        let rich =
            AccountInfo { balance: U256::MAX, nonce: u64::MAX, code_hash: B256::repeat_byte(3) };
        let slot = |before: u64, after: u64| SlotDiff {
            before: U256::from(before),
            after: U256::from(after),
        };
        let diff = StateDiff {
            accounts: [
                (Address::repeat_byte(1), AccountDiff { after: Some(rich), ..Default::default() }),
                (
                    Address::repeat_byte(2),
                    AccountDiff {
                        before: Some(AccountInfo::default()),
                        after: None,
                        storage: [(B256::repeat_byte(7), slot(1, 0)), (B256::ZERO, slot(0, 300))]
                            .into(),
                    },
                ),
            ]
            .into(),
            code: Default::default(),
        };
        let encoded = encode_diff(&diff);
        assert_eq!(decode_diff(&encoded), Ok((diff, Vec::new())));
        for length in 0..encoded.len() {
            assert!(decode_diff(&encoded[..length]).is_err());
        }
    }

    #[test]
    fn changed_paths_come_back_as_keys() {
        let change = |path: &[u8]| NodeChange {
            path: Nibbles::from_nibbles(path),
            before: None,
            after: Some(vec![1]),
        };
        let owner = B256::repeat_byte(5);
        let update = RootUpdate {
            root: B256::ZERO,
            parent: B256::ZERO,
            accounts: Vec::new(),
            account_nodes: vec![change(&[]), change(&[1, 15])],
            storage_nodes: vec![(owner, vec![change(&[0, 0])])],
        };
        let (mut accounts, mut storage) = (Vec::new(), Vec::new());
        for_each_node_change(
            &encode_node_changes(&update),
            |key| accounts.push(key.to_vec()),
            |key| storage.push(key.to_vec()),
        )
        .expect("it was just encoded");
        assert_eq!(accounts, [vec![0x10], vec![1, 15, 0x10]]);
        assert_eq!(storage, [[owner.as_slice(), &[0, 0, 0x10]].concat()]);
    }
}
