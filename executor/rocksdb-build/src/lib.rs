//! Builds RocksDB with nothing but a C++ compiler, and several times faster than its own build script.
//!
//! # What this is
//!
//! `librocksdb-sys` needs two things at build time that cost every fresh checkout dearly:
//!
//! * it runs `bindgen`, which needs libclang, a package of its own on every system;
//! * it compiles 342 small C++ files, each of which parses the same headers again: twelve minutes and
//!   more on two cores.
//!
//! This crate carries the name and version of `bindgen` and replaces it through `[patch.crates-io]`.
//! It has exactly the part of bindgen's interface that the build script of `librocksdb-sys` calls,
//! and calling it does two things:
//!
//! 1. **Bindings.** It writes `bindings-11.8.1.rs`, which the real bindgen generated from the same
//!    header with the same options.
//! 2. **RocksDB itself.** The build script calls bindgen before it decides how to get the library. So
//!    this crate first compiles the same sources with the same defines, at `-O2`, as six large files
//!    that `#include` the small ones (two minutes on two cores), and then sets `ROCKSDB_LIB_DIR` and
//!    `ROCKSDB_STATIC` within the running build script, which links the result instead of compiling.
//!
//! ```text
//! librocksdb-sys build.rs ── Builder::generate ──┬─ Caller::check     exactly 0.19.0+11.8.1, or an error
//!                                                └─ unity::provide    six units ─ librocksdb.a
//!                         ── write_to_file ───────── bindings.rs
//!                         ── ROCKSDB_LIB_DIR set? ── link librocksdb.a
//! ```
//!
//! The archive is kept under `target/rocksdb-unity/`, keyed by everything that shapes it, so
//! development and release builds share one compilation. It is always optimised and never carries
//! debug information.
//!
//! # Switching it off
//!
//! * `MILLRACE_ROCKSDB=stock` leaves the compilation to `librocksdb-sys` (the bindings stay the
//!   committed ones). `MILLRACE_ROCKSDB=unity` makes it an error if the large files cannot be used; by
//!   default that only gives a warning, which cargo shows with `-vv`.
//! * Deleting the `bindgen` line from `[patch.crates-io]` in the workspace's `Cargo.toml` switches
//!   everything off; the build then needs libclang.
//! * Unity building also steps aside by itself, leaving the ordinary path: on systems other than
//!   Linux, when `librocksdb-sys` features other than lz4 and zstd are on, when the environment
//!   already says where RocksDB is (`ROCKSDB_LIB_DIR`) or asks to compile it (`ROCKSDB_COMPILE`), and
//!   when a compiler refuses the joined sources.
//!
//! # A new RocksDB
//!
//! The crate refuses to serve any other version of `librocksdb-sys`. To move on: raise `rocksdb` in the
//! workspace's `Cargo.toml`, set [`VERSION`] and the file's name in `bindings.rs`, run
//! `LIBCLANG_PATH=<folder of libclang.so> executor/rocksdb-build/regenerate.sh`, compare the list of defines
//! in `unity.rs` with the new build script, and run `cargo test -p millrace-executor --test rocksdb_links`.

mod bindings;
mod builder;
mod caller;
mod error;
mod unity;

pub use bindings::Bindings;
pub use builder::Builder;
pub use caller::VERSION;
pub use error::BindgenError;
