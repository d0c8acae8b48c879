//! Any bytes as requests to each method of the services, over small services that answer.

#![no_main]
#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "../../tests/grpc/any_bytes.rs"]
mod any_bytes;
#[path = "../../tests/grpc/fixture/mod.rs"]
mod fixture;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    any_bytes::any_request(bytes);
});
