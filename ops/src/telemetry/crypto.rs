//! How signatures are recovered and hashes made: `millrace_crypto_*`, of the whole process.

use metrics::{counter, describe_counter};
use millrace_crypto::{Counters, counters, engine, prepare};
use tracing::info;

const SIGNATURES: &str = "millrace_crypto_signatures_total";
const SIGNATURE_LANES: &str = "millrace_crypto_signature_lanes_total";
const HASHES: &str = "millrace_crypto_hashes_total";
const HASH_LANES: &str = "millrace_crypto_hash_lanes_total";

/// Says once which code runs, and has it ready before anybody waits for it.
pub(super) fn start() {
    info!(target: "millrace", "{}", engine());
    prepare();
    describe_counter!(
        SIGNATURES,
        "Signatures whose signer was looked for: in lanes, singly, or singly as the lanes could not (fallback)"
    );
    describe_counter!(
        SIGNATURE_LANES,
        "Lanes in use for signatures, the empty ones of batches that were not full included"
    );
    describe_counter!(HASHES, "Hashes of batches: in lanes, or singly");
    describe_counter!(
        HASH_LANES,
        "Lanes in use for hashes, the empty ones of batches that were not full included"
    );
}

/// Brings the metrics up to date.
pub(super) fn record() {
    let Counters {
        recovered_in_lanes,
        recovery_lanes,
        fallbacks,
        recovered_singly,
        hashed_in_lanes,
        hash_lanes,
        hashed_singly,
        ..
    } = counters();
    counter!(SIGNATURES, "path" => "lanes").absolute(recovered_in_lanes);
    counter!(SIGNATURES, "path" => "fallback").absolute(fallbacks);
    counter!(SIGNATURES, "path" => "single").absolute(recovered_singly);
    counter!(SIGNATURE_LANES).absolute(recovery_lanes);
    counter!(HASHES, "path" => "lanes").absolute(hashed_in_lanes);
    counter!(HASHES, "path" => "single").absolute(hashed_singly);
    counter!(HASH_LANES).absolute(hash_lanes);
}
