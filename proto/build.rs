//! Compiles `millrace/v1/*.proto` with a pure-Rust protobuf compiler, so that no `protoc` is needed.

use std::{env, error::Error, path::PathBuf};

const PROTOS: [&str; 5] = [
    "millrace/v1/common.proto",
    "millrace/v1/sequencer.proto",
    "millrace/v1/executor.proto",
    "millrace/v1/da_adapter.proto",
    "millrace/v1/settlement.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("millrace_descriptor.bin");
    std::fs::write(out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
