//! The batch codec: decode(encode(x)) is x for every kind of transaction, decoding is total, and
//! the version and its dictionary are frozen.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use alloy::{
    consensus::{
        EthereumReceipt, Header, Sealable, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702,
        TxLegacy,
    },
    eips::{
        Decodable2718, Encodable2718,
        eip2930::{AccessList, AccessListItem},
        eip7702::{Authorization, SignedAuthorization},
    },
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, b256},
};
use millrace_proto::{
    Batch, BatchBlock, BatchColumn, BatchDecodeError, BatchDictionary, BatchEncodeError,
    BatchLimits, Deposit, ExecutedBlock, HeaderExtra, RecoveredTx, TxEnvelope, TxType,
    batch_digest,
};
use proptest::{collection::vec, option, prelude::*};

const CHAIN_ID: u64 = 7_077;
/// What every zstd frame begins with.
const FRAME_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

fn word() -> impl Strategy<Value = U256> {
    prop_oneof![
        Just(U256::ZERO),
        Just(U256::MAX),
        any::<u64>().prop_map(U256::from),
        any::<[u8; 32]>().prop_map(U256::from_be_bytes),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..300u64, any::<u64>()]
}

fn fee() -> impl Strategy<Value = u128> {
    prop_oneof![Just(0), Just(u128::MAX), 0..5_000_000_000u128, any::<u128>()]
}

fn recipient() -> impl Strategy<Value = Address> {
    prop_oneof![(0..4u8).prop_map(Address::repeat_byte), any::<[u8; 20]>().prop_map(Address::from)]
}

fn to() -> impl Strategy<Value = TxKind> {
    option::of(recipient()).prop_map(|to| to.map_or(TxKind::Create, TxKind::Call))
}

/// A word as the ABI makes them, or nearly.
fn abi_word() -> impl Strategy<Value = Vec<u8>> {
    let number = (any::<u128>(), 0..128u32, 0..30u32).prop_map(|(number, shift, zeros)| {
        let round = (number >> shift).wrapping_mul(10u128.pow(zeros));
        U256::from(round).to_be_bytes_vec()
    });
    let padded = (vec(any::<u8>(), 1..32)).prop_map(|mut bytes| {
        bytes.resize(32, 0);
        bytes
    });
    let word = any::<[u8; 32]>().prop_map(Vec::from);
    let address = recipient().prop_map(|address| address.into_word().to_vec());
    prop_oneof![
        3 => number,
        2 => address,
        1 => padded,
        1 => word,
        1 => Just(vec![0; 32]),
        1 => Just(vec![0xff; 32]),
    ]
}

fn call() -> impl Strategy<Value = Vec<u8>> {
    (any::<[u8; 4]>(), vec(abi_word(), 0..6))
        .prop_map(|(selector, words)| [selector.as_slice(), &words.concat()].concat())
}

/// A call with a call in it, whose length may be wrong by a little and whose padding may not be zero.
fn nested_call() -> impl Strategy<Value = Vec<u8>> {
    let off = prop_oneof![4 => Just(0), 1 => Just(32), 1 => 1..40u64];
    (call(), call(), off, prop_oneof![4 => Just(0), 1 => any::<u8>()], vec(any::<u8>(), 0..40))
        .prop_map(|(mut outer, inner, off, padding, tail)| {
            outer.extend(U256::from(inner.len() as u64 + off).to_be_bytes_vec());
            outer.extend(inner);
            outer.extend([0; 27]);
            outer.push(padding);
            outer.extend(tail);
            outer
        })
}

/// Short runs of zeros and of other bytes.
fn sparse() -> impl Strategy<Value = Vec<u8>> {
    vec((0..40usize, vec(1..=255u8, 0..20)), 0..10).prop_map(|runs| {
        let run = |(zeros, bytes): (usize, Vec<u8>)| [vec![0; zeros], bytes].concat();
        runs.into_iter().flat_map(run).collect()
    })
}

fn input() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..120), call(), nested_call(), sparse()].prop_map(Bytes::from)
}

