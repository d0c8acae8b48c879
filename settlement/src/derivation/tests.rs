use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, Signature, U256};
use millrace_proto::{
    AccountNames, Batch, ChainSpec, Deposit, DerivedBlock, DiffBatch, ForcedTx, KeyHints,
    PostedBatch, QueueEntry, QueueMark, QueuedTxs, RecoveredTx, TxEnvelope, batch_digest,
};

use super::{
    Derivation, DerivationHead, DeriveError, DerivedBatch, DerivedContent, QueuedDeposits,
    SkipReason,
};
use crate::testing::{CHAIN_ID, MESSENGER, TestChain, accumulator, deposit, post, transfer};

const ROLLUP: Address = Address::repeat_byte(0x11);

/// A chain of three blocks with two deposits, the batch over it, and what was posted.
struct Case {
    chain: TestChain,
    head: DerivationHead,
    batch: Batch,
    bytes: Bytes,
    posted: PostedBatch,
    deposits: QueuedDeposits,
}

impl Case {
    fn new() -> Self {
        let chain = TestChain::new();
        let head = DerivationHead::of(&chain.head().header).expect("a rollup's genesis");
        chain.extend(101, 0, vec![transfer(0, ROLLUP)]);
        chain.extend(101, 2, vec![minted(0), minted(1), transfer(1, ROLLUP), transfer(2, ROLLUP)]);
        chain.extend(105, 2, Vec::new());
        let batch = chain.batch(1, 3);
        let deposits = QueuedDeposits { before: B256::ZERO, entries: (0..4).map(entry).collect() };
        let mut case = Self {
            chain,
            head,
            bytes: Bytes::new(),
            posted: post(1, (1, 3), 2, &[], 10),
            batch,
            deposits,
        };
        case.encode();
        case
    }

    /// Makes the bytes and the digest from the batch.
    fn encode(&mut self) {
        self.bytes = self.batch.encode(3).expect("encodes");
        self.posted.header.digest = batch_digest(&self.bytes);
    }

    fn derive(&self) -> Result<DerivedBatch, DeriveError> {
        let derivation = Derivation::new(&self.chain.spec(), ROLLUP);
        let Self { head, posted, bytes, deposits, .. } = self;
        let derived = derivation.derive(head, posted, bytes, deposits);
        // What is done ahead of a batch's turn changes nothing.
        let prepared = derivation.prepare(&posted.header, bytes);
        let joined = derivation.join(head, &posted.header).map_err(DeriveError::from);
        let ahead = joined.and_then(|()| derivation.finish(head, posted, prepared, deposits));
        assert_eq!(derived, ahead);
        derived
    }

    /// The blocks of the derived batch, and the hash that it claims.
    fn blocks(&self) -> (Vec<DerivedBlock>, B256) {
        match self.derive().expect("a valid batch").content {
            DerivedContent::Blocks { blocks, claimed_hash } => (blocks, claimed_hash),
            other => panic!("{other:?}"),
        }
    }

    fn skipped(&self) -> SkipReason {
        match self.derive() {
            Err(DeriveError::Skip(reason)) => reason,
            other => panic!("skipped batch expected, got {other:?}"),
        }
    }
}

fn entry(index: u64) -> QueueEntry {
    deposit(index).into()
}

fn minted(index: u64) -> Arc<RecoveredTx> {
    let Deposit { from, .. } = deposit(index);
    Arc::new(RecoveredTx::new_unchecked(TxEnvelope::from(deposit(index).to_tx(ROLLUP)), from))
}

#[test]
fn a_valid_batch_gives_the_blocks_that_were_sequenced() {
    let case = Case::new();
    assert_eq!(case.derive().expect("a valid batch").number, 1);
    let (blocks, claimed_hash) = case.blocks();
    assert_eq!(claimed_hash, case.chain.head().hash());
    assert_eq!(blocks.len(), 3);
    for block in &blocks {
        let sequenced = case.chain.block(block.number).expect("it was sequenced");
        assert_eq!(block.timestamp, sequenced.header.timestamp);
        let transactions = [block.queued.txs.clone(), block.transactions.clone()].concat();
        assert_eq!(transactions, sequenced.transactions);
    }
    let deposits_ends: Vec<_> = blocks.iter().map(|block| block.queued.mark.end).collect();
    assert_eq!(deposits_ends, [0, 2, 2]);
}

