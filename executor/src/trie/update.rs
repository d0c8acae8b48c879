//! The incremental root: walks only the paths that change.

use std::cmp::Ordering;

use alloy::primitives::B256;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, nodes::RlpNode};
use rayon::prelude::*;

use super::{
    build::{build, nibble},
    node::{Branch, Child, Fresh, Node},
    seal::seal,
    source::{NodeSource, TrieError},
};

/// From how many updates on a branch's children are worked on in parallel.
const PARALLEL_UPDATES: usize = 128;

/// A key's new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    /// The 64 nibbles of the hashed key.
    pub(crate) key: Nibbles,
    /// The RLP of the value; `None` removes the key.
    pub(crate) value: Option<Vec<u8>>,
}

/// A stored node that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeChange {
    /// Its path.
    pub(crate) path: Nibbles,
    /// The RLP stored until now.
    pub(crate) before: Option<Vec<u8>>,
    /// The RLP to store; `None` removes the node. Never equal to `before`.
    pub(crate) after: Option<Vec<u8>>,
}

/// What updates do to a trie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrieUpdate {
    /// The new root hash.
    pub(crate) root: B256,
    /// The stored nodes that change; every path at most once, in the order of the store's keys.
    pub(crate) changes: Vec<NodeChange>,
}

/// Applies `updates`, which are sorted by key and hold no key twice.
///
/// The result does not depend on how the work is spread over threads.
pub(crate) fn update<S: NodeSource>(
    source: &S,
    updates: &[Update],
) -> Result<TrieUpdate, S::Error> {
    debug_assert!(updates.is_sorted_by(|a, b| a.key < b.key), "updates are sorted and distinct");
    let path = Nibbles::new();
    let before = source.node(path)?;
    let node = match &before {
        Some(rlp) => Node::decode(&path, rlp)?,
        None => None,
    };
    let mut walk = Walk { source, changes: Vec::new() };
    let node = walk.apply(path, node, updates)?;
    let mut changes = walk.changes;
    let root = seal(node.map(|node| Fresh { node, before: before.clone() }), &mut changes);
    if root.is_none() {
        record(&mut changes, path, before, None);
    }
    changes.sort_unstable_by(|a, b| in_key_order(&a.path, &b.path));
    Ok(TrieUpdate { root: root.unwrap_or(EMPTY_ROOT_HASH), changes })
}

/// A stretch of the work and the changes that it has found.
struct Walk<'a, S> {
    source: &'a S,
    changes: Vec<NodeChange>,
}

/// A node, if there is one, and what is stored for it; `None` if it is part of its parent.
type LoadedNode = (Option<Node>, Option<Vec<u8>>);

/// A branch's child that updates reach.
struct Touched<'a> {
    path: Nibbles,
    nibble: u8,
    node: Option<Node>,
    /// What is stored under `path`.
    before: Option<Vec<u8>>,
    updates: &'a [Update],
}