fn access_list() -> impl Strategy<Value = AccessList> {
    let entry = (recipient(), vec(any::<[u8; 32]>().prop_map(B256::from), 0..3))
        .prop_map(|(address, storage_keys)| AccessListItem { address, storage_keys });
    vec(entry, 0..3).prop_map(AccessList)
}

fn authorizations() -> impl Strategy<Value = Vec<SignedAuthorization>> {
    let one = (word(), recipient(), number(), any::<u8>(), word(), word()).prop_map(
        |(chain_id, address, nonce, y_parity, r, s)| {
            SignedAuthorization::new_unchecked(
                Authorization { chain_id, address, nonce },
                y_parity,
                r,
                s,
            )
        },
    );
    vec(one, 0..3)
}

fn signature() -> impl Strategy<Value = Signature> {
    (word(), word(), any::<bool>()).prop_map(|(r, s, v)| Signature::new(r, s >> 1, v))
}

prop_compose! {
    fn transaction()(
        kind in 0..5u8,
        (nonce, gas_limit, fee, tip) in (number(), number(), fee(), fee()),
        (to, call) in (to(), recipient()),
        (value, input) in (word(), input()),
        access_list in access_list(),
        authorization_list in authorizations(),
        signature in signature(),
    ) -> TxEnvelope {
        match kind {
            0 | 1 => {
                let chain_id = (kind == 0).then_some(CHAIN_ID);
                let tx = TxLegacy { chain_id, nonce, gas_price: fee, gas_limit, to, value, input };
                TxEnvelope::Legacy(Signed::new_unhashed(tx, signature))
            }
            2 => {
                let tx = TxEip2930 {
                    chain_id: CHAIN_ID, nonce, gas_price: fee, gas_limit, to, value, access_list, input,
                };
                TxEnvelope::Eip2930(Signed::new_unhashed(tx, signature))
            }
            3 => {
                let tx = TxEip1559 {
                    chain_id: CHAIN_ID, nonce, gas_limit, max_fee_per_gas: fee, max_priority_fee_per_gas: tip,
                    to, value, access_list, input,
                };
                TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature))
            }
            _ => {
                let tx = TxEip7702 {
                    chain_id: CHAIN_ID, nonce, gas_limit, max_fee_per_gas: fee, max_priority_fee_per_gas: tip,
                    to: call, value, access_list, authorization_list, input,
                };
                TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature))
            }
        }
    }
}

prop_compose! {
    fn batch()(
        first_block in prop_oneof![1..1_000u64, Just(u64::MAX - 100), Just(u64::MAX - 8)],
        hashes in any::<[[u8; 32]; 2]>(),
        (start, time) in (0..1_000_000u64, any::<u32>()),
        steps in vec((0..3u64, 0..5u64, vec(transaction(), 0..8)), 1..8),
    ) -> Batch {
        let (mut timestamp, mut deposits_end) = (u64::from(time), start);
        let [parent_hash, last_block_hash] = hashes.map(B256::from);
        Batch {
            chain_id: CHAIN_ID,
            first_block,
            parent_hash,
            deposits_start: start,
            last_block_hash,
            blocks: steps.into_iter().map(|(later, consumed, transactions)| {
                timestamp += later;
                deposits_end += consumed;
                BatchBlock { timestamp, deposits_end, transactions }
            }).collect(),
        }
    }
}

fn decode(encoded: &[u8]) -> Result<Batch, BatchDecodeError> {
    Batch::decode(encoded, &BatchLimits::default())
}

/// The header, the frame and the signatures.
fn parts(encoded: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let start = encoded.windows(4).position(|bytes| bytes == FRAME_MAGIC).unwrap();
    let (header, rest) = encoded.split_at(start);
    let (frame, signatures) =
        rest.split_at(zstd::zstd_safe::find_frame_compressed_size(rest).unwrap());
    (header, frame, signatures)
}

fn columns(encoded: &[u8]) -> Vec<u8> {
    let dictionary = include_bytes!("../src/batch/dictionary/1.zdict");
    let mut decompressor = zstd::bulk::Decompressor::with_dictionary(dictionary).unwrap();
    decompressor.decompress(parts(encoded).1, 1 << 24).unwrap()
}