/// Of a forced transaction derivation knows whether it is one; whether it is valid, execution finds out.
#[test]
fn forced_transactions_come_behind_the_deposits() {
    let mut case = Case::new();
    let forced = |index, raw| QueueEntry::Forced(ForcedTx { index, raw });
    let tx = transfer(7, ROLLUP);
    case.deposits.entries = vec![
        forced(0, tx.encoded().clone()),
        entry(1),
        forced(2, Bytes::from_static(b"no transaction")),
    ];
    let accumulate = |hash: B256, entry: &QueueEntry| entry.accumulate(hash);
    let hash = case.deposits.entries.iter().fold(B256::ZERO, accumulate);
    for block in &mut case.batch.blocks[1..] {
        block.deposits_end = 3;
    }
    case.encode();
    (case.posted.header.deposits_end, case.posted.header.deposits_hash) = (3, hash);
    let (blocks, _) = case.blocks();
    let queued = &blocks[1].queued;
    assert_eq!(queued.mark, QueueMark { end: 3, hash, forced: 1 });
    assert_eq!(queued.txs, [minted(1), tx]);
    assert_eq!(
        blocks[2].queued,
        QueuedTxs { mark: QueueMark { forced: 0, ..queued.mark }, txs: vec![] }
    );
}

#[test]
fn a_batch_goes_on_where_the_last_one_ended() {
    let mut case = Case::new();
    case.batch = case.chain.batch(3, 3);
    case.posted = post(2, (3, 3), 2, &[], 11);
    case.encode();
    case.head =
        DerivationHead::of(&case.chain.block(2).expect("a block").header).expect("a rollup's");
    case.deposits = QueuedDeposits { before: accumulator(2), entries: Vec::new() };
    let (blocks, _) = case.blocks();
    assert_eq!(blocks[0].number, 3);
    assert!(blocks[0].transactions.is_empty());
}

#[test]
fn a_gap_is_skipped() {
    let mut case = Case::new();
    case.posted.header.first_block = 2;
    assert_eq!(case.skipped(), SkipReason::NotContiguous { first_block: 2, expected: 1 });
}

#[test]
fn a_batch_of_blocks_that_the_chain_has_is_skipped() {
    let mut case = Case::new();
    case.head.number = 3;
    assert_eq!(case.skipped(), SkipReason::NotContiguous { first_block: 1, expected: 4 });
}

#[test]
fn deposits_that_go_backwards_are_skipped() {
    let mut case = Case::new();
    case.head.deposits_end = 3;
    let reason = SkipReason::DepositsBackwards { deposits_end: 2, consumed: 3 };
    assert_eq!(case.skipped(), reason);
}

#[test]
fn a_wrong_digest_is_skipped() {
    let mut case = Case::new();
    let computed = case.posted.header.digest;
    case.posted.header.digest = B256::repeat_byte(9);
    let posted = B256::repeat_byte(9);
    assert_eq!(case.skipped(), SkipReason::Digest { posted, computed });
}

#[test]
fn bytes_that_are_no_batch_are_skipped() {
    let mut case = Case::new();
    case.bytes = Bytes::from_static(b"no batch");
    case.posted.header.digest = batch_digest(&case.bytes);
    assert!(matches!(case.skipped(), SkipReason::Undecodable(_)));
}

#[test]
fn a_batch_of_another_chain_is_skipped() {
    let case = Case::new();
    let mut genesis = case.chain.spec().genesis().clone();
    genesis.config.chain_id += 1;
    let other = ChainSpec::new(genesis).expect("a valid genesis");
    let derived = Derivation::new(&other, ROLLUP).derive(
        &case.head,
        &case.posted,
        &case.bytes,
        &case.deposits,
    );
    let reason = SkipReason::ChainId { found: CHAIN_ID, expected: CHAIN_ID + 1 };
    assert_eq!(derived, Err(DeriveError::Skip(reason)));
}

#[test]
fn numbers_that_differ_from_the_posted_header_are_skipped() {
    let mut case = Case::new();
    case.posted.header.last_block = 4;
    assert_eq!(case.skipped(), SkipReason::Header { field: "last block", found: 3, posted: 4 });

    let mut case = Case::new();
    case.posted.header.deposits_end = 3;
    case.posted.header.deposits_hash = accumulator(3);
    assert_eq!(case.skipped(), SkipReason::Header { field: "deposits end", found: 2, posted: 3 });
}

