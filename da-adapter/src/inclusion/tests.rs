use std::sync::Arc;

use alloy::{
    consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom},
    eips::{Encodable2718, eip4844::BYTES_PER_BLOB},
    primitives::{Address, B256, Bytes, Log, LogData, U256, keccak256},
    rlp,
    sol_types::SolEvent,
    trie::root::ordered_trie_root_encoded,
};
use millrace_l1::{EventProof, EventProofError, Rollup, blob_versioned_hash, prove_entry};
use millrace_proto::{
    AccountNames, Batch, BatchHeader, DaKind, DiffBatch, ExecutedBlock, KeyHints, StateDiff,
    batch_digest,
};
use proptest::prelude::*;

use super::*;
use crate::{
    blob::pack,
    testing::{CHAIN_ID, Chain, accumulator, noise},
};

const L1_CHAIN: u64 = 31_337;
const ROLLUP: Address = Address::repeat_byte(0x77);

/// An L1 block with some transactions, in whose second one the contract emits an event.
fn event(number: u64, contract: Address, data: LogData) -> EventProof {
    let transactions: Vec<Vec<u8>> =
        (0..3).map(|n| [&[2], &noise(200, number + n)[..]].concat()).collect();
    let receipts: Vec<Vec<u8>> = (0..3_u64)
        .map(|n| {
            let other = Log::new_unchecked(Address::ZERO, vec![B256::ZERO], Bytes::new());
            let logs = match n {
                1 => vec![other, Log { address: contract, data: data.clone() }],
                _ => vec![other],
            };
            let status = Eip658Value::Eip658(true);
            let receipt = Receipt { status, cumulative_gas_used: 21_000 * n, logs };
            ReceiptEnvelope::Eip1559(ReceiptWithBloom::from(receipt)).encoded_2718()
        })
        .collect();
    let header = Header {
        number,
        timestamp: 12 * number,
        transactions_root: ordered_trie_root_encoded(&transactions),
        receipts_root: ordered_trie_root_encoded(&receipts),
        ..Header::default()
    };
    EventProof {
        header: rlp::encode(&header).into(),
        transaction_index: 1,
        transaction: transactions[1].clone().into(),
        transaction_proof: prove_entry(&transactions, 1).unwrap().1,
        receipt: receipts[1].clone().into(),
        receipt_proof: prove_entry(&receipts, 1).unwrap().1,
        log_index: 1,
    }
}

/// What is posted and committed of a batch.
#[derive(Clone)]
struct Records {
    header: BatchHeader,
    blob_hashes: Vec<B256>,
    da_pointer: Bytes,
    commitment: Rollup::Commitment,
}

impl Records {
    fn of(bytes: &Bytes, kind: DaKind, blocks: &[Arc<ExecutedBlock>], deposits: u64) -> Self {
        let (first, last) = (&blocks[0], &blocks[blocks.len() - 1]);
        let header = BatchHeader {
            number: 5,
            first_block: first.number(),
            last_block: last.number(),
            deposits_end: deposits,
            deposits_hash: accumulator(deposits),
            digest: batch_digest(bytes),
            da_kind: kind,
        };
        let blob_hashes = match kind {
            DaKind::L1Blob => pack(bytes)
                .unwrap()
                .chunks_exact(BYTES_PER_BLOB)
                .map(|blob| blob_versioned_hash(blob.try_into().unwrap()).unwrap())
                .collect(),
            _ => Vec::new(),
        };
        let da_pointer = match kind {
            DaKind::L1Blob => Bytes::new(),
            DaKind::L1Calldata => bytes.clone(),
            DaKind::AltDa => [&[0], header.digest.as_slice()].concat().into(),
            DaKind::Celestia => [&[1][..], &7_u64.to_be_bytes(), &[9; 42]].concat().into(),
            DaKind::ObjectStore => format!("batches/{:x}", header.digest).into_bytes().into(),
        };
        let commitment = Rollup::Commitment {
            number: header.number,
            previous: 4,
            batchHash: B256::repeat_byte(5),
            firstBlock: header.first_block,
            lastBlock: header.last_block,
            lastBlockHash: last.header.seal(),
            stateRoot: last.header.state_root,
            messageRoot: B256::ZERO,
            committedAt: 1_000,
            finalAt: 2_000,
        };
        Self { header, blob_hashes, da_pointer, commitment }
    }

