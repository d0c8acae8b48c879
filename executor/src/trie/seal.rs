//! Encoding and hashing what is new in a trie: the deepest nodes first, all of one height together, so that they are hashed in lanes.

use alloy::primitives::{B256, keccak256};
use alloy_trie::{Nibbles, nodes::RlpNode};
use millrace_crypto::keccak256_batch;
use rayon::prelude::*;

use super::{
    node::{Child, Fresh, Node},
    update::{NodeChange, record},
};

/// Nodes that a thread encodes and hashes at once.
const TOGETHER: usize = 128;

/// A node whose children have places before its own.
struct Placed {
    path: Nibbles,
    node: Node,
    before: Option<Vec<u8>>,
}

/// The new nodes of a trie.
#[derive(Default)]
struct Nodes {
    all: Vec<Placed>,
    /// The places of those that are so many nodes above their furthest leaf.
    levels: Vec<Vec<usize>>,
}

/// Encodes and hashes the nodes below `root` that are new, and it; adds what is stored of them. Returns the root hash.
pub(super) fn seal(root: Option<Fresh>, changes: &mut Vec<NodeChange>) -> Option<B256> {
    let mut nodes = Nodes::default();
    let (root, _) = nodes.place(Nibbles::new(), root?);
    let Nodes { all, levels } = nodes;
    let mut rlps: Vec<Vec<u8>> = vec![Vec::new(); all.len()];
    let mut sealed = vec![RlpNode::default(); all.len()];
    for level in levels {
        let done: Vec<_> = if level.len() <= TOGETHER {
            encode(&all, &sealed, &level)
        } else {
            level.par_chunks(TOGETHER).flat_map_iter(|level| encode(&all, &sealed, level)).collect()
        };
        for (place, (rlp, node)) in level.into_iter().zip(done) {
            rlps[place] = rlp;
            sealed[place] = node;
        }
    }
    let mut hash = None;
    for (place, (Placed { path, before, .. }, rlp)) in all.into_iter().zip(rlps).enumerate() {
        let is_root = place == root;
        if is_root {
            // However short it is.
            hash = Some(sealed[place].as_hash().unwrap_or_else(|| keccak256(&rlp)));
        }
        let is_stored = is_root || sealed[place].is_hash();
        record(changes, path, before, is_stored.then_some(rlp));
    }
    hash
}

/// The RLP of nodes, and what their parents hold of them.
fn encode(all: &[Placed], sealed: &[RlpNode], places: &[usize]) -> Vec<(Vec<u8>, RlpNode)> {
    let rlps: Vec<_> = places.iter().map(|place| all[*place].node.encode(sealed)).collect();
    let told = hashed(&rlps);
    rlps.into_iter().zip(told).collect()
}

/// What parents hold of nodes with these encodings: their hashes, or short ones as they are.
pub(super) fn hashed<T: AsRef<[u8]>>(rlps: &[T]) -> Vec<RlpNode> {
    let is_long = |rlp: &&[u8]| rlp.len() >= B256::len_bytes();
    let long: Vec<&[u8]> = rlps.iter().map(AsRef::as_ref).filter(is_long).collect();
    let mut hashes = keccak256_batch(&long).into_iter();
    let told = |rlp: &T| {
        let rlp = rlp.as_ref();
        let hash = is_long(&rlp).then(|| hashes.next()).flatten();
        hash.map_or_else(|| RlpNode::from_rlp(rlp), |hash| RlpNode::word_rlp(&hash))
    };
    rlps.iter().map(told).collect()
}

impl Nodes {
    /// Gives a node and those below it places, children first. Returns its place, and how many nodes it is above its furthest leaf.
    fn place(&mut self, path: Nibbles, fresh: Fresh) -> (usize, usize) {
        let Fresh { mut node, before } = fresh;
        let mut height = 0;
        let mut below = |child: &mut Child, path: Nibbles| match std::mem::take(child) {
            Child::New(fresh) => {
                let (place, above) = self.place(path, *fresh);
                *child = Child::At(place);
                height = height.max(above + 1);
            }
            other => *child = other,
        };
        match &mut node {
            Node::Leaf { .. } => {}
            Node::Extension { key, child } => below(child, path.join(key)),
            Node::Branch(branch) => {
                for (nibble, child) in (0u8..).zip(&mut branch.children) {
                    let mut path = path;
                    path.push(nibble);
                    below(child, path);
                }
            }
        }
        let place = self.all.len();
        self.all.push(Placed { path, node, before });
        if self.levels.len() <= height {
            self.levels.resize_with(height + 1, Vec::new);
        }
        self.levels[height].push(place);
        (place, height)
    }
}
