//! Any bytes as each message that crosses between processes, and as what it stands for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_proto::grpc::fuzz::any_message;

fuzz_target!(|bytes: &[u8]| {
    any_message(bytes);
});