    fn posted(&self) -> EventProof {
        let event = Rollup::BatchPosted {
            number: self.header.number,
            digest: self.header.digest,
            batchHash: B256::repeat_byte(5),
            header: (&self.header).into(),
            blobHashes: self.blob_hashes.clone(),
            daPointer: self.da_pointer.clone(),
        };
        self::event(100, ROLLUP, event.encode_log_data())
    }

    fn committed(&self) -> EventProof {
        let event = Rollup::BatchCommitted {
            number: self.commitment.number,
            stateRoot: self.commitment.stateRoot,
            commitment: self.commitment.clone(),
        };
        self::event(110, ROLLUP, event.encode_log_data())
    }
}

/// Blocks of a batch: with a deposit and three transactions, with two transactions, with none.
fn blocks() -> (B256, Vec<Arc<ExecutedBlock>>) {
    let mut chain = Chain::new("inclusion");
    let parent = chain.head().seal();
    let input = |n: u64| noise(40, n);
    let first = chain.block(1, &[input(1), input(2), input(3)]);
    let second = chain.block(0, &[input(4), input(5)]);
    (parent, vec![first, second, chain.empty()])
}

/// A proof of a transaction of a block, both by their positions.
fn prove(
    blocks: &[Arc<ExecutedBlock>],
    (block, index): (usize, usize),
    batch: &Bytes,
    records: &Records,
) -> InclusionProof {
    let raw: Vec<Vec<u8>> =
        blocks[block].transactions.iter().map(|tx| tx.tx().encoded_2718()).collect();
    InclusionProof {
        version: INCLUSION_PROOF_VERSION,
        l1_chain_id: L1_CHAIN,
        rollup: ROLLUP,
        chain_id: CHAIN_ID,
        transaction_hash: keccak256(&raw[index]),
        transaction_index: index as u64,
        transaction: raw[index].clone().into(),
        transaction_proof: prove_entry(&raw, index).unwrap().1,
        headers: blocks[block..]
            .iter()
            .map(|block| rlp::encode(block.header.inner()).into())
            .collect(),
        batch: batch.clone(),
        posted: records.posted(),
        committed: Some(records.committed()),
    }
}

fn batch(kind: DaKind) -> (Vec<Arc<ExecutedBlock>>, Bytes, Records) {
    let (parent, blocks) = blocks();
    let bytes = Batch::from_blocks(CHAIN_ID, 0, parent, &blocks).unwrap().encode(3).unwrap();
    let records = Records::of(&bytes, kind, &blocks, 1);
    (blocks, bytes, records)
}

/// A proof of the second signed transaction of the first block, which has one of L1's queue before it.
fn proof(kind: DaKind) -> InclusionProof {
    let (blocks, bytes, records) = batch(kind);
    prove(&blocks, (0, 2), &bytes, &records)
}

fn check(proof: &InclusionProof) -> Result<Inclusion, InclusionProofError> {
    proof.verify(L1_CHAIN, ROLLUP)
}

fn refusal(
    proof: &InclusionProof,
    change: impl FnOnce(&mut InclusionProof),
) -> InclusionProofError {
    let mut proof = proof.clone();
    change(&mut proof);
    check(&proof).unwrap_err()
}

/// Takes a proof whose field is changed, and says whether the error is the one of that field.
macro_rules! refused {
    ($proof:expr, $change:expr, $error:pat) => {{
        let error = refusal(&$proof, $change);
        assert!(matches!(error, $error), "{error}: {error:?}");
    }};
}

#[test]
fn a_proof_shows_where_a_transaction_is_and_outlasts_its_json() {
    for kind in
        [DaKind::L1Blob, DaKind::L1Calldata, DaKind::AltDa, DaKind::Celestia, DaKind::ObjectStore]
    {
        let (blocks, bytes, records) = batch(kind);
        let proof = prove(&blocks, (0, 2), &bytes, &records);
        let text = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<InclusionProof>(&text).unwrap(), proof);
        let shown = check(&proof).unwrap();
        assert_eq!(shown.transaction, *blocks[0].transactions[2].tx().hash());
        assert_eq!((shown.block, shown.index), (blocks[0].num_hash(), 2));
        assert_eq!((shown.holding, shown.batch.header), (Holding::Bytes, records.header));
        assert_eq!(shown.batch.l1.block.number, 100);
        assert_eq!(shown.batch.l1.block.hash, keccak256(&proof.posted.header));
        assert_eq!(shown.batch.l1.tx_hash, keccak256(&proof.posted.transaction));
        assert_eq!(shown.commitment.unwrap().l1.block.number, 110);
    }
}

