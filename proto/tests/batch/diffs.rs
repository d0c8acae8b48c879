use std::collections::BTreeMap;

use alloy::primitives::{KECCAK256_EMPTY, Log, LogData, keccak256};
use millrace_proto::{
    AccountDelta, AccountDiff, AccountInfo, AccountNames, AddressPrefix, BatchPayload, ChainSpec,
    Change, DiffBatch, KeyHints, MESSAGE_COUNT_SLOT, MESSAGE_PASSER, NameError, NamedDelta,
    SlotDiff, StateDelta, StateDiff, message_slot,
};
use proptest::collection::btree_map;

use super::{
    made::{number, recipient, word},
    names::named,
    parts::{columns, with_columns},
    *,
};

pub(super) fn decode_diffs(encoded: &[u8]) -> Result<DiffBatch<NamedDelta>, BatchDecodeError> {
    DiffBatch::decode(encoded, &BatchLimits::default())
}

/// A batch that names nobody.
fn decode_told(encoded: &[u8]) -> DiffBatch {
    decode_diffs(encoded).unwrap().resolve(&[]).unwrap()
}

pub(super) fn encode(batch: &DiffBatch) -> Bytes {
    batch.encode(9, &KeyHints::default(), &AccountNames::default()).unwrap()
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        word().prop_map(Change::Up),
        word().prop_map(Change::Down),
        word().prop_map(Change::Set)
    ]
}

fn account() -> impl Strategy<Value = AccountDelta> {
    let key = word().prop_map(B256::from);
    let code_hash = prop_oneof![
        Just(KECCAK256_EMPTY),
        Just(keccak256([1, 2, 3])),
        any::<[u8; 32]>().prop_map(B256::from)
    ];
    let changed =
        (number(), option::of(change()), option::of(code_hash), btree_map(key, change(), 0..5))
            .prop_map(|(nonce, balance, code_hash, storage)| AccountDelta::Changed {
                nonce,
                balance,
                code_hash,
                storage,
            });
    prop_oneof![1 => Just(AccountDelta::Removed), 6 => changed]
}

pub(super) fn diff_batch() -> impl Strategy<Value = DiffBatch> {
    let code = prop_oneof![Just(vec![]), Just(vec![Bytes::from_static(&[1, 2, 3])])];
    let messages = vec(any::<[u8; 32]>().prop_map(B256::from), 0..3);
    (btree_map(recipient(), account(), 0..6), code, messages, 1..1000u64, 0..60_000u64).prop_map(
        |(accounts, code, messages, first_block, more)| {
            recorded(DiffBatch {
                chain_id: CHAIN_ID,
                first_block,
                parent_hash: B256::repeat_byte(3),
                deposits_start: 7,
                transactions: 11,
                header: header(first_block + more, 9),
                messages,
                delta: StateDelta { accounts, code },
            })
        },
    )
}

/// With what the message passer records of the messages.
fn recorded(mut batch: DiffBatch) -> DiffBatch {
    if !batch.messages.is_empty() {
        let sent = batch.messages.iter().map(|id| (message_slot(*id), Change::Up(U256::ONE)));
        let count = Change::Up(U256::from(batch.messages.len()));
        let storage = sent.chain([(MESSAGE_COUNT_SLOT, count)]).collect();
        let account = AccountDelta::Changed { nonce: 0, balance: None, code_hash: None, storage };
        batch.delta.accounts.insert(MESSAGE_PASSER, account);
    }
    batch
}

fn header(number: u64, deposits_end: u64) -> Header {
    let mark = QueueMark { end: deposits_end, ..QueueMark::default() };
    Header {
        number,
        timestamp: 5,
        extra_data: mark.extra_data(),
        parent_beacon_block_root: Some(mark.hash),
        // What such a header has before it.
        base_fee_per_gas: Some(0),
        withdrawals_root: Some(B256::ZERO),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        ..Header::default()
    }
}

