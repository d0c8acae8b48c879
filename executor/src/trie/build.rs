//! A trie from nothing: the nodes above given leaves, or above nodes that are there.

use alloy_trie::Nibbles;

use super::node::{Branch, Child, Node};

/// The node at `path` for `entries`: sorted, all below `path`, no key the beginning of another.
pub(super) fn build(path: Nibbles, entries: &[(Nibbles, &[u8])]) -> Option<Node> {
    let leaf = |key, value: &&[u8]| Child::new(Node::Leaf { key, value: value.to_vec() }, None);
    match build_on(path, entries, &leaf)? {
        Child::New(fresh) => Some(fresh.node),
        Child::Empty | Child::Stored(_) | Child::At(_) => None,
    }
}

/// The same for entries of which `end` makes what lies at their ends, of the nibbles that are left there.
pub(super) fn build_on<T>(
    path: Nibbles,
    entries: &[(Nibbles, T)],
    end: &impl Fn(Nibbles, &T) -> Child,
) -> Option<Child> {
    let (first, last) = (entries.first()?, entries.last()?);
    let depth = path.len();
    if entries.len() == 1 {
        return Some(end(first.0.slice(depth..), &first.1));
    }
    let split = first.0.common_prefix_length(&last.0);
    let mut branch = Branch::default();
    for group in entries.chunk_by(|a, b| nibble(&a.0, split) == nibble(&b.0, split)) {
        let child_path = group[0].0.slice(..split + 1);
        if let Some(child) = build_on(child_path, group, end) {
            branch.children[usize::from(nibble(&group[0].0, split))] = child;
        }
    }
    let branch = Child::new(Node::Branch(Box::new(branch)), None);
    Some(if split == depth {
        branch
    } else {
        Child::new(Node::Extension { key: first.0.slice(depth..split), child: branch }, None)
    })
}

pub(super) fn nibble(key: &Nibbles, at: usize) -> u8 {
    key.get_unchecked(at)
}