#[test]
fn what_comes_from_the_queue_is_shown_by_its_blocks_hash() {
    let (blocks, bytes, records) = batch(DaKind::L1Calldata);
    let shown = check(&prove(&blocks, (0, 0), &bytes, &records)).unwrap();
    assert_eq!((shown.holding, shown.index), (Holding::Queue, 0));
    // In a block that takes nothing of the queue, and not among the batch's transactions.
    let first = Batch::from_blocks(CHAIN_ID, 0, blocks[0].header.parent_hash, &blocks).unwrap();
    let mut lying = first.clone();
    lying.blocks[1].transactions.remove(0);
    let bytes = lying.encode(3).unwrap();
    let records = Records::of(&bytes, DaKind::L1Calldata, &blocks, 1);
    let error = check(&prove(&blocks, (1, 0), &bytes, &records)).unwrap_err();
    assert!(matches!(error, InclusionProofError::NotInBatch { block: 2 }), "{error}");
    // The one after it has another place in the batch than its index can be.
    let mut lying = first;
    lying.blocks[1].transactions.swap(0, 1);
    let bytes = lying.encode(3).unwrap();
    let records = Records::of(&bytes, DaKind::L1Calldata, &blocks, 1);
    let error = check(&prove(&blocks, (1, 0), &bytes, &records)).unwrap_err();
    assert!(matches!(error, InclusionProofError::Index { position: 1, index: 0 }), "{error}");
}

#[test]
fn a_batch_of_state_diffs_shows_it_by_its_last_header() {
    let (parent, blocks) = blocks();
    let changed: Vec<_> =
        blocks.iter().map(|block| (block.clone(), Arc::new(StateDiff::default()))).collect();
    let batch = DiffBatch::from_blocks(CHAIN_ID, 0, parent, &changed).unwrap();
    let bytes = batch.encode(3, &KeyHints::default(), &AccountNames::default()).unwrap();
    let records = Records::of(&bytes, DaKind::L1Blob, &blocks, 1);
    for (place, index) in [((0, 0), 0), ((0, 3), 3), ((1, 1), 1)] {
        let shown = check(&prove(&blocks, place, &bytes, &records)).unwrap();
        assert_eq!((shown.holding, shown.index), (Holding::StateDiffs, index));
        assert_eq!(shown.block, blocks[place.0].num_hash());
    }
}

#[test]
fn another_chain_or_rollup_than_the_verifiers_is_refused() {
    let proof = proof(DaKind::ObjectStore);
    let error = proof.verify(1, ROLLUP).unwrap_err();
    assert!(matches!(error, InclusionProofError::L1Chain { found: L1_CHAIN, expected: 1 }));
    let error = proof.verify(L1_CHAIN, Address::ZERO).unwrap_err();
    assert!(matches!(error, InclusionProofError::Rollup { .. }));
    // Also where the proof says so itself: the events are another contract's.
    let lying = InclusionProof { rollup: Address::ZERO, ..proof };
    let error = lying.verify(L1_CHAIN, Address::ZERO).unwrap_err();
    assert!(matches!(error, InclusionProofError::Posted(EventProofError::Contract(ROLLUP))));
}

#[test]
fn bytes_that_l1_does_not_carry_are_refused_although_their_digest_was_recorded() {
    let refuse = |change: fn(&mut Records), kind| {
        let (blocks, bytes, mut records) = batch(kind);
        change(&mut records);
        let error = check(&prove(&blocks, (0, 2), &bytes, &records)).unwrap_err();
        assert!(matches!(error, InclusionProofError::Da { kind: k, .. } if k == kind), "{error}");
    };
    refuse(|records| records.blob_hashes[0].0[9] ^= 1, DaKind::L1Blob);
    refuse(|records| records.blob_hashes.push(B256::ZERO), DaKind::L1Blob);
    refuse(|records| records.blob_hashes.clear(), DaKind::L1Blob);
    refuse(|records| records.da_pointer = Bytes::new(), DaKind::L1Calldata);
    for kind in [DaKind::AltDa, DaKind::Celestia, DaKind::ObjectStore] {
        refuse(|records| records.da_pointer = Bytes::from_static(b"elsewhere"), kind);
    }
}

