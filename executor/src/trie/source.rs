//! Where nodes come from.

use alloy::rlp;
use alloy_trie::Nibbles;

/// Stored nodes of one trie, by path.
pub(crate) trait NodeSource: Sync {
    /// Why nodes cannot be had.
    type Error: From<TrieError> + Send;

    /// The RLP of the nodes at `paths` (which are sorted), in the same order; `None` where no node is stored.
    fn nodes(&self, paths: &[Nibbles]) -> Result<Vec<Option<Vec<u8>>>, Self::Error>;

    /// The RLP of the node at `path`.
    fn node(&self, path: Nibbles) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.nodes(&[path])?.pop().flatten())
    }
}

/// Stored nodes that do not form a trie.
#[derive(Debug, thiserror::Error)]
pub enum TrieError {
    /// A node refers to another that is not there.
    #[error("trie node at path {path:?} is missing")]
    Missing {
        /// Its path.
        path: Nibbles,
    },
    /// Bytes that are not a node.
    #[error("trie node at path {path:?} is malformed: {source}")]
    Malformed {
        /// Its path.
        path: Nibbles,
        /// What the decoder said.
        #[source]
        source: rlp::Error,
    },
    /// A node whose path and key together have the wrong length.
    #[error("trie node at path {path:?} has a key of {length} nibbles")]
    Length {
        /// Its path.
        path: Nibbles,
        /// Nibbles in its own key.
        length: usize,
    },
}
