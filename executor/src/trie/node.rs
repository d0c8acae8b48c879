//! A trie node as it is worked on.

use alloy::rlp::{Decodable, Encodable};
use alloy_trie::{
    Nibbles, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode},
};

use super::source::TrieError;

/// Nibbles in every full key.
pub(super) const KEY_NIBBLES: usize = 64;

/// A node as it is worked on.
#[derive(Debug)]
pub(super) enum Node {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: RlpNode },
    Branch(Box<Branch>),
}

/// A branch's children, by nibble.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub(super) children: [Child; 16],
}

/// What a branch holds at a nibble.
#[derive(Debug, Default)]
pub(super) enum Child {
    #[default]
    Empty,
    /// As it is in the stored branch: a hash, or the RLP of a node shorter than a hash.
    Stored(RlpNode),
    /// A node that is not encoded yet.
    New(Node),
}

impl Child {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Node {
    /// Decodes the node at `path`, and checks that full keys below it have the right length.
    pub(super) fn decode(path: &Nibbles, rlp: &[u8]) -> Result<Option<Self>, TrieError> {
        let mut rest = rlp;
        let node = TrieNode::decode(&mut rest)
            .map_err(|source| TrieError::Malformed { path: *path, source })?;
        let length = |length: usize, fits: bool| {
            if fits { Ok(()) } else { Err(TrieError::Length { path: *path, length }) }
        };
        Ok(match node {
            TrieNode::EmptyRoot => None,
            TrieNode::Leaf(leaf) => {
                length(leaf.key.len(), path.len() + leaf.key.len() == KEY_NIBBLES)?;
                Some(Self::Leaf { key: leaf.key, value: leaf.value })
            }
            TrieNode::Extension(extension) => {
                let nibbles = extension.key.len();
                length(nibbles, nibbles > 0 && path.len() + nibbles < KEY_NIBBLES)?;
                Some(Self::Extension { key: extension.key, child: extension.child })
            }
            TrieNode::Branch(branch) => {
                length(0, path.len() < KEY_NIBBLES)?;
                let mut children: [Child; 16] = Default::default();
                for (nibble, child) in branch.state_mask.iter().zip(branch.stack) {
                    children[usize::from(nibble)] = Child::Stored(child);
                }
                Some(Self::Branch(Box::new(Branch { children })))
            }
        })
    }

    /// The node's RLP.
    ///
    /// # Panics
    /// If a branch still holds a child that is not encoded.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Leaf { key, value } => LeafNodeRef::new(key, value).encode(&mut out),
            Self::Extension { key, child } => ExtensionNodeRef::new(key, child).encode(&mut out),
            Self::Branch(branch) => {
                let mut mask = TrieMask::default();
                let mut stack = Vec::with_capacity(16);
                for (nibble, child) in (0u8..).zip(&branch.children) {
                    match child {
                        Child::Empty => {}
                        Child::Stored(child) => {
                            mask.set_bit(nibble);
                            stack.push(child.clone());
                        }
                        Child::New(_) => unreachable!("children are encoded before their branch"),
                    }
                }
                BranchNodeRef::new(&stack, mask).encode(&mut out);
            }
        }
        out
    }
}