#[test]
fn a_record_of_something_else_is_refused() {
    let (blocks, bytes, records) = batch(DaKind::ObjectStore);
    let refuse = |change: fn(&mut Records), name: &str| {
        let mut records = records.clone();
        change(&mut records);
        let error = check(&prove(&blocks, (0, 2), &bytes, &records)).unwrap_err();
        assert!(error.to_string().contains(name), "{error} does not name {name}");
    };
    refuse(|records| records.header.first_block += 1, "first block");
    refuse(|records| records.header.last_block += 1, "last block");
    refuse(|records| records.header.deposits_end += 1, "deposits end");
    refuse(|records| records.header.digest.0[0] ^= 1, "digest");
    refuse(|records| records.commitment.number += 1, "another batch than");
    refuse(|records| records.commitment.batchHash.0[0] ^= 1, "another batch hash");
    refuse(|records| records.commitment.firstBlock += 1, "another first block");
    refuse(|records| records.commitment.lastBlock += 1, "another last block than");
    refuse(|records| records.commitment.lastBlockHash.0[0] ^= 1, "another last block's hash");
    refuse(|records| records.commitment.stateRoot.0[0] ^= 1, "another state root");

    let mut swapped = prove(&blocks, (0, 2), &bytes, &records);
    swapped.committed = Some(records.posted());
    assert!(matches!(check(&swapped).unwrap_err(), InclusionProofError::NotCommitted));
    swapped.posted = records.committed();
    assert!(matches!(check(&swapped).unwrap_err(), InclusionProofError::NotPosted));
}

#[test]
fn every_field_that_is_changed_is_refused_for_a_reason_of_its_own() {
    type P = InclusionProof;
    let proof = proof(DaKind::ObjectStore);
    let (blocks, bytes, records) = batch(DaKind::ObjectStore);
    let next = prove(&blocks, (0, 3), &bytes, &records);
    refused!(proof, |p: &mut P| p.version = 2, InclusionProofError::Version { .. });
    refused!(proof, |p: &mut P| p.l1_chain_id += 1, InclusionProofError::L1Chain { .. });
    refused!(proof, |p: &mut P| p.rollup = Address::ZERO, InclusionProofError::Rollup { .. });
    refused!(proof, |p: &mut P| p.chain_id += 1, InclusionProofError::ChainId { .. });
    refused!(
        proof,
        |p: &mut P| p.transaction_hash = next.transaction_hash,
        InclusionProofError::TransactionHash { .. }
    );
    refused!(proof, |p: &mut P| p.transaction_index = 3, InclusionProofError::Transaction(_));
    refused!(
        proof,
        |p: &mut P| p.transaction = next.transaction.clone(),
        InclusionProofError::TransactionHash { .. }
    );
    refused!(
        proof,
        |p: &mut P| p.transaction_proof = next.transaction_proof.clone(),
        InclusionProofError::Transaction(_)
    );
    refused!(proof, |p: &mut P| p.headers.clear(), InclusionProofError::Headers { .. });
    refused!(proof, |p: &mut P| drop(p.headers.remove(1)), InclusionProofError::Headers { .. });
    refused!(proof, |p: &mut P| drop(p.headers.pop()), InclusionProofError::LastBlock { .. });
    // The block after it does not have the transaction.
    refused!(proof, |p: &mut P| drop(p.headers.remove(0)), InclusionProofError::Transaction(_));
    refused!(proof, |p: &mut P| p.batch = Bytes::new(), InclusionProofError::Digest { .. });
    refused!(
        proof,
        |p: &mut P| p.batch = vec![0; 17 << 20].into(),
        InclusionProofError::TooLarge { .. }
    );
    refused!(
        proof,
        |p: &mut P| p.posted.log_index = 0,
        InclusionProofError::Posted(EventProofError::Contract(Address::ZERO))
    );
    refused!(
        proof,
        |p: &mut P| p.posted.log_index = 2,
        InclusionProofError::Posted(EventProofError::Log { index: 2, logs: 2 })
    );
    refused!(
        proof,
        |p: &mut P| p.posted.transaction_index = 2,
        InclusionProofError::Posted(EventProofError::Transaction(_))
    );
    refused!(
        proof,
        |p: &mut P| p.posted.receipt_proof = p.posted.transaction_proof.clone(),
        InclusionProofError::Posted(EventProofError::Receipt(_))
    );
    refused!(
        proof,
        |p: &mut P| p.posted.header = Bytes::from_static(&[0xc0]),
        InclusionProofError::Posted(EventProofError::Header(_))
    );
    refused!(
        proof,
        |p: &mut P| p.posted = event(100, ROLLUP, LogData::empty()),
        InclusionProofError::Posted(EventProofError::Event(_))
    );
    refused!(
        proof,
        |p: &mut P| p.committed.as_mut().unwrap().log_index = 7,
        InclusionProofError::Committed(EventProofError::Log { .. })
    );
    // Without the commitment it shows less, and holds.
    let less = InclusionProof { committed: None, ..proof };
    assert!(check(&less).unwrap().commitment.is_none());
}

