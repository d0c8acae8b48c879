//! Keccak-256, eight messages at a time. (*The Keccak reference*, version 3.0, 2011; Ethereum's hash has its padding, not SHA-3's.)

use alloy_primitives::{B256, keccak256};

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};
use crate::{
    counters,
    engine::{HashPath, engine},
    lanes::{LANES, There, Words},
};

/// Bytes of a block.
const RATE: usize = 136;
/// Words of a state.
const STATE: usize = 25;
const ROUNDS: usize = 24;

const ROUND_CONSTANTS: [u64; ROUNDS] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// Hashes each message with Keccak-256. They may be of any lengths; those of about one length are hashed together.
pub fn keccak256_batch<T: AsRef<[u8]>>(messages: &[T]) -> Vec<B256> {
    let messages: Vec<&[u8]> = messages.iter().map(AsRef::as_ref).collect();
    hash_all(&messages)
}

/// As [`keccak256_batch`].
pub(crate) fn hash_all(messages: &[&[u8]]) -> Vec<B256> {
    #[cfg(target_arch = "x86_64")]
    match engine().hash {
        HashPath::Avx512 => {
            if let Some(there) = There::<Avx512>::detect() {
                return hash_in_lanes(there, messages);
            }
        }
        HashPath::Avx2 => {
            if let Some(there) = There::<Avx2>::detect() {
                return hash_in_lanes(there, messages);
            }
        }
        HashPath::Scalar => {}
    }
    counters::HASHED_SINGLY.add(messages.len());
    messages.iter().map(keccak256).collect()
}

/// In lanes, with scalar code for what is left over.
pub(crate) fn hash_in_lanes<W: Words>(there: There<W>, messages: &[&[u8]]) -> Vec<B256> {
    let mut hashes = vec![B256::ZERO; messages.len()];
    // Messages of as many blocks together.
    let mut order: Vec<(usize, usize)> =
        messages.iter().enumerate().map(|(at, message)| (message.len() / RATE, at)).collect();
    if !order.is_sorted_by_key(|(blocks, _)| *blocks) {
        order.sort_unstable();
    }
    let (mut in_lanes, mut lanes_used) = (0, 0);
    for group in order.chunks(LANES) {
        // A lane that stays empty costs what a full one does, and so does a block that only one message has.
        let blocks: usize = group.iter().map(|(blocks, _)| blocks + 1).sum();
        let longest = group.last().map_or(0, |(blocks, _)| blocks + 1);
        if blocks < 2 * longest {
            for (_, at) in group {
                hashes[*at] = keccak256(messages[*at]);
            }
            continue;
        }
        in_lanes += group.len();
        lanes_used += group.len().next_multiple_of(W::COUNT);
        let mut lanes: [&[u8]; LANES] = [&[]; LANES];
        for (lane, (_, at)) in lanes.iter_mut().zip(group) {
            *lane = messages[*at];
        }
        let mut hashed = [[0; 32]; LANES];
        hash(there, &lanes[..group.len()], &mut hashed);
        for ((_, at), hash) in group.iter().zip(hashed) {
            hashes[*at] = hash.into();
        }
    }
    counters::HASHED_IN_LANES.add(in_lanes);
    counters::HASH_LANES.add(lanes_used);
    counters::HASHED_SINGLY.add(messages.len() - in_lanes);
    hashes
}

/// The states of eight messages: word by word, that of each message.
type States = [[u64; LANES]; STATE];

/// Permutes the states of so many messages.
#[inline(never)]
fn permute<W: Words>(_: There<W>, states: &mut States, count: usize) {
    W::compiled(
        #[inline(always)]
        || {
            let mut at = 0;
            while at < count {
                let mut state = [W::splat(0); STATE];
                for (word, values) in state.iter_mut().zip(states.iter()) {
                    *word = W::load(values, at);
                }
                for constant in ROUND_CONSTANTS {
                    round(&mut state, constant);
                }
                for (word, values) in state.iter().zip(states.iter_mut()) {
                    word.store(values, at);
                }
                at += W::COUNT;
            }
        },
    );
}

/// One round: θ, ρ, π, χ and ι. The word in column x of row y is `state[5 y + x]`.
#[inline(always)]
fn round<W: Words>(state: &mut [W; STATE], constant: u64) {
    let a = *state;
    let mut parity = [a[0]; 5];
    for x in 0..5 {
        parity[x] = a[x].xor3(a[x + 5], a[x + 10]).xor3(a[x + 15], a[x + 20]);
    }
    let mut turned = parity;
    for x in 0..5 {
        turned[x] = parity[x].rotate_left::<1>();
    }
    // θ, then ρ and π: to where each word goes it comes turned.
    macro_rules! from {
        ($at:expr, $bits:expr) => {
            a[$at].xor3(parity[($at + 4) % 5], turned[($at + 1) % 5]).rotate_left::<$bits>()
        };
    }
    let rows = [
        [
            a[0].xor3(parity[4], turned[1]),
            from!(6, 44),
            from!(12, 43),
            from!(18, 21),
            from!(24, 14),
        ],
        [from!(3, 28), from!(9, 20), from!(10, 3), from!(16, 45), from!(22, 61)],
        [from!(1, 1), from!(7, 6), from!(13, 25), from!(19, 8), from!(20, 18)],
        [from!(4, 27), from!(5, 36), from!(11, 10), from!(17, 15), from!(23, 56)],
        [from!(2, 62), from!(8, 55), from!(14, 39), from!(15, 41), from!(21, 2)],
    ];
    for (y, row) in rows.iter().enumerate() {
        for x in 0..5 {
            state[5 * y + x] = row[x].chi(row[(x + 1) % 5], row[(x + 2) % 5]);
        }
    }
    state[0] = state[0].xor(W::splat(constant));
}

/// Hashes up to eight messages. They need not be of one length, but each costs as much as the longest.
fn hash<W: Words>(there: There<W>, messages: &[&[u8]], hashes: &mut [[u8; 32]]) {
    let mut states: States = [[0; LANES]; STATE];
    let longest = messages.iter().map(|message| message.len() / RATE).max().unwrap_or(0);
    for at in 0..=longest {
        for (lane, message) in messages.iter().enumerate() {
            let (blocks, rest) = message.as_chunks::<RATE>();
            if let Some(block) = blocks.get(at) {
                absorb(&mut states, lane, block);
            } else if at == blocks.len() {
                let mut padded = [0; RATE];
                padded[..rest.len()].copy_from_slice(rest);
                padded[rest.len()] = 1;
                padded[RATE - 1] |= 0x80;
                absorb(&mut states, lane, &padded);
            }
        }
        permute(there, &mut states, messages.len());
        for (lane, message) in messages.iter().enumerate() {
            if at == message.len() / RATE {
                for (word, bytes) in hashes[lane].chunks_exact_mut(8).enumerate() {
                    bytes.copy_from_slice(&states[word][lane].to_le_bytes());
                }
            }
        }
    }
}

#[inline]
fn absorb(states: &mut States, lane: usize, block: &[u8; RATE]) {
    let (words, _) = block.as_chunks::<8>();
    for (values, word) in states.iter_mut().zip(words) {
        values[lane] ^= u64::from_le_bytes(*word);
    }
}
