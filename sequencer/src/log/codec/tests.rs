use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    primitives::{Signature, TxHash, TxKind, hex},
};
use millrace_proto::{Deposit, QueueMark, QueuedTxs, RejectReason, TxEnvelope};
use proptest::prelude::*;

use super::*;

fn tx(nonce: u64, input: Vec<u8>, sender: Address) -> Arc<RecoveredTx> {
    let tx = TxEip1559 {
        chain_id: 7,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 9,
        to: TxKind::Call(Address::repeat_byte(0x11)),
        input: input.into(),
        ..TxEip1559::default()
    };
    let tx = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
    Arc::new(RecoveredTx::new_unchecked(tx, sender))
}

fn deposit() -> Arc<RecoveredTx> {
    let deposit = Deposit {
        index: 3,
        from: Address::repeat_byte(0x22),
        to: Address::repeat_byte(0x33),
        value: U256::from(5),
        gas_limit: 100_000,
        data: Bytes::new(),
    };
    let tx = TxEnvelope::from(deposit.to_tx(Address::repeat_byte(0x44)));
    Arc::new(RecoveredTx::new_unchecked(tx, deposit.from))
}

const AT: Duration = Duration::from_millis(1_700_000_000_123);

/// One record of each kind, as version 3 writes it.
fn fixtures() -> [(Record, &'static str); 6] {
    let earlier = Some(AT - Duration::from_millis(299));
    let times = BlockTimes {
        sealed_at: Some(AT + Duration::from_millis(50)),
        accepted_at: vec![None, Some(AT), earlier],
    };
    let accepted_at = || vec![Some(AT)];
    let plain = tx(1, vec![], Address::repeat_byte(0xaa));
    let hash = B256::repeat_byte(0xbb);
    let reason = RejectReason::NonceTooLow { got: 1, expected: 2 };
    let dropped = DroppedTx {
        tx: plain.clone(),
        reason,
        at: Duration::from_millis(1_234),
        accepted_at: Some(Duration::from_secs(1)),
    };
    [
        (
            Record::Pooled { txs: vec![plain.clone()], accepted_at: accepted_at() },
            include_str!("../fixtures/pooled.hex"),
        ),
        (
            Record::BlockOpened(BlockOpened {
                number: 8,
                parent_hash: hash,
                timestamp: 1_700_000_000,
                queued: QueuedTxs {
                    mark: QueueMark { end: 4, hash: B256::repeat_byte(0xcc), forced: 0 },
                    txs: vec![deposit()],
                },
            }),
            include_str!("../fixtures/block_opened.hex"),
        ),
        (
            Record::Frame { block: 8, txs: vec![plain.clone()], accepted_at: accepted_at() },
            include_str!("../fixtures/frame.hex"),
        ),
        (
            Record::BlockUnwound {
                number: 8,
                hash: Some(hash),
                txs: vec![plain],
                accepted_at: accepted_at(),
            },
            include_str!("../fixtures/block_unwound.hex"),
        ),
        (
            Record::BlockSealed { number: 8, hash, returned: vec![TxHash::repeat_byte(1)], times },
            include_str!("../fixtures/block_sealed.hex"),
        ),
        (Record::Dropped { txs: vec![dropped] }, include_str!("../fixtures/dropped.hex")),
    ]
}

#[test]
fn records_are_frozen() {
    for (record, frozen) in fixtures() {
        assert_eq!(hex::encode(encode(&record)), frozen.trim(), "{}", record.kind());
        let bytes = hex::decode(frozen.trim()).expect("a fixture is hex");
        assert_eq!(decode(bytes).expect("a fixture decodes"), record);
    }
}

/// Without the times that version 2 did not have.
fn without_times(mut record: Record) -> Record {
    match &mut record {
        Record::Pooled { accepted_at, .. }
        | Record::Frame { accepted_at, .. }
        | Record::BlockUnwound { accepted_at, .. } => accepted_at.clear(),
        Record::BlockSealed { times, .. } => *times = BlockTimes::default(),
        Record::Dropped { txs } => txs.iter_mut().for_each(|dropped| dropped.accepted_at = None),
        Record::BlockOpened(_) => {}
    }
    record
}

#[test]
fn what_version_2_wrote_is_read_without_times() {
    let frozen = [
        include_str!("../fixtures/v2/pooled.hex"),
        include_str!("../fixtures/v2/block_opened.hex"),
        include_str!("../fixtures/v2/frame.hex"),
        include_str!("../fixtures/v2/block_unwound.hex"),
        include_str!("../fixtures/v2/block_sealed.hex"),
        include_str!("../fixtures/v2/dropped.hex"),
    ];
    for ((record, _), frozen) in fixtures().into_iter().zip(frozen) {
        let bytes = hex::decode(frozen.trim()).expect("a fixture is hex");
        assert_eq!(decode(bytes).expect("a fixture decodes"), without_times(record));
    }
}

#[test]
fn a_transactions_time_takes_a_byte_or_two() {
    let txs: Vec<_> = (0..100).map(|nonce| tx(nonce, vec![], Address::ZERO)).collect();
    let record = |accepted_at| encode(&Record::Frame { block: 1, txs: txs.clone(), accepted_at });
    let without = record(Vec::new()).len();
    assert_eq!(record(vec![Some(AT); 100]).len() - without, 8 + 100);
    let spread = |n: u64| Some(AT - Duration::from_millis(160 * n));
    assert!(record((0..100).map(spread).collect()).len() - without <= 8 + 2 * 100);
}

#[test]
fn malformed_times_are_refused() {
    let record = |times: &[u8]| {
        // A frame of block 1 without transactions, and times.
        let head = [3, FRAME, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        decode([&head[..], times].concat())
    };
    let base = AT.as_millis() as u64;
    let times =
        |base: u64, rest: &[u8]| record(&[&[0, 0, 0, 1][..], &base.to_be_bytes(), rest].concat());
    assert!(times(base, &[1]).is_ok());
    // None is the latest; before 1970; a number in another form, and one of more than 64 bits.
    assert!(matches!(times(base, &[2]), Err(CodecError::Times)));
    assert!(matches!(times(base, &[0]), Err(CodecError::Times)));
    assert!(matches!(times(3, &[5]), Err(CodecError::Times)));
    assert!(matches!(times(base, &[0x81, 0]), Err(CodecError::Number)));
    let long = [&[0xff; 9][..], &[2]].concat();
    assert!(matches!(times(base, &long), Err(CodecError::Number)));
    assert!(matches!(record(&[0xff; 4]), Err(CodecError::Truncated { .. })));
}

#[test]
fn every_cut_and_every_extra_byte_is_an_error() {
    for (record, _) in fixtures() {
        let whole = encode(&record);
        for len in 0..whole.len() {
            assert!(decode(whole[..len].to_vec()).is_err(), "{} of {len} bytes", record.kind());
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(decode(longer), Err(CodecError::TrailingBytes(1))));
    }
}

#[test]
fn what_is_not_known_is_named() {
    assert!(matches!(decode(vec![9, 1]), Err(CodecError::UnknownVersion(9))));
    assert!(matches!(decode(vec![3, 9]), Err(CodecError::UnknownKind(9))));
    // A list of 2^32 - 1 transactions in no bytes.
    assert!(matches!(
        decode(vec![3, 1, 0xff, 0xff, 0xff, 0xff]),
        Err(CodecError::Truncated { .. })
    ));
}

fn reasons() -> impl Strategy<Value = RejectReason> {
    use RejectReason as R;
    let hash = || any::<[u8; 32]>().prop_map(B256::from);
    let address = || any::<[u8; 20]>().prop_map(Address::from);
    let amount = || any::<[u8; 32]>().prop_map(U256::from_be_bytes::<32>);
    let fees = any::<(u128, u128)>();
    let pair = any::<(u64, u64)>();
    prop_oneof![
        any::<String>().prop_map(|detail| R::BadEncoding { detail }),
        pair.prop_map(|(size, limit)| R::Oversize { size, limit }),
        any::<u8>().prop_map(|ty| R::UnsupportedType { ty }),
        pair.prop_map(|(got, expected)| R::WrongChainId { got, expected }),
        Just(R::Unprotected),
        any::<String>().prop_map(|detail| R::BadSignature { detail }),
        pair.prop_map(|(got, expected)| R::NonceTooLow { got, expected }),
        any::<(u64, u64, u64)>().prop_map(|(got, expected, limit)| R::NonceTooFar {
            got,
            expected,
            limit
        }),
        any::<u128>().prop_map(|required| R::Underpriced { required }),
        (address(), amount(), amount())
            .prop_map(|(sender, balance, cost)| { R::InsufficientFunds { sender, balance, cost } }),
        fees.prop_map(|(got, floor)| R::FeeBelowFloor { got, floor }),
        (fees, any::<u128>()).prop_map(|((got, floor), data_fee)| R::TipBelowFloor {
            got,
            floor,
            data_fee
        }),
        fees.prop_map(|(tip, max_fee)| R::TipAboveMaxFee { tip, max_fee }),
        pair.prop_map(|(got, limit)| R::GasOverLimit { got, limit }),
        pair.prop_map(|(got, required)| R::IntrinsicGas { got, required }),
        pair.prop_map(|(size, limit)| R::InitCodeTooLarge { size, limit }),
        address().prop_map(|sender| R::SenderIsContract { sender }),
        any::<String>().prop_map(|detail| R::Invalid { detail }),
        hash().prop_map(|hash| R::AlreadyKnown { hash }),
        any::<u64>().prop_map(|limit| R::PoolFull { limit }),
        any::<u64>().prop_map(|limit| R::SourceLimit { limit }),
        hash().prop_map(|by| R::Replaced { by }),
        Just(R::Expired),
        Just(R::Evicted),
    ]
}

fn txs() -> impl Strategy<Value = Vec<Arc<RecoveredTx>>> {
    let one = (any::<u64>(), any::<Vec<u8>>(), any::<[u8; 20]>())
        .prop_map(|(nonce, input, sender)| tx(nonce, input, sender.into()));
    prop::collection::vec(one, 0..4)
}

/// Of none, or of some of which one at least is known.
fn times() -> impl Strategy<Value = AcceptTimes> {
    let one = any::<Option<u64>>().prop_map(|at| at.map(Duration::from_millis));
    prop::collection::vec(one, 0..5).prop_map(|times| match times.iter().any(Option::is_some) {
        true => times,
        false => Vec::new(),
    })
}

/// One that is no 0.
fn time() -> impl Strategy<Value = Option<Duration>> {
    any::<Option<u64>>().prop_map(|at| at.filter(|at| *at > 0).map(Duration::from_millis))
}

fn records() -> impl Strategy<Value = Record> {
    let dropped =
        (txs(), reasons(), any::<u32>(), time()).prop_map(|(txs, reason, at, accepted_at)| {
            let at = Duration::from_millis(at.into());
            let drop = |tx| DroppedTx { tx, reason: reason.clone(), at, accepted_at };
            Record::Dropped { txs: txs.into_iter().map(drop).collect() }
        });
    let hashes = prop::collection::vec(any::<[u8; 32]>().prop_map(B256::from), 0..4);
    prop_oneof![
        (txs(), times()).prop_map(|(txs, accepted_at)| Record::Pooled { txs, accepted_at }),
        (any::<u64>(), txs(), times()).prop_map(|(block, txs, accepted_at)| Record::Frame {
            block,
            txs,
            accepted_at
        }),
        (any::<u64>(), any::<Option<[u8; 32]>>(), txs(), times()).prop_map(
            |(number, hash, txs, accepted_at)| Record::BlockUnwound {
                number,
                hash: hash.map(B256::from),
                txs,
                accepted_at,
            }
        ),
        (any::<[u64; 3]>(), any::<[u8; 32]>(), any::<u32>(), txs()).prop_map(|parts| {
            let ([number, timestamp, end], hash, forced, txs) = parts;
            let parent_hash = hash.into();
            let mark = QueueMark { end, hash: parent_hash, forced };
            Record::BlockOpened(BlockOpened {
                number,
                parent_hash,
                timestamp,
                queued: QueuedTxs { mark, txs },
            })
        }),
        (any::<u64>(), any::<[u8; 32]>(), hashes, time(), times()).prop_map(
            |(number, hash, returned, sealed_at, accepted_at)| Record::BlockSealed {
                number,
                hash: hash.into(),
                returned,
                times: BlockTimes { sealed_at, accepted_at },
            }
        ),
        dropped,
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_decodes(record in records()) {
        prop_assert_eq!(decode(encode(&record)).expect("it was encoded"), record);
    }

    #[test]
    fn anything_else_is_an_error_and_no_panic(mut bytes in any::<Vec<u8>>()) {
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        if let Ok(record) = decode(bytes.clone()) {
            prop_assert_eq!(encode(&record), bytes);
        }
    }

    #[test]
    fn damage_is_never_a_panic(record in records(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = encode(&record);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Most damage is an error; some gives another record.
        let _ = decode(bytes);
    }
}