#[test]
fn another_parent_is_skipped() {
    let mut case = Case::new();
    case.batch.parent_hash = B256::repeat_byte(3);
    case.encode();
    let reason = SkipReason::ParentHash { found: B256::repeat_byte(3), expected: case.head.hash };
    assert_eq!(case.skipped(), reason);
}

#[test]
fn another_first_deposit_is_skipped() {
    let mut case = Case::new();
    case.head.deposits_end = 1;
    assert_eq!(case.skipped(), SkipReason::DepositsStart { found: 0, expected: 1 });
}

#[test]
fn a_block_older_than_its_parent_is_skipped() {
    let mut case = Case::new();
    case.head.timestamp = 102;
    let reason = SkipReason::Timestamp { block: 1, timestamp: 101, parent: 102 };
    assert_eq!(case.skipped(), reason);
}

#[test]
fn the_first_transaction_without_a_sender_is_named() {
    let mut case = Case::new();
    let nobody = Signature::new(U256::MAX, U256::from(1), false);
    let mut unsigned = Vec::new();
    for transaction in &mut case.batch.blocks[1].transactions {
        if let TxEnvelope::Eip1559(signed) = transaction {
            *transaction = TxEnvelope::Eip1559(alloy::consensus::SignableTransaction::into_signed(
                signed.tx().clone(),
                nobody,
            ));
        }
        unsigned.push(transaction.hash());
    }
    case.encode();
    assert_eq!(case.skipped(), SkipReason::Signature { block: 2, hash: unsigned[0] });

    // Signatures are looked at last: everyone names the same of several faults.
    let before = case.head;
    case.head.hash = B256::repeat_byte(9);
    assert!(matches!(case.skipped(), SkipReason::ParentHash { .. }));
    case.head = DerivationHead { timestamp: 102, ..before };
    assert!(matches!(case.skipped(), SkipReason::Timestamp { .. }));
    case.head = before;
    case.deposits.entries[1] = Deposit { value: U256::from(1), ..deposit(1) }.into();
    assert!(matches!(case.derive(), Err(DeriveError::Deposits { .. })));
}

/// As many as are recovered in several pieces, in blocks that do not end where those do.
#[test]
fn blocks_keep_their_transactions_whatever_is_recovered_together() {
    let mut case = Case::new();
    let signed: Vec<_> = (0..5).map(|nonce| transfer(nonce, ROLLUP)).collect();
    let mut turn = signed.iter().cycle();
    for (block, count) in case.batch.blocks.iter_mut().zip([300, 0, 400]) {
        block.transactions = turn.by_ref().take(count).map(|tx| tx.tx().clone()).collect();
    }
    case.encode();
    let (blocks, _) = case.blocks();
    let mut turn = signed.iter().cycle();
    for (block, deposits) in blocks.iter().zip([0, 2, 0]) {
        assert_eq!(block.queued.txs.len(), deposits);
        for tx in &block.transactions {
            assert_eq!(Some(tx), turn.next());
        }
    }
    let counts: Vec<_> = blocks.iter().map(|block| block.transactions.len()).collect();
    assert_eq!(counts, [300, 0, 400]);

    // In the last piece, then also in the first.
    let nobody = Signature::new(U256::MAX, U256::from(1), false);
    for (block, at) in [(2, 350), (2, 3), (0, 299)] {
        let TxEnvelope::Eip1559(signed) = &case.batch.blocks[block].transactions[at] else {
            panic!("a transfer is of type 2");
        };
        let mut tx = signed.tx().clone();
        tx.nonce = 1_000 + at as u64;
        let unsigned =
            TxEnvelope::Eip1559(alloy::consensus::SignableTransaction::into_signed(tx, nobody));
        let hash = unsigned.hash();
        case.batch.blocks[block].transactions[at] = unsigned;
        case.encode();
        let block = block as u64 + 1;
        assert_eq!(case.skipped(), SkipReason::Signature { block, hash });
    }
}

#[test]
fn deposits_that_are_not_the_contracts_are_no_fault_of_the_batch() {
    let mut case = Case::new();
    case.deposits.entries[1] = Deposit { value: U256::from(1), ..deposit(1) }.into();
    assert!(matches!(case.derive(), Err(DeriveError::Deposits { deposits_end: 2, .. })));

    let mut case = Case::new();
    case.deposits.entries.truncate(1);
    assert!(matches!(case.derive(), Err(DeriveError::Deposits { deposits_end: 2, .. })));
}

