//! Made-up signatures, recovered in lanes and one by one: the answers must be the same.
//!
//! Most are of random numbers. The rest are what goes wrong where arithmetic does: numbers near to where something changes, bits flipped in
//! good signatures, points that meet themselves or their opposites in a sum.

use std::fmt;

use alloy_primitives::{Address, B256, Signature, U256};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use secp256k1::{Message, PublicKey as Point, SECP256K1, SecretKey, ecdsa::RecoverableSignature};

use crate::{
    engine::{RecoverPath, engine},
    lanes::There,
    recover::{
        ORDER, PublicKey, RecoverError, addresses, recover_in_lanes, recover_key, recover_keys,
    },
};

/// p.
pub(crate) const PRIME: U256 = alloy_primitives::uint!(
    0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256
);
/// How many small multiples of the generator there are.
const SMALL: u64 = 200;
/// Most signatures that are recovered with one call.
const LONGEST: usize = 600;
/// One signature in so many is recovered with k256 as well, and of those that a fuzzer makes.
const SECOND_OPINION: u64 = 100;
const SECOND_OPINION_FUZZED: u64 = 5;

/// Signatures that all follow from a seed, in numbered batches.
#[derive(Debug)]
pub struct Torture {
    seed: u64,
    recover: Recover,
    path: &'static str,
    edges: Vec<U256>,
    /// Small multiples of the generator: x, and whether y is odd.
    multiples: Vec<(U256, bool)>,
}

type Recover = fn(&[(Signature, B256)]) -> Vec<Result<PublicKey, RecoverError>>;

/// What a batch held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Signatures that were recovered.
    pub signatures: u64,
    /// Those that have a signer.
    pub signers: u64,
    /// Those that were recovered with k256 as well.
    pub with_k256: u64,
}

/// A signature whose answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The signature.
    pub signature: Signature,
    /// The message's hash.
    pub hash: B256,
    /// Its place among those that were recovered with one call, and their number.
    pub place: (usize, usize),
    /// The answer in lanes.
    pub in_lanes: Option<Result<(PublicKey, Address), RecoverError>>,
    /// The other answer.
    pub other: Result<(PublicKey, Address), RecoverError>,
    /// Whose the other answer is.
    pub of: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signature, hash, place: (at, count), in_lanes, other, of } = self;
        write!(
            f,
            "r {:#x}, s {:#x}, y odd {}, hash {hash}, number {at} of {count}: in lanes {in_lanes:?}, with {of} {other:?}",
            signature.r(),
            signature.s(),
            signature.v()
        )
    }
}

impl Tally {
    /// Adds what another batch held.
    pub fn add(&mut self, other: Self) {
        self.signatures += other.signatures;
        self.signers += other.signers;
        self.with_k256 += other.with_k256;
    }
}

impl Torture {
    /// How many signatures a batch has.
    pub const BATCH: u64 = 4096;

    /// Signatures for the code that this process runs, or if `portable` or that has no lanes, for the same arithmetic without an instruction
    /// set.
    pub fn new(seed: u64, portable: bool) -> Self {
        let (recover, path): (Recover, _) = match engine().recover {
            #[cfg(target_arch = "x86_64")]
            RecoverPath::Avx512Ifma if !portable => (recover_keys, "AVX-512 IFMA"),
            _ => (|signatures| recover_in_lanes(There::ALWAYS, signatures), "portable lanes"),
        };
        let multiples = (1..SMALL).map(small_multiple).collect();
        Self { seed, recover, path, edges: edges(), multiples }
    }