/// The batch with other columns.
fn with_columns(encoded: &[u8], columns: &[u8]) -> Vec<u8> {
    let (header, _, signatures) = parts(encoded);
    [header, &zstd::bulk::compress(columns, 1).unwrap(), signatures].concat()
}

/// Whatever decodes must encode to something that decodes to the same again, and its transactions
/// must stand.
fn check_total(encoded: &[u8]) {
    if let Ok(batch) = decode(encoded) {
        check_transactions(&batch);
        assert_eq!(decode(&batch.encode(1).unwrap()).unwrap(), batch);
    }
}

/// Each transaction's EIP-2718 bytes decode to the same transaction with the same hash.
fn check_transactions(batch: &Batch) {
    for tx in batch.blocks.iter().flat_map(|block| &block.transactions) {
        let bytes = tx.encoded_2718();
        let again = TxEnvelope::decode_2718(&mut bytes.as_slice()).unwrap();
        assert_eq!(again.hash(), tx.hash());
        assert_eq!(again.encoded_2718(), bytes);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(batch in batch(), level in 1..=19i32) {
        let encoded = batch.encode(level).unwrap();
        prop_assert_eq!(&batch.encode(level).unwrap(), &encoded);
        let decoded = decode(&encoded).unwrap();
        prop_assert_eq!(&decoded, &batch);
        for (left, right) in batch.blocks.iter().zip(&decoded.blocks) {
            for (left, right) in left.transactions.iter().zip(&right.transactions) {
                prop_assert_eq!(left.encoded_2718(), right.encoded_2718());
                prop_assert_eq!(left.hash(), right.hash());
            }
        }
    }

    #[test]
    fn any_bytes_decode_to_a_batch_or_an_error(bytes in vec(any::<u8>(), 0..400)) {
        check_total(&bytes);
    }

    #[test]
    fn any_columns_decode_to_a_batch_or_an_error(batch in batch(), bytes in vec(any::<u8>(), 0..600)) {
        check_total(&with_columns(&batch.encode(1).unwrap(), &bytes));
    }

    #[test]
    fn changed_columns_decode_to_a_batch_or_an_error(
        batch in batch(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let encoded = batch.encode(1).unwrap();
        let mut columns = columns(&encoded);
        for (index, byte) in changes {
            let index = index.index(columns.len());
            columns[index] = byte;
        }
        check_total(&with_columns(&encoded, &columns));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let encoded = frozen_batch().encode(9).unwrap();
    for len in 0..encoded.len() {
        assert!(decode(&encoded[..len]).is_err(), "{len} bytes decoded");
    }
    let columns = columns(&encoded);
    for len in 0..columns.len() {
        assert!(
            decode(&with_columns(&encoded, &columns[..len])).is_err(),
            "{len} column bytes decoded"
        );
    }
}

#[test]
fn every_flipped_bit_gives_a_batch_or_an_error() {
    let encoded = frozen_batch().encode(9).unwrap();
    let columns = columns(&encoded);
    for bit in 0..encoded.len() * 8 {
        let mut flipped = encoded.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&flipped);
    }
    for bit in 0..columns.len() * 8 {
        let mut flipped = columns.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&with_columns(&encoded, &flipped));
    }
}

/// What a reader has to refuse, each in columns that are right but for it.
#[test]
fn other_forms_than_the_formats_are_refused() {
    let tx = TxLegacy { nonce: 5, gas_price: 7, gas_limit: 9, ..TxLegacy::default() };
    let signed = Signed::new_unhashed(tx, Signature::new(U256::ONE, U256::ONE, false));
    let block = BatchBlock {
        timestamp: 1,
        deposits_end: 3,
        transactions: vec![TxEnvelope::Legacy(signed)],
    };
    let batch = Batch { blocks: vec![block], ..frozen_batch() };
    let encoded = batch.encode(9).unwrap();
    let right = columns(&encoded);
    // Timestamp, deposits, count; type 5, nonce + 1; gas limit, fee: code and first byte; recipient: none; value: code; input: its end.
    assert_eq!(right, [1, 0, 1, 5, 6, 1, 9, 1, 7, 0, 0, 0x47]);
    let refused = |changed: &[u8]| match decode(&with_columns(&encoded, changed)) {
        Err(BatchDecodeError::Invalid { column, problem }) => (column, problem),
        other => panic!("{changed:?}: {other:?}"),
    };
    let changed = |at: usize, with: &[u8]| {
        let mut changed = right.clone();
        changed.splice(at..=at, with.iter().copied());
        refused(&changed)
    };
    use BatchColumn as Column;
    assert_eq!(changed(3, &[3]).0, Column::Types);
    assert_eq!(changed(4, &[0x86, 0]), (Column::Nonces, "integer with leading zeros"));
    assert_eq!(changed(5, &[0xff]).0, Column::GasLimits, "the same as nothing");
    assert_eq!(changed(5, &[0x40]), (Column::GasLimits, "unknown code"));
    assert_eq!(changed(5, &[33]), (Column::GasLimits, "unknown code"));
    assert_eq!(changed(6, &[0]), (Column::GasLimits, "a number with leading zeros"));
    for length in [0, 17] {
        let found = changed(5, &[0x41, length]);
        assert_eq!(found, (Column::GasLimits, "a mantissa of this length"));
    }
    assert_eq!(changed(5, &[0x66, 1]), (Column::GasLimits, "over 128 bits"));
    assert_eq!(changed(5, &[0x5a, 1]), (Column::GasLimits, "a number that is too large"));
    assert_eq!(changed(9, &[2]), (Column::Recipients, "no address has this position yet"));
    assert_eq!(changed(11, &[0x48]), (Column::InputTokens, "unknown kind"));

    let (header, frame, signatures) = parts(&encoded);
    let other = |frame: &[u8]| decode(&[header, frame, signatures].concat());
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    assert!(matches!(
        other(&skippable),
        Err(BatchDecodeError::Invalid { column: Column::Frame, .. })
    ));
    assert!(other(&[frame, frame].concat()).is_err());
    let mut streaming = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut streaming, &right).unwrap();
    let undeclared = streaming.finish().unwrap();
    assert!(matches!(
        other(&undeclared),
        Err(BatchDecodeError::Invalid { problem: "content size is not declared", .. })
    ));
    let dictionary = include_bytes!("../src/batch/dictionary/1.zdict");
    let mut named = zstd::bulk::Compressor::with_dictionary(1, dictionary).unwrap();
    let named = named.compress(&right).unwrap();
    assert!(matches!(other(&named), Err(BatchDecodeError::Invalid { column: Column::Frame, .. })));
}