#[test]
fn any_bytes_end_in_blocks_or_a_reason() {
    let mut case = Case::new();
    let valid = case.bytes.clone();
    let mut skipped = 0;
    for position in 0..valid.len() {
        let mut bytes = valid.to_vec();
        bytes[position] ^= 0x41;
        case.bytes = bytes.into();
        case.posted.header.digest = batch_digest(&case.bytes);
        match case.derive() {
            Ok(_) => assert_eq!(case.blocks().0.len(), 3),
            Err(DeriveError::Skip(_)) => skipped += 1,
            Err(error) => panic!("byte {position}: {error}"),
        }
        case.bytes = valid.slice(..position);
        case.posted.header.digest = batch_digest(&case.bytes);
        assert!(matches!(case.derive(), Err(DeriveError::Skip(_))), "cut at {position}");
    }
    assert!(skipped > 0);
}

/// A chain of three blocks whose batch holds what they changed, and its bytes.
fn of_diffs() -> (Case, DiffBatch) {
    let chain = TestChain::of_diffs();
    let mut case = Case::new();
    case.head = DerivationHead::of(&chain.head().header).expect("a rollup's genesis");
    chain.extend(101, 0, vec![transfer(0, ROLLUP)]);
    chain.extend(101, 2, vec![minted(0), minted(1), transfer(1, MESSENGER)]);
    chain.extend(105, 2, Vec::new());
    let batch = chain.diffs(1, 3);
    case.chain = chain;
    encode_diffs(&mut case, &batch);
    (case, batch)
}

fn encode_diffs(case: &mut Case, batch: &DiffBatch) {
    case.bytes = batch.encode(3, &KeyHints::default(), &AccountNames::default()).expect("encodes");
    case.posted.header.digest = batch_digest(&case.bytes);
}

#[test]
fn a_batch_of_state_diffs_gives_what_its_blocks_changed() {
    let (case, batch) = of_diffs();
    let derived = case.derive().expect("a valid batch");
    let DerivedContent::Stretch { stretch, transactions } = derived.content else {
        panic!("{derived:?}");
    };
    assert_eq!((stretch.first_block, stretch.header), (1, case.chain.head().header.clone()));
    let delta = stretch.delta.resolve(&[], &stretch.messages).expect("nobody is named");
    assert_eq!(delta, batch.delta);
    // One a block, and what recorded the message.
    assert_eq!(delta.accounts.len(), 4);
    assert_eq!(stretch.messages, [transfer(1, MESSENGER).hash()]);
    assert_eq!(transactions, 4);
}

#[test]
fn batches_hold_the_chains_payload_or_are_skipped() {
    let (mut case, _) = of_diffs();
    case.batch = case.chain.batch(1, 3);
    case.encode();
    assert!(matches!(case.skipped(), SkipReason::Undecodable(_)));
    let (diffs, batch) = of_diffs();
    case.chain = Case::new().chain;
    encode_diffs(&mut case, &batch);
    assert_eq!(case.bytes, diffs.bytes);
    assert!(matches!(case.skipped(), SkipReason::Undecodable(_)));
}

/// The same rules hold whatever a batch holds.
#[test]
fn state_diffs_that_do_not_join_the_chain_are_skipped() {
    let (mut case, batch) = of_diffs();
    case.head.timestamp = 106;
    assert_eq!(case.skipped(), SkipReason::Timestamp { block: 3, timestamp: 105, parent: 106 });
    let (mut case, _) = of_diffs();
    case.head.hash = B256::repeat_byte(8);
    let found = batch.parent_hash;
    assert_eq!(case.skipped(), SkipReason::ParentHash { found, expected: case.head.hash });
    let (mut case, _) = of_diffs();
    case.posted.header.last_block = 2;
    assert_eq!(case.skipped(), SkipReason::Header { field: "last block", found: 3, posted: 2 });
    let (mut case, _) = of_diffs();
    encode_diffs(&mut case, &DiffBatch { chain_id: 5, ..batch });
    assert_eq!(case.skipped(), SkipReason::ChainId { found: 5, expected: CHAIN_ID });
    let (mut case, _) = of_diffs();
    case.deposits.entries.swap(0, 1);
    assert!(matches!(case.derive(), Err(DeriveError::Deposits { deposits_end: 2, .. })));
}
