//! Everything on the plain lanes, and on the processor's where it has them, against libsecp256k1 and others.

mod curve;
mod field;
mod keccak;
mod recover;
mod wycheproof;

use rand::{SeedableRng, rngs::StdRng};

use crate::lanes::{Avx2, Avx512, Lanes, Portable, There, Words};

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
