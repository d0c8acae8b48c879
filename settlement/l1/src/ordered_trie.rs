//! Proofs of entries of a block's transactions and receipts: their tries have the RLP of an entry's position as its key (Yellow Paper, section 4.3.2)

use alloy::{
    primitives::{B256, Bytes},
    rlp,
    trie::{
        HashBuilder, Nibbles,
        proof::{ProofRetainer, ProofVerificationError, verify_proof},
        root::adjust_index_for_rlp,
    },
};

/// The root over entries, each in its EIP-2718 form, and the nodes of the trie that lead from it to one of them. `None` if there is no such entry.
pub fn prove_entry(entries: &[impl AsRef<[u8]>], index: usize) -> Option<(B256, Vec<Bytes>)> {
    entries.get(index)?;
    let mut builder =
        HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key(index)]));
    for position in 0..entries.len() {
        let position = adjust_index_for_rlp(position, entries.len());
        builder.add_leaf(key(position), entries.get(position)?.as_ref());
    }
    let root = builder.root();
    // A node of less than 32 bytes lies inside of its parent, unless it is the root.
    let is_own = |path: &Nibbles, node: &Bytes| path.is_empty() || node.len() >= 32;
    let nodes = builder.take_proof_nodes().into_nodes_sorted().into_iter();
    let nodes = nodes.filter(|(path, node)| is_own(path, node)).map(|(_, node)| node);
    Some((root, nodes.collect()))
}

/// Makes sure that exactly these nodes lead from a root to an entry with these bytes.
///
/// # Errors
/// Where they do not.
pub fn verify_entry(
    root: B256,
    index: u64,
    entry: &[u8],
    nodes: &[Bytes],
) -> Result<(), ProofVerificationError> {
    let key = Nibbles::unpack(rlp::encode(index));
    verify_proof(root, key, Some(entry.to_vec()), nodes)
}

fn key(index: usize) -> Nibbles {
    Nibbles::unpack(rlp::encode_fixed_size(&index))
}

#[cfg(test)]
mod tests {
    use alloy::trie::root::ordered_trie_root_encoded;

    use super::*;

    #[test]
    fn every_entry_is_proved_by_the_root_that_a_header_has() {
        for count in [1, 2, 127, 128, 129, 300] {
            let entries: Vec<Vec<u8>> = (0..count).map(|n| vec![n as u8; 40 + n]).collect();
            let committed = ordered_trie_root_encoded(&entries);
            for index in [0, 1, 126, 127, 128, count - 1].into_iter().filter(|n| *n < count) {
                let (root, nodes) = prove_entry(&entries, index).unwrap();
                assert_eq!(root, committed, "{index} of {count}");
                let verify = |index: usize, entry: &[u8], nodes: &[Bytes]| {
                    verify_entry(root, index as u64, entry, nodes).is_ok()
                };
                assert!(verify(index, &entries[index], &nodes), "{index} of {count}");
                assert!(!verify(index + 1, &entries[index], &nodes));
                assert!(!verify(index, &[1], &nodes));
                assert!(!verify(index, &entries[index], &nodes[1..]));
                assert!(!verify(index, &entries[index], &nodes[..nodes.len() - 1]));
                let more = [&nodes[..], &nodes[..1]].concat();
                assert!(!verify(index, &entries[index], &more));
            }
            assert!(prove_entry(&entries, count).is_none());
        }
    }

    #[test]
    fn entries_of_a_few_bytes_lie_inside_of_their_parents() {
        let entries: Vec<Vec<u8>> = (0..20).map(|n| vec![n]).collect();
        let (root, nodes) = prove_entry(&entries, 7).unwrap();
        assert_eq!(root, ordered_trie_root_encoded(&entries));
        verify_entry(root, 7, &[7], &nodes).unwrap();
    }
}
