//! Any signatures, in any number, are recovered in lanes as with libsecp256k1.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_crypto::torture::Torture;

/// On the processor's lanes, and on those that any machine has.
static TORTURE: LazyLock<[Torture; 2]> =
    LazyLock::new(|| [Torture::new(0, false), Torture::new(0, true)]);

fuzz_target!(|bytes: &[u8]| {
    for torture in &*TORTURE {
        if let Err(difference) = torture.check_bytes(bytes) {
            panic!("{difference}");
        }
    }
});
