use super::*;

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
pub(super) fn frozen_batch() -> Batch {
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
    let known = include_bytes!("../../src/batch/dictionary/1.zdict").to_vec();
    let dictionary =
        BatchDictionary::new(200, [known.as_slice(), &batch.columns().unwrap()].concat());
    let encoded = batch.encode_with(19, &dictionary).unwrap();
    assert!(encoded.len() + 40 < batch.encode(19).unwrap().len());
    assert!(matches!(decode(&encoded), Err(BatchDecodeError::Dictionary(200))));
    let decode = |dictionary| Batch::decode_with(&encoded, dictionary, &BatchLimits::default());
    assert_eq!(decode(&dictionary).unwrap(), batch);
    assert!(
        decode(&BatchDictionary::new(200, known)).is_err_and(|error| !error.to_string().is_empty())
    );
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
        batch_digest(include_bytes!("../../src/batch/dictionary/1.zdict")),
        b256!("c62ba3ae9e11f208738cbb094ee7562897be144c69f26701a6521f5a341d87a1"),
        "the dictionary was changed"
    );
    assert_eq!(decode(&fixture).unwrap(), frozen_batch());
    let ((header, _, signatures), new) = (parts(&fixture), parts(&encoded));
    assert_eq!((header, signatures), (new.0, new.2));
    assert_eq!(columns(&fixture), columns(&encoded));
}
