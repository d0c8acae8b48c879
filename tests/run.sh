#!/usr/bin/env bash
# The whole test suite, set-up included. Arguments go to the test runner: tests/run.sh -p millrace-executor
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh
export MILLRACE_ANVIL="${MILLRACE_ANVIL:-$PWD/.tools/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil}"
export PATH="$PWD/.tools/prometheus/usr/bin:$PWD/.tools/node_modules/@foundry-rs/cast-linux-amd64/bin:$PATH"
scope=(--workspace)
for argument in "$@"; do
    case "$argument" in -p | --package | --package=*) scope=() ;; esac
done
# The end-to-end tests start the real binary: the same profile as the tests, so that nothing is compiled twice.
cargo build --workspace --all-targets --locked
# Most of their time is waiting, for L1 above all.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"
exec cargo test --locked "${scope[@]}" "$@"
