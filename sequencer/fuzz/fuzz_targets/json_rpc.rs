//! Any bytes as JSON-RPC over HTTP and WebSocket, to a server on a real chain.

#![no_main]
#![allow(dead_code)]

#[path = "../../rpc/tests/json_rpc/any_bytes.rs"]
mod any_bytes;
#[path = "../../rpc/tests/json_rpc/support.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    any_bytes::any_call(bytes);
});
