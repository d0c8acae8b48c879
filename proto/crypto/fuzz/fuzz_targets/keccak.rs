//! Messages of any lengths, in any number, hash in lanes as one at a time.

#![no_main]

use alloy_primitives::keccak256;
use libfuzzer_sys::fuzz_target;
use millrace_crypto::keccak256_batch;

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say how long the messages are: the rest is cut into these lengths until nothing is left.
    let (lengths, mut rest) = bytes.split_at(bytes.len().min(8));
    let mut messages = Vec::new();
    for length in lengths.iter().cycle() {
        let (message, later) = rest.split_at(rest.len().min(usize::from(*length) * 5));
        messages.push(message);
        rest = later;
        if rest.is_empty() || messages.len() == 64 {
            break;
        }
    }
    let hashes = keccak256_batch(&messages);
    assert_eq!(hashes.len(), messages.len());
    for (message, hash) in messages.iter().zip(hashes) {
        assert_eq!(hash, keccak256(message));
    }
});
