use super::*;

pub(super) fn word() -> impl Strategy<Value = U256> {
    prop_oneof![
        Just(U256::ZERO),
        Just(U256::MAX),
        any::<u64>().prop_map(U256::from),
        any::<[u8; 32]>().prop_map(U256::from_be_bytes),
    ]
}

pub(super) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..300u64, any::<u64>()]
}

fn fee() -> impl Strategy<Value = u128> {
    prop_oneof![Just(0), Just(u128::MAX), 0..5_000_000_000u128, any::<u128>()]
}

pub(super) fn recipient() -> impl Strategy<Value = Address> {
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
    pub(super) fn batch()(
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