#[test]
fn recorded_bytes_that_are_no_batch_are_refused() {
    let (blocks, _, _) = batch(DaKind::L1Calldata);
    for bytes in [Bytes::new(), vec![2, 3, 1].into(), noise(300, 1)] {
        let records = Records::of(&bytes, DaKind::L1Calldata, &blocks, 1);
        let error = check(&prove(&blocks, (0, 2), &bytes, &records)).unwrap_err();
        assert!(matches!(error, InclusionProofError::Undecodable(_)), "{error}");
    }
}

/// All of a proof's bytes, field by field.
fn fields(proof: &mut InclusionProof) -> Vec<&mut Bytes> {
    fn of(event: &mut EventProof) -> Vec<&mut Bytes> {
        let EventProof { header, transaction, transaction_proof, receipt, receipt_proof, .. } =
            event;
        [header, transaction, receipt]
            .into_iter()
            .chain(transaction_proof)
            .chain(receipt_proof)
            .collect()
    }
    let InclusionProof {
        transaction, transaction_proof, headers, batch, posted, committed, ..
    } = proof;
    let mut all = vec![transaction, batch];
    all.extend(transaction_proof);
    all.extend(headers);
    all.extend(of(posted));
    all.extend(committed.as_mut().map(of).unwrap_or_default());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// But for an L1 block's header, whose hash L1 has to know: there the block becomes another one.
    #[test]
    fn a_single_bit_that_is_flipped_is_found(field in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let mut proof = proof(DaKind::ObjectStore);
        let shown = check(&proof).unwrap();
        let fields = fields(&mut proof);
        let at = field.index(fields.len());
        let changed = fields.into_iter().nth(at).unwrap();
        let mut bytes = changed.to_vec();
        let bit = bit.index(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        *changed = bytes.into();
        if let Ok(other) = check(&proof) {
            let l1 = |shown: &Inclusion| (shown.batch.l1.block.hash, shown.commitment.unwrap().l1.block.hash);
            prop_assert_ne!(l1(&other), l1(&shown));
        }
    }

    /// No proof makes the verifier panic.
    #[test]
    fn any_bytes_are_refused(seed in any::<u64>(), length in 0_usize..600, field in any::<prop::sample::Index>()) {
        let mut proof = proof(DaKind::L1Calldata);
        let fields = fields(&mut proof);
        let at = field.index(fields.len());
        *fields.into_iter().nth(at).unwrap() = noise(length, seed);
        prop_assert!(check(&proof).is_err());
    }
}

#[test]
fn the_largest_index_is_refused_like_any_other() {
    let mut proof = proof(DaKind::ObjectStore);
    proof.transaction_index = u64::MAX;
    assert!(matches!(check(&proof).unwrap_err(), InclusionProofError::Transaction(_)));
    let text = serde_json::to_value(&proof).unwrap();
    assert_eq!(text["transactionIndex"], format!("{:#x}", U256::from(u64::MAX)));
}