    /// How its signatures are recovered.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Makes a batch, and checks it.
    ///
    /// # Errors
    /// The first signature whose answers differ.
    pub fn check(&self, batch: u64) -> Result<Tally, Box<Difference>> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&batch.to_le_bytes());
        let mut rng = StdRng::from_seed(seed);
        let signatures: Vec<_> = (0..Self::BATCH).map(|_| self.signature(&mut rng)).collect();
        let mut tally = Tally::default();
        let mut rest = signatures.as_slice();
        while !rest.is_empty() {
            // Short and long calls, so that all that can be left over is.
            let longest = if rng.random_ratio(1, 4) { 20 } else { LONGEST };
            let (some, later) = rest.split_at(rng.random_range(1..=longest).min(rest.len()));
            self.compare(some, SECOND_OPINION, &mut tally)?;
            rest = later;
        }
        Ok(tally)
    }

    /// Checks signatures that bytes stand for, 97 each: any bytes are some. For fuzzers.
    ///
    /// # Errors
    /// The first signature whose answers differ.
    pub fn check_bytes(&self, bytes: &[u8]) -> Result<Tally, Box<Difference>> {
        let (parts, _) = bytes.as_chunks::<97>();
        let signatures: Vec<_> = parts.iter().map(|part| self.of_bytes(part)).collect();
        let mut tally = Tally::default();
        self.compare(&signatures, SECOND_OPINION_FUZZED, &mut tally)?;
        Ok(tally)
    }

    /// The first byte tells what r, s and the message are: the others, edges, or those of small multiples of the generator.
    fn of_bytes(&self, part: &[u8; 97]) -> (Signature, B256) {
        let [how, numbers @ ..] = part;
        let number = |at: usize| U256::from_be_slice(&numbers[32 * at..][..32]);
        let edge = |at: usize| self.edges[usize::from(numbers[32 * at]) % self.edges.len()];
        let at = usize::from(numbers[0]) % self.multiples.len();
        let (multiple, odd) = self.multiples[at];
        let r = match how & 3 {
            0 => number(0),
            1 => edge(0),
            _ => multiple,
        };
        let s = match how >> 2 & 3 {
            0 => number(1),
            1 => edge(1),
            2 => U256::from(numbers[32]),
            _ => r,
        };
        let to_infinity = s.mul_mod(U256::from(at as u64 + 1), ORDER);
        let message = match how >> 4 & 3 {
            0 => number(2),
            1 => edge(2),
            2 => to_infinity,
            _ => ORDER.wrapping_sub(to_infinity),
        };
        (Signature::new(r, s, odd ^ (how >> 6 & 1 == 1)), message.into())
    }

    fn compare(
        &self,
        signatures: &[(Signature, B256)],
        second_opinion: u64,
        tally: &mut Tally,
    ) -> Result<(), Box<Difference>> {
        let keys = (self.recover)(signatures);
        let found: Vec<_> = keys
            .iter()
            .zip(addresses(&keys))
            .map(|(key, address)| key.and_then(|key| Ok((key, address?))))
            .collect();
        for (at, (signature, hash)) in signatures.iter().enumerate() {
            let with = |key: PublicKey| (key, key.address());
            let in_lanes = found.get(at).copied();
            let differs = |other, of| {
                let place = (at, signatures.len());
                let (signature, hash) = (*signature, *hash);
                Box::new(Difference { signature, hash, place, in_lanes, other, of })
            };
            let other = recover_key(signature, *hash).map(with);
            if in_lanes != Some(other) {
                return Err(differs(other, "libsecp256k1"));
            }
            tally.signatures += 1;
            tally.signers += u64::from(other.is_ok());
            if tally.signatures.is_multiple_of(second_opinion) {
                let other = with_k256(signature, *hash).map(with);
                // It does not tell the reasons apart.
                if in_lanes.map(Result::ok) != Some(other.ok()) {
                    return Err(differs(other, "k256"));
                }
                tally.with_k256 += 1;
            }
        }
        Ok(())
    }

    fn signature(&self, rng: &mut StdRng) -> (Signature, B256) {
        match rng.random_range(0..100) {
            0..80 => (Signature::new(number(rng), number(rng), rng.random()), hash(rng)),
            80..86 => signed(rng),
            86..92 => flipped(signed(rng), rng),
            92..96 => self.near_edges(rng),
            _ => self.meeting(rng),
        }
    }

    /// Each number near to where something changes, or random, or of a good signature.
    fn near_edges(&self, rng: &mut StdRng) -> (Signature, B256) {
        let (good, _) = signed(rng);
        let mut one = |other: U256| match rng.random_range(0..3) {
            0 => other,
            1 => number(rng),
            _ => self.edges[rng.random_range(0..self.edges.len())],
        };
        let (r, s, message) = (one(good.r()), one(good.s()), one(good.s()));
        (Signature::new(r, s, rng.random()), message.into())
    }

    /// A signature in whose sum small multiples of one point meet.
    fn meeting(&self, rng: &mut StdRng) -> (Signature, B256) {
        let at = rng.random_range(0..self.multiples.len());
        let (r, odd) = self.multiples[at];
        let s = match rng.random_range(0..4) {
            0 => r,
            1 => U256::from(rng.random_range(1..40_u64)),
            2 => r.mul_mod(U256::from(rng.random_range(1..40_u64)), ORDER),
            _ => number(rng),
        };
        // Where this is the message, s R - m G is the point at infinity, which is no key.
        let to_infinity = s.mul_mod(U256::from(at as u64 + 1), ORDER);
        let off = U256::from(rng.random_range(0..3_u64));
        let message = match rng.random_range(0..4) {
            0 => to_infinity,
            1 => to_infinity.add_mod(off, ORDER),
            2 => ORDER.wrapping_sub(to_infinity),
            _ => r.mul_mod(off, ORDER),
        };
        (Signature::new(r, s, odd ^ rng.random_ratio(1, 8)), message.into())
    }
}

