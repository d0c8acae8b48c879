use super::*;

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
    let dictionary = include_bytes!("../../src/batch/dictionary/1.zdict");
    let mut named = zstd::bulk::Compressor::with_dictionary(1, dictionary).unwrap();
    let named = named.compress(&right).unwrap();
    assert!(matches!(other(&named), Err(BatchDecodeError::Invalid { column: Column::Frame, .. })));
    let mut summed = zstd::bulk::Compressor::with_dictionary(1, dictionary).unwrap();
    summed.include_dictid(false).unwrap();
    summed.include_checksum(true).unwrap();
    let summed = summed.compress(&right).unwrap();
    assert!(matches!(other(&summed), Err(BatchDecodeError::Invalid { column: Column::Frame, .. })));
}

/// zstd's decoder for processors with BMI2 takes this frame, its plain one does not: a stream of its literals does not end where it should.
#[test]
fn a_frame_that_is_right_for_some_processors_only_is_refused() {
    let encoded = frozen_batch().encode(9).unwrap();
    let (header, _, signatures) = parts(&encoded);
    let frame = include_bytes!("../fixtures/malformed-huffman.zst");
    let error = decode(&[header, frame, signatures].concat()).unwrap_err();
    assert!(matches!(error, BatchDecodeError::Compression(_)), "{error}");
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
    for kind in [0, 2, 4] {
        assert!(
            matches!(with(1, kind), Err(BatchDecodeError::PayloadKind(found)) if found == kind)
        );
    }
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
