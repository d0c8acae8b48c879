//! The gRPC adapters over a loopback connection: what a client answers is what the service behind the server answers.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod any_bytes;
mod executor;
mod fixture;
mod fuzz;
mod net;
mod others;
mod sequencer;
mod submit;
