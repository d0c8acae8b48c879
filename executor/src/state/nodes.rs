//! The stored nodes of the state's tries.

use alloy::primitives::B256;
use alloy_trie::Nibbles;

use crate::{
    store::{StoreError, db::Reader, keys, table::Table},
    trie::NodeSource,
};

/// The nodes of one trie.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    reader: Reader<'a>,
    table: Table,
    /// The hashed address for a storage trie.
    owner: Option<B256>,
    /// An earlier block than the one that `reader` sees.
    at: Option<u64>,
}

impl<'a> Nodes<'a> {
    /// The account trie.
    pub(crate) const fn accounts(reader: Reader<'a>) -> Self {
        Self { reader, table: Table::AccountNodes, owner: None, at: None }
    }

    /// An account's storage trie.
    pub(crate) const fn storage(reader: Reader<'a>, owner: B256) -> Self {
        Self { reader, table: Table::StorageNodes, owner: Some(owner), at: None }
    }

    /// The same trie in an earlier block.
    pub(crate) const fn at(self, number: Option<u64>) -> Self {
        Self { at: number, ..self }
    }
}

impl NodeSource for Nodes<'_> {
    type Error = StoreError;

    fn nodes(&self, paths: &[Nibbles]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let owner = self.owner.as_ref().map_or(&[][..], |owner| owner.as_slice());
        let keys: Vec<_> = paths.iter().map(|path| keys::node(owner, path)).collect();
        match self.at {
            Some(number) => {
                keys.iter().map(|key| self.reader.get_at(self.table, key, number)).collect()
            }
            None => {
                let nodes = self.reader.get_sorted(self.table, &keys)?;
                Ok(nodes.into_iter().map(|node| node.map(|node| node.to_vec())).collect())
            }
        }
    }
}
