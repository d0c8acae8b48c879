use std::collections::BTreeMap;

use alloy::{consensus::proofs::ordered_trie_root_with_encoder, primitives::B256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, proof::verify_proof};
use proptest::prelude::*;

use super::*;

/// A trie in memory that checks what it is told to change.
#[derive(Default, Clone)]
struct Memory {
    nodes: BTreeMap<Nibbles, Vec<u8>>,
}

impl NodeSource for Memory {
    type Error = TrieError;

    fn nodes(&self, paths: &[Nibbles]) -> Result<Vec<Option<Vec<u8>>>, TrieError> {
        assert!(paths.is_sorted(), "asked for in order");
        Ok(paths.iter().map(|path| self.nodes.get(path).cloned()).collect())
    }
}

impl Memory {
    fn apply(&mut self, updates: &BTreeMap<B256, Option<Vec<u8>>>) -> B256 {
        let updates: Vec<_> = updates
            .iter()
            .map(|(key, value)| Update { key: Nibbles::unpack(key), value: value.clone() })
            .collect();
        let TrieUpdate { root, changes } = update(self, &updates).expect("the nodes form a trie");
        for NodeChange { path, before, after } in changes {
            assert_ne!(before, after, "only changes are reported");
            let stored = match after {
                Some(after) => self.nodes.insert(path, after),
                None => self.nodes.remove(&path),
            };
            assert_eq!(stored, before, "the node before at {path:?}");
        }
        root
    }
}

fn reference_root(entries: &BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// The nodes that a trie built at once would store.
fn fresh(entries: &BTreeMap<B256, Vec<u8>>) -> Memory {
    let mut memory = Memory::default();
    memory.apply(&entries.iter().map(|(key, value)| (*key, Some(value.clone()))).collect());
    memory
}

fn check(blocks: &[BTreeMap<B256, Option<Vec<u8>>>]) {
    let mut memory = Memory::default();
    let mut entries = BTreeMap::new();
    for updates in blocks {
        for (key, value) in updates {
            match value {
                Some(value) => entries.insert(*key, value.clone()),
                None => entries.remove(key),
            };
        }
        let root = memory.apply(updates);
        assert_eq!(root, reference_root(&entries));
        assert_eq!(memory.nodes, fresh(&entries).nodes, "no node is left over or missing");
        for key in updates.keys().chain(entries.keys()).take(20) {
            check_proof(&memory, root, *key, entries.get(key));
        }
    }
}

#[test]
fn lists_have_the_roots_that_alloy_finds() {
    let item = |index: usize| vec![index as u8; 1 + index * 7 % 300];
    let lens = [0, 1, 2, 16, 17, 127, 128, 129, 255, 256, 257, 511, 512, 513, 700, 767, 768, 1024];
    for len in lens.into_iter().chain([5000, 65_535, 65_536, 65_792, 66_000]) {
        let items: Vec<_> = (0..len).map(item).collect();
        let expected = ordered_trie_root_with_encoder(&items, |item, out| out.extend(item));
        assert_eq!(
            OrderedTrie::default().root(len, |index| &items[index]),
            expected,
            "{len} items"
        );
        // The same when it grows by a few at a time.
        let mut grown = OrderedTrie::default();
        (0..=len).step_by(101).for_each(|len| grown.grow(len, |index| &items[index]));
        assert_eq!(grown.root(len, |index| &items[index]), expected, "{len} items, grown");
    }
    // Nodes shorter than a hash lie inside their parents.
    let short: Vec<_> = (0..600_u16).map(|index| [(index % 3) as u8]).collect();
    let expected = ordered_trie_root_with_encoder(&short, |item, out| out.extend(item));
    assert_eq!(OrderedTrie::default().root(short.len(), |index| &short[index]), expected);
}

fn check_proof(memory: &Memory, root: B256, key: B256, value: Option<&Vec<u8>>) {
    let proof = prove(memory, key).expect("the nodes form a trie");
    assert_eq!(proof.value.as_ref(), value);
    verify_proof(root, Nibbles::unpack(key), value.cloned(), &proof.nodes)
        .expect("the proof holds");
}

/// Keys that differ in few nibbles, so that branches, extensions and inline nodes form and collapse all the time.
fn crowded_key() -> impl Strategy<Value = B256> {
    let nibble = prop_oneof![Just(0u8), Just(1), Just(15)];
    (nibble.clone(), nibble.clone(), nibble.clone(), nibble).prop_map(
        |(first, middle, late, last)| {
            let mut key = B256::repeat_byte(0x11);
            key[0] = first << 4 | 1;
            key[15] = middle << 4 | middle;
            key[30] = 0x10 | late;
            key[31] = last << 4 | late;
            key
        },
    )
}

fn key() -> impl Strategy<Value = B256> {
    prop_oneof![4 => crowded_key(), 1 => any::<[u8; 32]>().prop_map(B256::from)]
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        2 => Just(None),
        2 => (1u8..0x80).prop_map(|byte| Some(vec![byte])),
        1 => prop::collection::vec(any::<u8>(), 1..70).prop_map(Some),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<BTreeMap<B256, Option<Vec<u8>>>>> {
    prop::collection::vec(prop::collection::btree_map(key(), value(), 0..12), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_updates_gives_the_reference_root_nodes_and_proofs(blocks in blocks()) {
        check(&blocks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn large_updates_in_parallel_give_the_reference_root(
        blocks in prop::collection::vec(
            prop::collection::btree_map(any::<[u8; 32]>().prop_map(B256::from), value(), 500..1500),
            1..4,
        )
    ) {
        let mut removals = blocks.clone();
        removals.iter_mut().flat_map(|updates| updates.values_mut()).for_each(|value| *value = None);
        check(&[blocks, removals].concat());
    }
}

#[test]
fn an_emptied_trie_has_the_empty_root_and_no_nodes() {
    let mut memory = Memory::default();
    let keys: Vec<_> = (0u8..20).map(B256::repeat_byte).collect();
    memory.apply(&keys.iter().map(|key| (*key, Some(vec![1; 40]))).collect());
    let root = memory.apply(&keys.iter().map(|key| (*key, None)).collect());
    assert_eq!(root, EMPTY_ROOT_HASH);
    assert!(memory.nodes.is_empty());
}

#[test]
fn inline_nodes_are_not_stored_by_themselves() {
    let (mut a, mut b) = (B256::repeat_byte(0x22), B256::repeat_byte(0x22));
    a[31] = 0x21;
    b[31] = 0x22;
    let mut memory = Memory::default();
    memory.apply(&[(a, Some(vec![1])), (b, Some(vec![2]))].into());
    // The extension at the root; its branch and the two leaves are shorter than a hash.
    assert_eq!(memory.nodes.keys().collect::<Vec<_>>(), [&Nibbles::new()]);
}

#[test]
fn a_missing_node_is_named() {
    let mut memory = Memory::default();
    let keys: Vec<_> = (0u8..16).map(|nibble| B256::repeat_byte(nibble << 4)).collect();
    memory.apply(&keys.iter().map(|key| (*key, Some(vec![1; 40]))).collect());
    let lost = Nibbles::from_nibbles([3]);
    memory.nodes.remove(&lost).expect("the leaf was stored");
    let updates = [Update { key: Nibbles::unpack(keys[3]), value: None }];
    let error = update(&memory, &updates).expect_err("a node is missing");
    assert!(matches!(error, TrieError::Missing { path } if path == lost), "{error}");
}