/// What decodes changes something or is refused, whichever accounts its names are found to be; and encodes to something that decodes to the same again.
fn check_total(encoded: &[u8]) {
    if let Ok(batch) = decode_diffs(encoded) {
        let accounts: Vec<_> = batch.delta.names().iter().map(|name| name.first()).collect();
        let found: Vec<_> = accounts.iter().copied().map(Some).collect();
        if let Ok(batch) = batch.resolve(&found) {
            let bits = AddressPrefix::MAX_BITS;
            let names = AccountNames::new(bits, &accounts, &found);
            for names in [names, AccountNames::default()] {
                let encoded = batch.encode(9, &KeyHints::default(), &names).unwrap();
                let decoded = decode_diffs(&encoded).unwrap();
                let found = names.find(decoded.delta.names());
                assert_eq!(decoded.resolve(&found).unwrap(), batch);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(batch in diff_batch()) {
        prop_assert_eq!(decode_told(&encode(&batch)), batch);
    }

    #[test]
    fn any_columns_decode_to_a_batch_or_an_error(
        batch in diff_batch(),
        kept in any::<prop::sample::Index>(),
        bytes in vec(any::<u8>(), 0..100),
    ) {
        let encoded = encode(&batch);
        let columns = columns(&encoded);
        let kept = kept.index(columns.len() + 1);
        check_total(&with_columns(&encoded, &[&columns[..kept], &bytes].concat()));
    }

    #[test]
    fn a_change_leads_from_one_number_to_the_other(before in word(), after in word()) {
        match Change::between(before, after) {
            None => prop_assert_eq!(before, after),
            Some(change) => {
                prop_assert_eq!(change.apply(before), after);
                prop_assert!(change.number().byte_len() <= after.byte_len());
            }
        }
    }
}

const TOKEN: Address = Address::repeat_byte(0x70);
const SPENDER: Address = Address::repeat_byte(0x5e);

fn holder(index: u64) -> Address {
    Address::from_word(keccak256(index.to_be_bytes()))
}

fn solidity(key: B256, place: B256) -> B256 {
    keccak256([key, place].concat())
}

fn place(place: u64) -> B256 {
    U256::from(place).into()
}

/// A block of transfers of a token between some holders, whose entries are where `slots` says, and what it changed.
fn transfers(
    holders: u64,
    slots: impl Fn(Address) -> Vec<B256>,
) -> (Arc<ExecutedBlock>, Arc<StateDiff>) {
    let mut diff = StateDiff::default();
    let mut storage = BTreeMap::new();
    let (mut transactions, mut receipts) = (Vec::new(), Vec::new());
    for index in 0..holders {
        let [from, to] = [holder(index), holder((index + 1) % holders)];
        let signature = Signature::new(U256::ONE, U256::ONE, false);
        let tx = TxEip1559 { to: TxKind::Call(SPENDER), ..TxEip1559::default() };
        let tx = TxEnvelope::Eip1559(Signed::new_unhashed(tx, signature));
        transactions.push(Arc::new(RecoveredTx::new_unchecked(tx, from)));
        let topics = vec![B256::repeat_byte(1), from.into_word(), to.into_word()];
        let data = LogData::new_unchecked(topics, Bytes::new());
        receipts.push(EthereumReceipt {
            tx_type: TxType::Eip1559,
            success: true,
            cumulative_gas_used: 0,
            logs: vec![Log { address: TOKEN, data }],
        });
        let before = AccountInfo::default();
        let after = AccountInfo { nonce: 1, ..before };
        let account =
            AccountDiff { before: Some(before), after: Some(after), ..AccountDiff::default() };
        diff.accounts.insert(from, account);
        for slot in slots(from) {
            let slots = SlotDiff { before: U256::from(1000), after: U256::from(1000 + index + 1) };
            storage.insert(slot, slots);
        }
    }
    let info = Some(AccountInfo { nonce: 1, ..AccountInfo::default() });
    diff.accounts.insert(TOKEN, AccountDiff { before: info, after: info, storage });
    let header = Header { parent_hash: B256::repeat_byte(3), ..header(1, 0) };
    let block = ExecutedBlock { header: header.seal_slow(), transactions, receipts };
    (Arc::new(block), Arc::new(diff))
}

/// Bytes of a batch with what is known of its keys, and without.
fn sizes(slots: impl Fn(Address) -> Vec<B256>) -> (usize, usize) {
    let blocks = [transfers(100, slots)];
    let batch = DiffBatch::from_blocks(CHAIN_ID, 0, B256::repeat_byte(3), &blocks).unwrap();
    let known = batch.encode(9, &KeyHints::of(&blocks), &AccountNames::default()).unwrap();
    assert_eq!(decode_told(&known), batch);
    (known.len(), encode(&batch).len())
}

#[test]
fn keys_of_mappings_are_told_by_what_they_follow_from() {
    // Hashes of 32 bytes each for 100 holders take 3,200 bytes; the holders' addresses are told anyway.
    let known_and_not = [
        sizes(|holder| vec![solidity(holder.into_word(), place(0))]),
        sizes(|holder| vec![solidity(holder.into_word(), place(51))]),
        sizes(|holder| vec![keccak256([place(3), holder.into_word()].concat())]),
        sizes(|holder| vec![solidity(SPENDER.into_word(), solidity(holder.into_word(), place(1)))]),
        sizes(|holder| {
            let inner = keccak256([place(4), holder.into_word()].concat());
            vec![keccak256([inner, SPENDER.into_word()].concat())]
        }),
        sizes(|holder| {
            // The balances of OpenZeppelin's upgradeable tokens.
            let place = b256!("52c63247e1f47db19d5ce0460030c497f067ca4cebf71ba98eeadabe20bace00");
            vec![solidity(holder.into_word(), place)]
        }),
    ];
    for (case, (known, plain)) in known_and_not.into_iter().enumerate() {
        assert!(known + 3_000 < plain, "case {case}: {known} and {plain} bytes");
    }
    // The third member of a structure, and the one after it, which plain keys need few bytes for too.
    let (known, plain) = sizes(|holder| {
        let entry: U256 = solidity(holder.into_word(), place(2)).into();
        [2, 3].map(|member| (entry + U256::from(member)).into()).into()
    });
    assert!(known + 3_000 < plain, "structures: {known} and {plain} bytes");
    let (known, plain) = sizes(|holder| vec![keccak256(holder)]);
    assert_eq!(known, plain, "nothing is known of other keys");
}

#[test]
fn blocks_are_taken_together() {
    let account = |nonce, balance: u64| {
        Some(AccountInfo { nonce, balance: U256::from(balance), ..AccountInfo::default() })
    };
    let slot =
        |before: u64, after: u64| SlotDiff { before: U256::from(before), after: U256::from(after) };
    let [kept, gone, made, same, fleeting] = [1, 2, 3, 4, 5].map(Address::repeat_byte);
    let [key, other] = [1, 2].map(B256::repeat_byte);
    let diff = |accounts: Vec<(Address, AccountDiff)>| StateDiff {
        accounts: accounts.into_iter().collect(),
        ..StateDiff::default()
    };
    let mut diffs = diff(vec![
        (
            kept,
            AccountDiff {
                before: account(5, 100),
                after: account(6, 90),
                storage: BTreeMap::from([(key, slot(1, 2)), (other, slot(7, 8))]),
            },
        ),
        (gone, AccountDiff { before: account(1, 1), after: account(1, 2), ..Default::default() }),
        (same, AccountDiff { before: account(1, 1), after: account(1, 2), ..Default::default() }),
        (fleeting, AccountDiff { before: None, after: account(1, 2), ..Default::default() }),
    ]);
    let second = diff(vec![
        (
            kept,
            AccountDiff {
                before: account(6, 90),
                after: account(8, 95),
                storage: BTreeMap::from([(key, slot(2, 5)), (other, slot(8, 7))]),
            },
        ),
        (gone, AccountDiff { before: account(1, 2), after: None, ..Default::default() }),
        (made, AccountDiff { before: None, after: account(1, 0), ..Default::default() }),
        (same, AccountDiff { before: account(1, 2), after: account(1, 1), ..Default::default() }),
        (fleeting, AccountDiff { before: account(1, 2), after: None, ..Default::default() }),
    ]);
    let mut astray = diffs.clone();
    diffs.extend(second.clone()).expect("they follow each other");
    // An executor that was exchanged in between.
    astray.accounts.get_mut(&kept).unwrap().after = account(7, 90);
    assert_eq!(astray.extend(second), Err(kept));
    let delta = StateDelta::from(&diffs);
    let changed = |nonce, balance, storage| AccountDelta::Changed {
        nonce,
        balance,
        code_hash: None,
        storage,
    };
    let expected = [
        (
            kept,
            changed(
                3,
                Some(Change::Down(U256::from(5))),
                BTreeMap::from([(key, Change::Up(U256::from(4)))]),
            ),
        ),
        (gone, AccountDelta::Removed),
        (made, changed(1, None, BTreeMap::new())),
    ];
    assert_eq!(delta.accounts, BTreeMap::from(expected));
}

pub(super) fn frozen_diffs() -> DiffBatch {
    let code = Bytes::from_static(&[0x60, 0, 0x60, 0, 0xfd]);
    let storage = BTreeMap::from([
        (place(1), Change::Up(U256::from(1_000_000))),
        (place(2), Change::Down(U256::from(258))),
        (B256::repeat_byte(9), Change::Set(U256::MAX)),
    ]);
    let accounts = BTreeMap::from([
        (Address::repeat_byte(1), AccountDelta::Removed),
        (
            Address::repeat_byte(2),
            AccountDelta::Changed {
                nonce: 1,
                balance: Some(Change::Down(U256::from(21_000_000_000_000_u64))),
                code_hash: Some(keccak256(&code)),
                storage,
            },
        ),
        (
            Address::repeat_byte(3),
            AccountDelta::Changed {
                nonce: 0,
                balance: Some(Change::Up(U256::from(77))),
                code_hash: Some(KECCAK256_EMPTY),
                storage: BTreeMap::new(),
            },
        ),
    ]);
    recorded(DiffBatch {
        chain_id: CHAIN_ID,
        first_block: 8,
        parent_hash: B256::repeat_byte(3),
        deposits_start: 7,
        transactions: 11,
        header: header(12, 9),
        messages: vec![B256::repeat_byte(0x33)],
        delta: StateDelta { accounts, code: vec![code] },
    })
}

/// As `version_2_is_frozen`, with every form of keys.
#[test]
fn diffs_are_frozen() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/batch-v2-diffs.bin");
    let blocks = [transfers(3, |holder| {
        let vyper = |key: B256, place: B256| keccak256([place, key].concat());
        let [holder, spender] = [holder, SPENDER].map(|address| address.into_word());
        let member: U256 = solidity(holder, place(2)).into();
        vec![
            solidity(holder, place(0)),
            solidity(spender, solidity(holder, place(1))),
            (member + U256::from(3)).into(),
            vyper(holder, place(3)),
            vyper(spender, vyper(holder, place(4))),
            keccak256(holder),
        ]
    })];
    let mut frozen = frozen_diffs();
    let executed = DiffBatch::from_blocks(CHAIN_ID, 0, B256::repeat_byte(3), &blocks).unwrap();
    frozen.delta.accounts.extend(executed.delta.accounts);
    // The state before it is said to have these, and SPENDER, which is a key of mappings and did not change.
    let known = [Address::repeat_byte(1), Address::repeat_byte(3), holder(0), holder(1), SPENDER];
    let names = named(36, &known);
    let encoded = frozen.encode(9, &KeyHints::of(&blocks), &names).unwrap();
    let fixture = std::fs::read(path).unwrap();
    assert_eq!(
        batch_digest(&fixture),
        b256!("2897331e84a93b3bb83495cb0d252bd3010b785357bac38385e9462ca183f31c"),
        "the fixture itself was changed"
    );
    let decoded = decode_diffs(&fixture).unwrap();
    assert_eq!(decoded.delta.names().len(), known.len());
    let found = names.find(decoded.delta.names());
    assert_eq!(decoded.resolve(&found).unwrap(), frozen);
    assert_eq!(parts(&fixture).0, parts(&encoded).0);
    assert_eq!(columns(&fixture), columns(&encoded));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_dealt_with() {
    let encoded = encode(&frozen_diffs());
    for len in 0..encoded.len() {
        assert!(decode_diffs(&encoded[..len]).is_err(), "{len} bytes decoded");
    }
    for bit in 0..encoded.len() * 8 {
        let mut flipped = encoded.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&flipped);
    }
    let columns = columns(&encoded);
    for len in 0..columns.len() {
        assert!(decode_diffs(&with_columns(&encoded, &columns[..len])).is_err(), "{len} decoded");
    }
    for bit in 0..columns.len() * 8 {
        let mut flipped = columns.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_total(&with_columns(&encoded, &flipped));
    }
}

#[test]
fn payloads_are_told_apart() {
    assert!(matches!(
        decode_diffs(&frozen_batch().encode(9).unwrap()),
        Err(BatchDecodeError::Payload {
            found: BatchPayload::Transactions,
            expected: BatchPayload::StateDiffs
        })
    ));
    assert!(matches!(
        decode(&encode(&frozen_diffs())),
        Err(BatchDecodeError::Payload { found: BatchPayload::StateDiffs, .. })
    ));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |encoded: &[u8]| match decode_diffs(encoded) {
        Err(BatchDecodeError::Invalid { column, problem }) => (column, problem),
        other => panic!("{other:?}"),
    };
    let right = frozen_diffs();
    let encoded = encode(&right);
    // The header says the last block's hash and number of blocks; the columns hold another header.
    let other = encode(&DiffBatch { header: header(12, 10), ..right.clone() });
    let found = refused(&with_columns(&encoded, &columns(&other)));
    assert_eq!(found, (BatchColumn::LastHeader, "not the header of the last block's hash"));
    for (header, problem) in [
        (header(7, 9), "it does not end the batch"),
        (header(12, 6), "its deposits go back"),
        (Header { number: 12, ..Header::default() }, "its extra data is not a rollup's"),
    ] {
        let error = DiffBatch { header, ..right.clone() }.encode(
            9,
            &KeyHints::default(),
            &AccountNames::default(),
        );
        assert!(
            matches!(error, Err(BatchEncodeError::Block { problem: found, .. }) if found == problem)
        );
    }
    let forged = DiffBatch { messages: vec![B256::repeat_byte(0x34)], ..right.clone() };
    assert!(matches!(
        forged.encode(9, &KeyHints::default(), &AccountNames::default()),
        Err(BatchEncodeError::Block { .. })
    ));
    let at = columns(&encoded);
    let place = at.windows(32).position(|bytes| bytes == [0x33; 32]).expect("the message's id");
    let mut other = at.clone();
    other[place + 5] ^= 1;
    let other = decode_diffs(&with_columns(&encoded, &other)).unwrap();
    assert_eq!(other.resolve(&[]), Err(NameError::Messages));
    let trailing = [&encoded[..], &[0]].concat();
    assert!(matches!(
        decode_diffs(&trailing),
        Err(BatchDecodeError::TrailingBytes { after: BatchColumn::Frame, count: 1 })
    ));
    let limits = BatchLimits { max_changes: 2, ..BatchLimits::default() };
    assert!(matches!(
        DiffBatch::decode(&encoded, &limits),
        Err(BatchDecodeError::OverLimit { what: "accounts", size: 4, limit: 2 })
    ));
}

/// Two groups that name the same slot: one of them would be lost.
#[test]
fn a_slot_twice_is_refused() {
    let storage = BTreeMap::from([(place(1), Change::Up(U256::ONE))]);
    let account = AccountDelta::Changed { nonce: 0, balance: None, code_hash: None, storage };
    let accounts = BTreeMap::from([(Address::repeat_byte(2), account)]);
    let delta = StateDelta { accounts, ..StateDelta::default() };
    let encoded = encode(&DiffBatch { delta, messages: vec![], ..frozen_diffs() });
    let right = columns(&encoded);
    // One account, its groups: one, plain, of one slot; key: length and byte; change: up by a number of one byte.
    let tail = [1, 0, 1, 1, 1, 1, 1, 1];
    assert!(right.ends_with(&tail), "{right:?}");
    let twice =
        [&right[..right.len() - tail.len()], &[2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]];
    let twice = decode_diffs(&with_columns(&encoded, &twice.concat())).unwrap();
    let (account, slot) = (Address::repeat_byte(2), place(1));
    assert_eq!(twice.resolve(&[]), Err(NameError::SlotTwice { account, slot }));
}

/// The highest gas limit that a chain with such batches may have, filled with what takes the most bytes for its gas: slots that get random values at 4,900 gas
/// each, and others that are cleared for the highest refund (a fifth of the gas); or code, at 200 gas a byte.
#[test]
fn the_largest_block_fits_six_blobs_whatever_it_changes() {
    let genesis = |gas_limit: u64| {
        let config = format!(r#"{{"batchPayload":"stateDiffs","gasLimit":{gas_limit}}}"#);
        ChainSpec::from_json(
            format!(r#"{{"config":{{"chainId":1,"homesteadBlock":0,"londonBlock":0,"terminalTotalDifficulty":0,"shanghaiTime":0,"cancunTime":0,"millrace":{config}}},"alloc":{{}},"gasLimit":"0x1","difficulty":"0x0"}}"#)
                .as_bytes(),
        )
    };
    let limit = 45_000_000;
    assert!(genesis(limit).is_ok() && genesis(limit + 1).is_err());
    // Before Cancun, a contract could clear all of its storage at once.
    let early = br#"{"config":{"chainId":1,"millrace":{"batchPayload":"stateDiffs","gasLimit":30000000}},"alloc":{},"gasLimit":"0x1","difficulty":"0x0"}"#;
    assert!(ChainSpec::from_json(early).is_err());
    let noise = |index: u64| batch_digest(&index.to_be_bytes());
    let slots = limit * 5 / 4 / 4_900;
    let cleared = slots / 5;
    let storage = (0..slots).map(|index| {
        let value = if index < cleared { U256::ZERO } else { noise(slots + index).into() };
        (noise(index), Change::Set(value))
    });
    let slots = AccountDelta::Changed {
        nonce: 0,
        balance: None,
        code_hash: None,
        storage: storage.collect(),
    };
    let code: Vec<u8> = (0..limit / 200 / 32).flat_map(|index| noise(index).0).collect();
    for (delta, code) in [(slots, vec![]), (AccountDelta::Removed, vec![Bytes::from(code)])] {
        let accounts = BTreeMap::from([(Address::repeat_byte(1), delta)]);
        let delta = StateDelta { accounts, code };
        let messages = vec![];
        let batch = DiffBatch { header: header(8, 9), delta, messages, ..frozen_diffs() };
        let encoded = batch.encode(1, &KeyHints::default(), &AccountNames::default()).unwrap();
        assert!((200_000..=780_284).contains(&encoded.len()), "{}", encoded.len());
    }
}

/// A batch that changed nothing.
pub(super) fn empty() -> DiffBatch {
    DiffBatch { messages: vec![], delta: StateDelta::default(), ..frozen_diffs() }
}

/// A few kilobytes that would make a reader hold millions of nothings.
#[test]
fn counts_are_held_against_limits_before_anything_is_made_of_them() {
    let encoded = encode(&empty());
    let right = columns(&encoded);
    // The header's piece, then: no messages, no code, no names, no words of either kind.
    assert!(right.ends_with(&[0, 0, 0, 0, 0]), "{right:?}");
    let head = &right[..right.len() - 5];
    let varint = |mut value: u64| {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    };
    let zeros = vec![0; 5_000_000];
    let over = |none: usize, count: u64| {
        let columns = [head, &vec![0; none], &varint(count), &zeros].concat();
        match decode_diffs(&with_columns(&encoded, &columns)) {
            Err(BatchDecodeError::OverLimit { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let limit = BatchLimits::default().max_changes as u64;
    assert_eq!(over(1, limit + 1), "codes");
    assert_eq!(over(2, limit + 1), "names");
    assert_eq!(over(3, 4 * limit + 1), "words");
    assert_eq!(over(4, 4 * limit + 1), "words");
    let columns = [head, &[0, 1, 0, 0, 0, 0]].concat();
    assert!(matches!(
        decode_diffs(&with_columns(&encoded, &columns)),
        Err(BatchDecodeError::Invalid { problem: "code without bytes", .. })
    ));
}

/// One transaction that calls thousands of contracts, each of which logs: what is remembered of it does not grow with their square.
#[test]
fn what_a_transaction_names_is_bounded() {
    const CONTRACTS: u64 = 4_000;
    let contract = |index: u64| holder(1_000_000 + index);
    let (block, _) = transfers(1, |_| Vec::new());
    let mut block = ExecutedBlock::clone(&block);
    let data = LogData::new_unchecked(vec![B256::repeat_byte(1)], Bytes::new());
    let log = |index| Log { address: contract(index), data: data.clone() };
    block.receipts[0].logs = (0..CONTRACTS).map(log).collect();
    let mut diff = StateDiff::default();
    let info = Some(AccountInfo { nonce: 1, ..AccountInfo::default() });
    for index in 0..CONTRACTS {
        // Of one of them, the entry of the sender.
        let key = match index {
            7 => solidity(holder(0).into_word(), place(2)),
            _ => keccak256(contract(index)),
        };
        let slot = SlotDiff { before: U256::ZERO, after: U256::ONE };
        let storage = BTreeMap::from([(key, slot)]);
        diff.accounts.insert(contract(index), AccountDiff { before: info, after: info, storage });
    }
    let blocks = [(Arc::new(block), Arc::new(diff))];
    let batch = DiffBatch::from_blocks(CHAIN_ID, 0, B256::repeat_byte(3), &blocks).unwrap();
    let known = batch.encode(9, &KeyHints::of(&blocks), &AccountNames::default()).unwrap();
    assert_eq!(decode_told(&known), batch);
    assert_ne!(known, encode(&batch), "the sender is a word for all of them");
}
