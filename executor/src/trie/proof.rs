//! Merkle proofs.

use alloy::primitives::{B256, Bytes};
use alloy_trie::{Nibbles, nodes::RlpNode};

use super::{
    node::{Child, Node},
    source::{NodeSource, TrieError},
};

/// What a trie says about a key, and the nodes that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The RLP of the nodes on the key's path, root first, without those that lie inside their parent. Empty for an empty
    /// trie.
    pub(crate) nodes: Vec<Bytes>,
    /// The value, or `None` if the key is absent, which the nodes then show.
    pub(crate) value: Option<Vec<u8>>,
}

/// Proves the presence or absence of a key.
pub(crate) fn prove<S: NodeSource>(source: &S, key: B256) -> Result<Proof, S::Error> {
    let key = Nibbles::unpack(key);
    let mut nodes = Vec::new();
    let mut path = Nibbles::new();
    let Some(root) = source.node(path)? else { return Ok(Proof { nodes, value: None }) };
    let mut node = Node::decode(&path, &root)?;
    nodes.push(root.into());
    loop {
        let rest = key.slice(path.len()..);
        let child: RlpNode = match node {
            None => return Ok(Proof { nodes, value: None }),
            Some(Node::Leaf { key, value }) => {
                return Ok(Proof { nodes, value: (key == rest).then_some(value) });
            }
            Some(Node::Extension { key, child }) => {
                if !rest.starts_with(&key) {
                    return Ok(Proof { nodes, value: None });
                }
                path = path.join(&key);
                match child {
                    Child::Stored(child) => child,
                    _ => return Ok(Proof { nodes, value: None }),
                }
            }
            Some(Node::Branch(mut branch)) => {
                let nibble = rest.get_unchecked(0);
                path.push(nibble);
                match std::mem::take(&mut branch.children[usize::from(nibble)]) {
                    Child::Stored(child) => child,
                    _ => return Ok(Proof { nodes, value: None }),
                }
            }
        };
        node = if child.is_hash() {
            let rlp = source.node(path)?.ok_or(TrieError::Missing { path })?;
            let node = Node::decode(&path, &rlp)?;
            nodes.push(rlp.into());
            node
        } else {
            Node::decode(&path, &child)?
        };
    }
}
