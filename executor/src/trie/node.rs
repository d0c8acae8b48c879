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
    Extension { key: Nibbles, child: Child },
    Branch(Box<Branch>),
}

/// A branch's children, by nibble.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub(super) children: [Child; 16],
}

/// What a branch holds at a nibble, or an extension leads to.
#[derive(Debug, Default)]
pub(super) enum Child {
    #[default]
    Empty,
    /// As it is in the stored node: a hash, or the RLP of a node shorter than a hash.
    Stored(RlpNode),
    /// A node that is not encoded yet.
    New(Box<Fresh>),
    /// The same, by its place among all of them.
    At(usize),
}

/// A node that is not encoded yet, and what is stored under its path.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) node: Node,
    pub(super) before: Option<Vec<u8>>,
}

impl Child {
    pub(super) fn new(node: Node, before: Option<Vec<u8>>) -> Self {
        Self::New(Box::new(Fresh { node, before }))
    }

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
                let child = Child::Stored(extension.child);
                Some(Self::Extension { key: extension.key, child })
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

    /// The node's RLP. `sealed`: what parents hold of the nodes that were encoded before it, by their place.
    ///
    /// # Panics
    /// If a child has no place, or is not among those.
    pub(super) fn encode(&self, sealed: &[RlpNode]) -> Vec<u8> {
        let told = |child: &Child| match child {
            Child::Empty => None,
            Child::Stored(child) => Some(child.clone()),
            Child::At(place) => Some(sealed[*place].clone()),
            Child::New(_) => unreachable!("children are given places before their parent"),
        };
        let mut out = Vec::new();
        match self {
            Self::Leaf { key, value } => LeafNodeRef::new(key, value).encode(&mut out),
            Self::Extension { key, child } => {
                let child = told(child).unwrap_or_default();
                ExtensionNodeRef::new(key, &child).encode(&mut out);
            }
            Self::Branch(branch) => {
                let mut mask = TrieMask::default();
                let mut stack = Vec::with_capacity(16);
                for (nibble, child) in (0u8..).zip(&branch.children) {
                    if let Some(child) = told(child) {
                        mask.set_bit(nibble);
                        stack.push(child);
                    }
                }
                BranchNodeRef::new(&stack, mask).encode(&mut out);
            }
        }
        out
    }
}
