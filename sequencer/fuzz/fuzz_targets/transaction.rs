//! Any bytes as transactions that are submitted together.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_sequencer::any_transactions;

fuzz_target!(|bytes: &[u8]| {
    any_transactions(bytes);
});
