//! The trie of a list, whose keys are the RLP of the indexes: a block's transactions or receipts. It is hashed while the list grows.

use alloy::{
    primitives::B256,
    rlp::{self, Encodable},
};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNodeRef, LeafNodeRef, RlpNode},
};
use rayon::prelude::*;

use super::{
    build::build_on,
    node::{Child, Node},
    seal::{hashed, seal},
};

/// Items whose keys differ in the last byte only, from this many on: once all are there, all that lies below one node, a branch.
const GROUP: usize = 256;

/// What is hashed of a list's trie: the nodes above complete groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct OrderedTrie {
    /// Of the items from [`GROUP`] on.
    groups: Vec<RlpNode>,
}

/// What lies at the end of a key.
enum End<'a, T> {
    Item(T),
    Group(&'a RlpNode),
}

impl OrderedTrie {
    /// Items that are hashed, beside the first [`GROUP`], which are not.
    fn len(&self) -> usize {
        (1 + self.groups.len()) * GROUP
    }

    /// Hashes the groups that have become complete, now that the list has so many items.
    pub(crate) fn grow<T: AsRef<[u8]>>(&mut self, items: usize, item: impl Fn(usize) -> T) {
        while self.len() + GROUP <= items {
            let first = self.len();
            self.groups.push(group((first..first + GROUP).map(&item)));
        }
    }

    /// The root of the whole list, of so many items.
    pub(crate) fn root<T: AsRef<[u8]>>(
        mut self,
        items: usize,
        item: impl Fn(usize) -> T + Sync,
    ) -> B256 {
        let complete = (self.len() / GROUP..items / GROUP).into_par_iter();
        let complete = complete.map(|at| group((at * GROUP..(at + 1) * GROUP).map(&item)));
        let complete: Vec<_> = complete.collect();
        self.groups.extend(complete);

        let item = |index: usize| (key(index), End::Item(item(index)));
        // In the order of the keys: one byte for 1 to 127, then that of 0, which is 128, then longer ones.
        let first = (1..items.min(0x80)).chain((items > 0).then_some(0));
        let first = first.chain(0x80..items.min(GROUP));
        let groups = (GROUP..).step_by(GROUP).zip(&self.groups).map(|(first, group)| {
            let key = key(first);
            (key.slice(..key.len() - 2), End::Group(group))
        });
        let last = (self.len()..items).map(item);
        let entries: Vec<_> = first.map(item).chain(groups).chain(last).collect();
        match build_on(Nibbles::new(), &entries, &end) {
            Some(Child::New(root)) => seal(Some(*root), &mut Vec::new()).unwrap_or(EMPTY_ROOT_HASH),
            _ => EMPTY_ROOT_HASH,
        }
    }
}

fn key(index: usize) -> Nibbles {
    Nibbles::unpack(rlp::encode_fixed_size(&index))
}

fn end<T: AsRef<[u8]>>(key: Nibbles, end: &End<'_, T>) -> Child {
    match end {
        End::Item(item) => Child::new(Node::Leaf { key, value: item.as_ref().to_vec() }, None),
        End::Group(group) if key.is_empty() => Child::Stored((*group).clone()),
        End::Group(group) => {
            Child::new(Node::Extension { key, child: Child::Stored((*group).clone()) }, None)
        }
    }
}

/// What a parent holds of the branch above the items of a complete group: two levels of branches above leaves that have no nibble left.
fn group<T: AsRef<[u8]>>(items: impl Iterator<Item = T>) -> RlpNode {
    let (mut rlps, mut ends) = (Vec::new(), vec![0]);
    for item in items {
        LeafNodeRef::new(&Nibbles::new(), item.as_ref()).encode(&mut rlps);
        ends.push(rlps.len());
    }
    let nodes = told(&rlps, &ends);
    let nodes = told_of_branches(&nodes);
    told_of_branches(&nodes).pop().unwrap_or_default()
}

/// What parents hold of branches above so many nodes, sixteen each.
fn told_of_branches(nodes: &[RlpNode]) -> Vec<RlpNode> {
    let (mut rlps, mut ends) = (Vec::new(), vec![0]);
    for children in nodes.chunks(16) {
        BranchNodeRef::new(children, TrieMask::new(u16::MAX)).encode(&mut rlps);
        ends.push(rlps.len());
    }
    told(&rlps, &ends)
}

fn told(rlps: &[u8], ends: &[usize]) -> Vec<RlpNode> {
    hashed(&ends.windows(2).map(|ends| &rlps[ends[0]..ends[1]]).collect::<Vec<_>>())
}
