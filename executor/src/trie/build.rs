//! Tries from nothing: the nodes above given leaves.

use alloy::{primitives::B256, rlp};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};

use super::{
    node::{Branch, Child, Fresh, Node},
    seal::seal,
};

/// The node at `path` for `entries`: sorted, all below `path`, no key the beginning of another.
pub(super) fn build(path: Nibbles, entries: &[(Nibbles, &[u8])]) -> Option<Node> {
    let (first, last) = (entries.first()?, entries.last()?);
    let depth = path.len();
    if entries.len() == 1 {
        return Some(Node::Leaf { key: first.0.slice(depth..), value: first.1.to_vec() });
    }
    let split = first.0.common_prefix_length(&last.0);
    let mut branch = Branch::default();
    for group in entries.chunk_by(|a, b| nibble(&a.0, split) == nibble(&b.0, split)) {
        let child_path = group[0].0.slice(..split + 1);
        if let Some(node) = build(child_path, group) {
            branch.children[usize::from(nibble(&group[0].0, split))] = Child::new(node, None);
        }
    }
    let branch = Node::Branch(Box::new(branch));
    Some(if split == depth {
        branch
    } else {
        Node::Extension { key: first.0.slice(depth..split), child: Child::new(branch, None) }
    })
}

/// The root of the trie of a list, whose keys are the RLP of the indexes: a block's transactions or receipts.
pub(crate) fn ordered_root<T: AsRef<[u8]>>(items: &[T]) -> B256 {
    // In the order of the keys: one byte for 1 to 127, then that of 0, which is 128, then longer ones.
    let first = 1..items.len().min(0x80);
    let order = first.chain((!items.is_empty()).then_some(0)).chain(0x80..items.len());
    let key = |index| Nibbles::unpack(rlp::encode_fixed_size(&index));
    let entries: Vec<_> = order.map(|index| (key(index), items[index].as_ref())).collect();
    let root = build(Nibbles::new(), &entries).map(|node| Fresh { node, before: None });
    seal(root, &mut Vec::new()).unwrap_or(EMPTY_ROOT_HASH)
}

pub(super) fn nibble(key: &Nibbles, at: usize) -> u8 {
    key.get_unchecked(at)
}
