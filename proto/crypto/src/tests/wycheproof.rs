//! Project Wycheproof's vectors of ECDSA on secp256k1. They are made for verifying: a signature is valid if the key is among those that it can
//! have been made with.

use ::wycheproof::{
    TestResult,
    ecdsa::{TestName, TestSet},
};
use alloy_primitives::{B256, Signature};
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::{
    recover::{ORDER, recover_in_lanes, recover_key},
    torture::PRIME,
};

/// How the messages are hashed.
fn hash(name: TestName, message: &[u8]) -> B256 {
    match name {
        TestName::EcdsaSecp256k1Sha256P1363 => B256::from_slice(&Sha256::digest(message)),
        // Of longer hashes, the first bits count.
        _ => B256::from_slice(&Sha512::digest(message)[..32]),
    }
}

#[test]
fn wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    for name in [TestName::EcdsaSecp256k1Sha256P1363, TestName::EcdsaSecp256k1Sha512P1363] {
        let set = TestSet::load(name).expect("part of the crate");
        let (mut signatures, mut expected) = (Vec::new(), Vec::new());
        for group in set.test_groups {
            for test in group.tests {
                // Others have no r and s of 32 bytes, so that there is nothing to ask.
                let Ok(rs) = <&[u8; 64]>::try_from(test.sig.as_slice()) else {
                    assert_eq!(test.result, TestResult::Invalid);
                    continue;
                };
                let hash = hash(name, &test.msg);
                for odd in [false, true] {
                    signatures.push((Signature::from_bytes_and_parity(rs, odd), hash));
                }
                expected.push((group.key.key.to_vec(), test.result, test.comment));
            }
        }
        let keys: Vec<_> =
            signatures.iter().map(|(signature, hash)| recover_key(signature, *hash)).collect();
        assert_eq!(recover_in_lanes(There::ALWAYS, &signatures), keys);
        if let Some(there) = There::<Avx512>::detect() {
            assert_eq!(recover_in_lanes(there, &signatures), keys);
        }
        for (at, (key, result, comment)) in expected.iter().enumerate() {
            let pair = &keys[2 * at..2 * at + 2];
            let found = pair.iter().flatten().any(|found| found.0 == key[1..]);
            // Ethereum's signatures cannot say that the point's x was above the order.
            let r = signatures[2 * at].0.r();
            if *result == TestResult::Valid && r < PRIME - ORDER {
                continue;
            }
            assert_eq!(found, *result == TestResult::Valid, "{comment}");
            if found { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid > 200 && invalid > 50, "{valid} {invalid}");
}
