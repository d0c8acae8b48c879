//! The batch codec: decode(encode(x)) is x for every kind of transaction, decoding is total, and
//! version 1 is frozen.

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
    Batch, BatchBlock, BatchColumn, BatchDecodeError, BatchEncodeError, BatchLimits, Deposit,
    ExecutedBlock, HeaderExtra, RecoveredTx, TxEnvelope, TxType, batch_digest,
};
use proptest::{collection::vec, option, prelude::*};

const CHAIN_ID: u64 = 7_077;
const HEADER_LEN: usize = 138;

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

fn input() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..120).prop_map(Bytes::from)
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
    (word(), word(), any::<bool>()).prop_map(|(r, s, v)| Signature::new(r, s, v))
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
        first_block in prop_oneof![1..1_000u64, Just(u64::MAX - 100)],
        hashes in any::<[[u8; 32]; 3]>(),
        (start, time) in (0..1_000_000u64, any::<u32>()),
        steps in vec((0..3u64, 0..5u64, vec(transaction(), 0..8)), 1..8),
    ) -> Batch {
        let (mut timestamp, mut deposits_end) = (u64::from(time), start);
        let [parent_hash, last_block_hash, state_root] = hashes.map(B256::from);
        Batch {
            chain_id: CHAIN_ID,
            first_block,
            parent_hash,
            deposits_start: start,
            last_block_hash,
            state_root,
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

fn frame_len(encoded: &[u8]) -> usize {
    u32::from_be_bytes(encoded[HEADER_LEN - 4..HEADER_LEN].try_into().unwrap()) as usize
}

fn columns(encoded: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(&encoded[HEADER_LEN..HEADER_LEN + frame_len(encoded)], 1 << 24).unwrap()
}

fn signatures(encoded: &[u8]) -> &[u8] {
    &encoded[HEADER_LEN + frame_len(encoded)..]
}

/// The batch with other columns.
fn with_columns(encoded: &[u8], columns: &[u8]) -> Vec<u8> {
    let frame = zstd::bulk::compress(columns, 1).unwrap();
    let mut out = encoded[..HEADER_LEN - 4].to_vec();
    out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    out.extend_from_slice(&frame);
    out.extend_from_slice(signatures(encoded));
    out
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

#[test]
fn trailing_bytes_are_errors() {
    let encoded = frozen_batch().encode(9).unwrap();
    let after = |encoded: &[u8]| match decode(encoded) {
        Err(BatchDecodeError::TrailingBytes { after, count: 1 }) => after,
        other => panic!("{other:?}"),
    };
    assert_eq!(after(&[&encoded[..], &[0]].concat()), BatchColumn::Signatures);

    let longer = with_columns(&encoded, &[&columns(&encoded)[..], &[0]].concat());
    assert_eq!(after(&longer), BatchColumn::AuthorizationParities);

    let mut framed = encoded.to_vec();
    let len = frame_len(&encoded);
    framed.insert(HEADER_LEN + len, 0);
    framed[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&(len as u32 + 1).to_be_bytes());
    assert_eq!(after(&framed), BatchColumn::Frame);
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
    assert!(Batch::decode(&encoded, &BatchLimits { max_decoded: decoded, ..limits }).is_ok());
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
    assert!(matches!(with(0, 0), Err(BatchDecodeError::Magic)));
    assert!(matches!(with(4, 2), Err(BatchDecodeError::Version(2))));
    assert!(matches!(with(5, 2), Err(BatchDecodeError::PayloadKind(2))));
    assert!(matches!(
        decode(&[]),
        Err(BatchDecodeError::Truncated { column: BatchColumn::Header, missing: 4 })
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
    assert_eq!(batch.state_root, B256::with_last_byte(2));
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
        input: Bytes::from_static(&[0xa9, 0x05, 0x9c, 0xbb, 0, 0, 0, 1]),
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
        input: Bytes::new(),
    };
    let call = TxKind::Call(Address::repeat_byte(0x22));
    Batch {
        chain_id: CHAIN_ID,
        first_block: 41,
        parent_hash: b256!("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        deposits_start: 3,
        last_block_hash: B256::repeat_byte(0xbb),
        state_root: B256::repeat_byte(0xcc),
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

/// Version 1 never changes: what was posted must be readable for ever. (The compressed frame alone
/// may differ with another zstd.)
#[test]
fn version_1_is_frozen() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/batch-v1.bin");
    let encoded = frozen_batch().encode(9).unwrap();
    let fixture = std::fs::read(path).unwrap();
    assert_eq!(
        batch_digest(&fixture),
        b256!("91d4e9304776be21f21976a916f00e4a30e178241fb5d72fb33b1c3b35a691c0"),
        "the fixture itself was changed"
    );
    assert_eq!(decode(&fixture).unwrap(), frozen_batch());
    assert_eq!(fixture[..HEADER_LEN - 4], encoded[..HEADER_LEN - 4]);
    assert_eq!(columns(&fixture), columns(&encoded));
    assert_eq!(signatures(&fixture), signatures(&encoded));
}