impl<S: NodeSource> Walk<'_, S> {
    /// Applies updates, all of them below `path`, to the node there. The caller records what becomes of `path` itself.
    fn apply(
        &mut self,
        path: Nibbles,
        node: Option<Node>,
        updates: &[Update],
    ) -> Result<Option<Node>, S::Error> {
        if updates.is_empty() {
            return Ok(node);
        }
        match node {
            None => Ok(build(path, &inserts(updates).collect::<Vec<_>>())),
            Some(Node::Leaf { key, value }) => Ok(apply_to_leaf(path, &key, &value, updates)),
            Some(Node::Extension { key, child }) => {
                self.apply_to_extension(path, key, child, updates)
            }
            Some(Node::Branch(branch)) => self.apply_to_branch(path, branch, updates),
        }
    }

    fn apply_to_extension(
        &mut self,
        path: Nibbles,
        key: Nibbles,
        child: Child,
        updates: &[Update],
    ) -> Result<Option<Node>, S::Error> {
        let end = path.join(&key);
        let kept = inserts(updates).map(|(key, _)| key.common_prefix_length(&end)).min();
        let kept = kept.unwrap_or(end.len());
        let split_path = end.slice(..kept);
        // Removals that leave the extension find nothing.
        let from = updates.partition_point(|update| update.key.slice(..kept) < split_path);
        let to = updates.partition_point(|update| update.key.slice(..kept) <= split_path);
        let updates = &updates[from..to];
        if updates.is_empty() {
            return Ok(Some(Node::Extension { key, child }));
        }
        let prefix = split_path.slice(path.len()..);
        if kept == end.len() {
            let (node, before) = self.open(end, child)?;
            let node = self.apply(end, node, updates)?;
            return Ok(self.prefix(prefix, node, end, before));
        }
        let rest = end.slice(kept + 1..);
        let mut branch = Branch::default();
        branch.children[usize::from(nibble(&end, kept))] = if rest.is_empty() {
            child
        } else {
            Child::new(Node::Extension { key: rest, child }, None)
        };
        let node = self.apply_to_branch(split_path, Box::new(branch), updates)?;
        Ok(self.prefix(prefix, node, split_path, None))
    }

    fn apply_to_branch(
        &mut self,
        path: Nibbles,
        mut branch: Box<Branch>,
        updates: &[Update],
    ) -> Result<Option<Node>, S::Error> {
        let touched = self.touch(path, &mut branch, updates)?;
        let touched = self.apply_to_children(touched, updates.len() >= PARALLEL_UPDATES)?;

        let untouched = branch.children.iter().filter(|child| !child.is_empty()).count();
        let alive = untouched + touched.iter().filter(|child| child.node.is_some()).count();
        let mut only = None;
        for Touched { path, nibble, node, before, .. } in touched {
            match node {
                None => record(&mut self.changes, path, before, None),
                Some(node) if alive == 1 => only = Some((path, nibble, node, before)),
                Some(node) => branch.children[usize::from(nibble)] = Child::new(node, before),
            }
        }
        match (alive, only) {
            (0, _) => Ok(None),
            (1, Some((path, nibble, node, before))) => {
                Ok(self.prefix(Nibbles::from_nibbles([nibble]), Some(node), path, before))
            }
            (1, None) => self.collapse(path, *branch),
            _ => Ok(Some(Node::Branch(branch))),
        }
    }

    /// Takes the children that updates reach out of the branch, and loads them in one go.
    fn touch<'u>(
        &self,
        path: Nibbles,
        branch: &mut Branch,
        updates: &'u [Update],
    ) -> Result<Vec<Touched<'u>>, S::Error> {
        let depth = path.len();
        let mut touched = Vec::with_capacity(16);
        let mut stored = Vec::with_capacity(16);
        for updates in updates.chunk_by(|a, b| nibble(&a.key, depth) == nibble(&b.key, depth)) {
            let nibble = nibble(&updates[0].key, depth);
            let path = updates[0].key.slice(..depth + 1);
            let (node, before) = match std::mem::take(&mut branch.children[usize::from(nibble)]) {
                Child::Stored(child) if child.is_hash() => {
                    stored.push((path, touched.len()));
                    (None, None)
                }
                child => self.open(path, child)?,
            };
            touched.push(Touched { path, nibble, node, before, updates });
        }
        let paths: Vec<_> = stored.iter().map(|(path, _)| *path).collect();
        for ((path, index), rlp) in stored.into_iter().zip(self.source.nodes(&paths)?) {
            let rlp = rlp.ok_or(TrieError::Missing { path })?;
            touched[index].node = Node::decode(&path, &rlp)?;
            touched[index].before = Some(rlp);
        }
        Ok(touched)
    }

    fn apply_to_children<'u>(
        &mut self,
        touched: Vec<Touched<'u>>,
        parallel: bool,
    ) -> Result<Vec<Touched<'u>>, S::Error> {
        let apply = |walk: &mut Walk<'_, S>, mut child: Touched<'u>| {
            child.node = walk.apply(child.path, child.node.take(), child.updates)?;
            Ok(child)
        };
        if !parallel {
            return touched.into_iter().map(|child| apply(self, child)).collect();
        }
        let source = self.source;
        let done = touched.into_par_iter().map(|child| {
            let mut walk = Walk { source, changes: Vec::new() };
            Ok((apply(&mut walk, child)?, walk.changes))
        });
        let done: Vec<_> = done.collect::<Result<_, S::Error>>()?;
        Ok(done
            .into_iter()
            .map(|(child, mut changes)| {
                self.changes.append(&mut changes);
                child
            })
            .collect())
    }

    /// Turns a branch with one child, which no update reached, into what Ethereum's trie has in its place.
    fn collapse(&mut self, path: Nibbles, branch: Branch) -> Result<Option<Node>, S::Error> {
        let Some((nibble, child)) =
            (0u8..).zip(branch.children).find(|(_, child)| !child.is_empty())
        else {
            return Ok(None);
        };
        let mut child_path = path;
        child_path.push(nibble);
        let prefix = Nibbles::from_nibbles([nibble]);
        let Child::Stored(child) = child else {
            let (node, before) = self.open(child_path, child)?;
            return Ok(self.prefix(prefix, node, child_path, before));
        };
        match self.load(child_path, &child)? {
            (Some(Node::Branch(_)), _) => {
                Ok(Some(Node::Extension { key: prefix, child: Child::Stored(child) }))
            }
            (node, before) => Ok(self.prefix(prefix, node, child_path, before)),
        }
    }

    /// Puts `prefix` in front of the node at `path`; `before` is what is stored there.
    fn prefix(
        &mut self,
        prefix: Nibbles,
        node: Option<Node>,
        path: Nibbles,
        before: Option<Vec<u8>>,
    ) -> Option<Node> {
        if prefix.is_empty() {
            return node;
        }
        match node {
            None => {
                record(&mut self.changes, path, before, None);
                None
            }
            Some(branch @ Node::Branch(_)) => {
                Some(Node::Extension { key: prefix, child: Child::new(branch, before) })
            }
            Some(Node::Leaf { key, value }) => {
                record(&mut self.changes, path, before, None);
                Some(Node::Leaf { key: prefix.join(&key), value })
            }
            Some(Node::Extension { key, child }) => {
                record(&mut self.changes, path, before, None);
                Some(Node::Extension { key: prefix.join(&key), child })
            }
        }
    }

    /// The node that `child` stands for, and what is stored under `path`.
    fn open(&self, path: Nibbles, child: Child) -> Result<LoadedNode, S::Error> {
        match child {
            Child::Stored(child) => self.load(path, &child),
            Child::New(fresh) => Ok((Some(fresh.node), fresh.before)),
            Child::Empty | Child::At(_) => Ok((None, None)),
        }
    }

    fn load(&self, path: Nibbles, child: &RlpNode) -> Result<LoadedNode, S::Error> {
        if !child.is_hash() {
            return Ok((Node::decode(&path, child)?, None));
        }
        let rlp = self.source.node(path)?.ok_or(TrieError::Missing { path })?;
        Ok((Node::decode(&path, &rlp)?, Some(rlp)))
    }
}

fn apply_to_leaf(path: Nibbles, key: &Nibbles, value: &[u8], updates: &[Update]) -> Option<Node> {
    let leaf = path.join(key);
    let mut entries: Vec<_> = inserts(updates).collect();
    if updates.binary_search_by(|update| update.key.cmp(&leaf)).is_err() {
        let at = entries.partition_point(|(key, _)| *key < leaf);
        entries.insert(at, (leaf, value));
    }
    build(path, &entries)
}

/// Notes what becomes of a stored node.
pub(super) fn record(
    changes: &mut Vec<NodeChange>,
    path: Nibbles,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
) {
    if before != after {
        changes.push(NodeChange { path, before, after });
    }
}

/// Nodes come behind those below them, as their keys do in the store.
fn in_key_order(a: &Nibbles, b: &Nibbles) -> Ordering {
    let common = a.common_prefix_length(b);
    match (a.len() == common, b.len() == common) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => nibble(a, common).cmp(&nibble(b, common)),
    }
}

fn inserts(updates: &[Update]) -> impl Iterator<Item = (Nibbles, &[u8])> {
    updates.iter().filter_map(|update| Some((update.key, update.value.as_deref()?)))
}