/// One transaction with as many authorizations as a column of zeros can be said to hold.
#[test]
fn authorizations_are_counted_before_they_are_read() {
    let encoded = frozen_batch().encode(9).unwrap();
    let limits = BatchLimits { max_authorizations: 1, ..BatchLimits::default() };
    assert!(matches!(
        Batch::decode(&encoded, &limits),
        Err(BatchDecodeError::OverLimit { what: "authorizations", size: 2, limit: 1 })
    ));
}

/// Whoever makes transactions chooses their signatures too, and those of authorizations need not even be valid: what EIP-2718 has few bytes for, a
/// batch must not have many for. 780,284 bytes are six blobs'.
#[test]
fn the_largest_block_fits_six_blobs_whatever_it_is_made_of() {
    let mut seed = 0_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let words = (0..length.div_ceil(32)).flat_map(|_| {
            seed += 1;
            batch_digest(&seed.to_be_bytes()).0
        });
        words.take(length).collect()
    };
    for (authorizations, input, tiny) in
        [(300, 90_000, false), (0, 0, true), (0, 300, true), (1, 0, true)]
    {
        let (mut transactions, mut bytes) = (Vec::new(), 0);
        loop {
            let authorization = |address: Vec<u8>| {
                let address = Address::from_slice(&address);
                let inner = Authorization { chain_id: U256::ZERO, address, nonce: 0 };
                SignedAuthorization::new_unchecked(inner, 0, U256::ZERO, U256::ZERO)
            };
            let tx = TxEip7702 {
                chain_id: CHAIN_ID,
                nonce: bytes as u64 * 7,
                gas_limit: 21_000 + bytes as u64,
                max_fee_per_gas: 1_000_000_007 + bytes as u128,
                to: Address::from_slice(&noise(20)),
                authorization_list: (0..authorizations).map(|_| authorization(noise(20))).collect(),
                input: noise(input).into(),
                ..TxEip7702::default()
            };
            let signature = match tiny {
                true => Signature::new(U256::ONE, U256::ONE, false),
                false => Signature::new(U256::MAX, U256::MAX >> 1, true),
            };
            let tx = TxEnvelope::Eip7702(Signed::new_unhashed(tx, signature));
            bytes += RecoveredTx::new_unchecked(tx.clone(), Address::ZERO).batch_bytes();
            if bytes > millrace_proto::MAX_BLOCK_TX_BYTES {
                break;
            }
            transactions.push(tx);
        }
        let block = BatchBlock { timestamp: 1, deposits_end: 3, transactions };
        let encoded = Batch { blocks: vec![block], ..frozen_batch() }.encode(1).unwrap();
        assert!(encoded.len() <= 780_284, "{authorizations} {input} {tiny}: {}", encoded.len());
    }
}