fn number(rng: &mut impl Rng) -> U256 {
    U256::from_limbs(rng.random())
}

fn hash(rng: &mut impl Rng) -> B256 {
    rng.random::<[u8; 32]>().into()
}

/// A good signature of a random hash by a random key.
pub(crate) fn signed(rng: &mut impl Rng) -> (Signature, B256) {
    loop {
        let hash: [u8; 32] = rng.random();
        let Ok(key) = SecretKey::from_byte_array(rng.random()) else { continue };
        let signature: RecoverableSignature =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash), &key);
        let (id, rs) = signature.serialize_compact();
        return (Signature::from_bytes_and_parity(&rs, i32::from(id) & 1 == 1), hash.into());
    }
}

fn flipped((signature, hash): (Signature, B256), rng: &mut impl Rng) -> (Signature, B256) {
    let (mut r, mut s, mut odd) = (signature.r(), signature.s(), signature.v());
    let mut message = U256::from_be_bytes(hash.0);
    let bit = U256::ONE << rng.random_range(0..256_usize);
    match rng.random_range(0..5) {
        0 => r ^= bit,
        1 => s ^= bit,
        2 => message ^= bit,
        3 => odd = !odd,
        // The other signature of the same message: s above n / 2 where it was below.
        _ => (s, odd) = (ORDER.wrapping_sub(s), !odd),
    }
    (Signature::new(r, s, odd), message.into())
}

/// Numbers near to where something changes.
pub(crate) fn edges() -> Vec<U256> {
    let mut all = vec![U256::ZERO, U256::ONE, U256::MAX, U256::MAX - U256::ONE];
    let half = ORDER >> 1;
    for middle in [ORDER, PRIME, PRIME - ORDER, half, U256::ONE << 128, U256::from(7), half << 1] {
        for off in 0..3 {
            all.push(middle.wrapping_add(U256::from(off)));
            all.push(middle.wrapping_sub(U256::from(off)));
        }
    }
    all
}

/// x of a multiple of the generator, and whether its y is odd.
fn small_multiple(times: u64) -> (U256, bool) {
    let mut secret = [0; 32];
    secret[24..].copy_from_slice(&times.to_be_bytes());
    let secret = SecretKey::from_byte_array(secret).expect("small, and not zero");
    let point = Point::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
    (U256::from_be_slice(&point[1..33]), point[64] & 1 == 1)
}

/// With k256.
fn with_k256(signature: &Signature, hash: B256) -> Result<PublicKey, RecoverError> {
    use k256::ecdsa::{RecoveryId, Signature as Numbers, VerifyingKey};
    let (r, mut s, mut odd) = (signature.r(), signature.s(), signature.v());
    // It wants EIP-2's form. The other one has the same key.
    if s > ORDER >> 1 && s < ORDER {
        (s, odd) = (ORDER - s, !odd);
    }
    let numbers = Numbers::from_scalars(r.to_be_bytes::<32>(), s.to_be_bytes::<32>())
        .map_err(|_| RecoverError::OutOfRange)?;
    let key =
        VerifyingKey::recover_from_prehash(hash.as_slice(), &numbers, RecoveryId::new(odd, false))
            .map_err(|_| RecoverError::NoKey)?;
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&key.to_encoded_point(false).as_bytes()[1..]);
    Ok(PublicKey(bytes))
}