#[test]
fn trailing_bytes_are_errors() {
    let encoded = frozen_batch().encode(9).unwrap();
    let after = |encoded: &[u8]| match decode(encoded) {
        Err(BatchDecodeError::TrailingBytes { after, count: 1 }) => after,
        other => panic!("{other:?}"),
    };
    assert_eq!(after(&[&encoded[..], &[0]].concat()), BatchColumn::Signatures);

    let longer = with_columns(&encoded, &[&columns(&encoded)[..], &[0]].concat());
    assert_eq!(after(&longer), BatchColumn::Addresses);
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    let encoded = frozen_batch().encode(9).unwrap();
    let refused = |limits: BatchLimits| match Batch::decode(&encoded, &limits) {
        Err(BatchDecodeError::OverLimit { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let limits = BatchLimits::default();
    assert_eq!(refused(BatchLimits { max_encoded: encoded.len() - 1, ..limits }), "bytes");
    assert_eq!(refused(BatchLimits { max_blocks: 2, ..limits }), "blocks");
    assert_eq!(refused(BatchLimits { max_transactions: 5, ..limits }), "transactions");
    assert_eq!(
        refused(BatchLimits { max_access_list_entries: 1, ..limits }),
        "access list entries"
    );
    let decoded = columns(&encoded).len();
    assert_eq!(refused(BatchLimits { max_decoded: decoded - 1, ..limits }), "column bytes");
    assert!(Batch::decode(&encoded, &BatchLimits { max_decoded: 2 * decoded, ..limits }).is_ok());
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_refused_before_they_are_believed() {
    let encoded = frozen_batch().encode(9).unwrap();
    let mut columns = columns(&encoded);
    // Three blocks: one-byte steps but for the first timestamp, which takes five bytes; then the
    // counts.
    let counts = 5 + 2 + 3;
    assert_eq!(&columns[counts..counts + 3], [2, 0, 4]);
    columns
        .splice(counts..counts + 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert!(matches!(
        decode(&with_columns(&encoded, &columns)),
        Err(BatchDecodeError::Invalid { column: BatchColumn::TransactionCounts, .. })
    ));
}

#[test]
fn foreign_headers_are_told_apart() {
    let encoded = frozen_batch().encode(9).unwrap();
    let with = |index: usize, byte: u8| {
        let mut bytes = encoded.to_vec();
        bytes[index] = byte;
        decode(&bytes)
    };
    assert!(matches!(with(0, 1), Err(BatchDecodeError::Version(1))));
    assert!(matches!(with(1, 2), Err(BatchDecodeError::PayloadKind(2))));
    assert!(matches!(with(2, 9), Err(BatchDecodeError::Dictionary(9))));
    assert!(matches!(
        decode(&[]),
        Err(BatchDecodeError::Truncated { column: BatchColumn::Header, missing: 1 })
    ));
}

#[test]
fn what_batches_do_not_hold_is_refused() {
    let problem = |change: fn(&mut Batch)| {
        let mut batch = frozen_batch();
        change(&mut batch);
        match batch.encode(9) {
            Err(
                BatchEncodeError::Transaction { problem, .. }
                | BatchEncodeError::Block { problem, .. },
            ) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(problem(|batch| batch.chain_id += 1), "it is signed for another chain");
    assert_eq!(problem(|batch| batch.blocks[2].timestamp = 1), "its timestamp goes back");
    assert_eq!(problem(|batch| batch.blocks[2].deposits_end = 1), "its deposits end goes back");
    assert_eq!(problem(|batch| batch.first_block = 0), "it is the genesis block");
    assert_eq!(
        problem(|batch| {
            let blob = Signed::new_unhashed(TxEip4844::default(), Signature::test_signature());
            batch.blocks[1].transactions.push(TxEnvelope::Eip4844(blob));
        }),
        "a batch holds no blob transactions"
    );
    assert_eq!(
        problem(|batch| batch.blocks[1].transactions.push(deposit(4).to_tx(Address::ZERO).into())),
        "deposits come from L1, not from batches"
    );
    assert_eq!(
        problem(|batch| {
            let high = Signature::new(U256::ONE, U256::ONE << 255, false);
            let tx = Signed::new_unhashed(TxLegacy::default(), high);
            batch.blocks[1].transactions.push(TxEnvelope::Legacy(tx));
        }),
        "its signature's s is over half of the group's order, which EIP-2 forbids"
    );
    let empty = Batch { blocks: Vec::new(), ..frozen_batch() };
    assert!(matches!(empty.encode(9), Err(BatchEncodeError::Empty)));
}

fn deposit(index: u64) -> Deposit {
    let [from, to] = [1, 2].map(Address::repeat_byte);
    Deposit { index, from, to, value: U256::from(index), gas_limit: 100_000, data: Bytes::new() }
}

/// Consecutive blocks, each with some deposits and one signed transaction.
fn executed(deposits: &[u64], parent: B256) -> Vec<Arc<ExecutedBlock>> {
    let (mut parent_hash, mut deposits_end) = (parent, 10);
    deposits
        .iter()
        .enumerate()
        .map(|(index, consumed)| {
            let mut transactions: Vec<TxEnvelope> = (deposits_end..deposits_end + consumed)
                .map(|index| deposit(index).to_tx(Address::ZERO).into())
                .collect();
            transactions.push(frozen_batch().blocks[0].transactions[0].clone());
            deposits_end += consumed;
            let header = Header {
                number: 5 + index as u64,
                parent_hash,
                timestamp: 100 + index as u64 / 2,
                extra_data: HeaderExtra { deposits_end }.encode(),
                state_root: B256::with_last_byte(index as u8),
                ..Header::default()
            }
            .seal_slow();
            parent_hash = header.seal();
            let receipt = EthereumReceipt {
                tx_type: TxType::Legacy,
                success: true,
                cumulative_gas_used: 21_000,
                logs: Vec::new(),
            };
            Arc::new(ExecutedBlock {
                header,
                receipts: vec![receipt; transactions.len()],
                transactions: transactions
                    .into_iter()
                    .map(|tx| Arc::new(RecoveredTx::new_unchecked(tx, Address::ZERO)))
                    .collect(),
            })
        })
        .collect()
}

#[test]
fn a_batch_of_executed_blocks_holds_what_l1_does_not() {
    let parent = B256::repeat_byte(7);
    let blocks = executed(&[2, 0, 1], parent);
    let batch = Batch::from_blocks(CHAIN_ID, 10, parent, &blocks).unwrap();
    assert_eq!((batch.first_block, batch.last_block()), (5, 7));
    assert_eq!((batch.deposits_start, batch.deposits_end()), (10, 13));
    assert_eq!(batch.last_block_hash, blocks[2].hash());
    assert_eq!(batch.transaction_count(), 3);
    let times: Vec<_> =
        batch.blocks.iter().map(|block| (block.timestamp, block.deposits_end)).collect();
    assert_eq!(times, [(100, 12), (100, 12), (101, 13)]);

    let refused = |start, parent, blocks: &[_]| {
        Batch::from_blocks(CHAIN_ID, start, parent, blocks).unwrap_err()
    };
    assert!(matches!(refused(10, parent, &[]), BatchEncodeError::Empty));
    assert!(matches!(refused(9, parent, &blocks), BatchEncodeError::Block { number: 5, .. }));
    assert!(matches!(refused(10, B256::ZERO, &blocks), BatchEncodeError::Block { number: 5, .. }));
    let gap = [blocks[0].clone(), blocks[2].clone()];
    assert!(matches!(refused(10, parent, &gap), BatchEncodeError::Block { number: 7, .. }));
}

/// A call with a word of every kind, one of them a call with a word, and a few bytes after them.
fn every_word(address: Address) -> Vec<u8> {
    let number = |number: u128| U256::from(number).to_be_bytes::<32>();
    let mut padded = [0; 32];
    padded[..9].copy_from_slice(b"some text");
    let words = [
        number(0),
        number(7),
        number(1 << 50),
        number(25 * 10_u128.pow(18)),
        address.into_word().0,
        padded,
        [0xab; 32],
        [0xff; 32],
        number(36),
    ];
    let nested = [[1, 2, 3, 4].as_slice(), &number(300), &[0; 28]].concat();
    [[0xa9, 0x05, 0x9c, 0xbb].as_slice(), &words.concat(), &nested, &[5, 6, 7]].concat()
}

/// A call whose arguments are not words.
fn sparse_bytes() -> Vec<u8> {
    let bytes = |length: usize| (1..=length as u8).collect::<Vec<_>>();
    [bytes(4), vec![0; 9], bytes(2), vec![0; 3], bytes(12), vec![0; 61], bytes(20), vec![0; 2]]
        .concat()
}

/// A batch with every kind of transaction, of which the fixture holds the bytes.
fn frozen_batch() -> Batch {
    let signature = |n: u64| Signature::new(U256::from(n) << 200, U256::from(n) << 100, n % 2 == 1);
    let token = address!("00000000000000000000000000000000000070c3");
    let access_list = AccessList(vec![
        AccessListItem {
            address: token,
            storage_keys: vec![B256::with_last_byte(1), B256::with_last_byte(2)],
        },
        AccessListItem { address: Address::repeat_byte(0x33), storage_keys: Vec::new() },
    ]);
    let legacy = |chain_id, nonce, to, n| {
        let tx = TxLegacy {
            chain_id,
            nonce,
            gas_price: 2_000_000_000,
            gas_limit: 21_000,
            to,
            value: U256::from(1_000_000_000_000_000_000u64),
            input: Bytes::new(),
        };
        TxEnvelope::Legacy(Signed::new_unhashed(tx, signature(n)))
    };
    let eip2930 = TxEip2930 {
        chain_id: CHAIN_ID,
        nonce: 300,
        gas_price: u128::MAX,
        gas_limit: 90_000,
        to: TxKind::Call(token),
        value: U256::ZERO,
        access_list: access_list.clone(),
        input: every_word(token).into(),
    };
    let eip1559 = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce: 7,
        gas_limit: 1_000_000,
        max_fee_per_gas: 3_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Create,
        value: U256::MAX,
        access_list: AccessList::default(),
        input: Bytes::from_static(&[0x60, 0x80, 0x60, 0x40]),
    };
    let authorization = |chain_id: u64, nonce, parity, n: u64| {
        let inner = Authorization { chain_id: U256::from(chain_id), address: token, nonce };
        SignedAuthorization::new_unchecked(inner, parity, U256::from(n), U256::MAX - U256::from(n))
    };
    let eip7702 = TxEip7702 {
        chain_id: CHAIN_ID,
        nonce: u64::MAX,
        gas_limit: 200_000,
        max_fee_per_gas: 5,
        max_priority_fee_per_gas: 4,
        to: Address::repeat_byte(0x44),
        value: U256::from(255),
        access_list,
        authorization_list: vec![authorization(0, 1, 1, 8), authorization(CHAIN_ID, 0, 27, 9)],
        input: sparse_bytes().into(),
    };
    let call = TxKind::Call(Address::repeat_byte(0x22));
    Batch {
        chain_id: CHAIN_ID,
        first_block: 41,
        parent_hash: b256!("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        deposits_start: 3,
        last_block_hash: B256::repeat_byte(0xbb),
        blocks: vec![
            BatchBlock {
                timestamp: 1_900_000_000,
                deposits_end: 5,
                transactions: vec![
                    legacy(Some(CHAIN_ID), 0, call, 1),
                    legacy(None, 1, TxKind::Create, 2),
                ],
            },
            BatchBlock { timestamp: 1_900_000_000, deposits_end: 5, transactions: Vec::new() },
            BatchBlock {
                timestamp: 1_900_000_002,
                deposits_end: 6,
                transactions: vec![
                    TxEnvelope::Eip2930(Signed::new_unhashed(eip2930, signature(3))),
                    TxEnvelope::Eip1559(Signed::new_unhashed(eip1559, signature(4))),
                    TxEnvelope::Eip7702(Signed::new_unhashed(eip7702, signature(5))),
                    legacy(Some(CHAIN_ID), 2, call, 6),
                ],
            },
        ],
    }
}

#[test]
fn a_batch_is_read_with_the_dictionary_that_it_was_made_with() {
    let batch = frozen_batch();
    let text = b"some bytes that are in no dictionary, but in this one".repeat(20);
    let dictionary =
        BatchDictionary::new(200, [text.as_slice(), &batch.columns().unwrap()].concat());
    let encoded = batch.encode_with(19, &dictionary).unwrap();
    assert!(encoded.len() + 40 < batch.encode(19).unwrap().len());
    assert!(matches!(decode(&encoded), Err(BatchDecodeError::Dictionary(200))));
    let decode = |dictionary| Batch::decode_with(&encoded, dictionary, &BatchLimits::default());
    assert_eq!(decode(&dictionary).unwrap(), batch);
    assert!(
        decode(&BatchDictionary::new(200, text)).is_err_and(|error| !error.to_string().is_empty())
    );
}

/// A kind of one byte stands for a word of 32, and a run of zeros for any number of them.
#[test]
fn inputs_that_are_larger_than_their_tokens_are_refused_before_they_are_made() {
    let mut batch = frozen_batch();
    let TxEnvelope::Eip1559(tx) = &batch.blocks[2].transactions[1] else { panic!() };
    let mut tx = tx.tx().clone();
    tx.to = TxKind::Call(Address::ZERO);
    tx.input = vec![0; (1 << 20) + 4].into();
    let signed = Signed::new_unhashed(tx, Signature::new(U256::ONE, U256::ONE, false));
    batch.blocks[2].transactions[1] = TxEnvelope::Eip1559(signed);
    let encoded = batch.encode(9).unwrap();
    assert!(encoded.len() < 2_000);
    let limits = BatchLimits::default();
    assert_eq!(Batch::decode(&encoded, &limits).unwrap(), batch);
    let limits = BatchLimits { max_decoded: 1 << 20, ..limits };
    assert!(matches!(
        Batch::decode(&encoded, &limits),
        Err(BatchDecodeError::OverLimit { what: "bytes of inputs and keys", .. })
    ));
}

/// Version 2 never changes, nor does a dictionary: what was posted must be readable for ever. (The compressed frame alone
/// may differ with another zstd.)
#[test]
fn version_2_is_frozen() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/batch-v2.bin");
    let encoded = frozen_batch().encode(9).unwrap();
    let fixture = std::fs::read(path).unwrap();
    assert_eq!(
        batch_digest(&fixture),
        b256!("61268806ec57301e51b76566d931d0cece2ac0e2baee93c39c1d5ff527116046"),
        "the fixture itself was changed"
    );
    assert_eq!(
        batch_digest(include_bytes!("../src/batch/dictionary/1.zdict")),
        b256!("c62ba3ae9e11f208738cbb094ee7562897be144c69f26701a6521f5a341d87a1"),
        "the dictionary was changed"
    );
    assert_eq!(decode(&fixture).unwrap(), frozen_batch());
    let ((header, _, signatures), new) = (parts(&fixture), parts(&encoded));
    assert_eq!((header, signatures), (new.0, new.2));
    assert_eq!(columns(&fixture), columns(&encoded));
}
