#!/bin/sh
# Checks the contracts: artifacts against a fresh compile, format, tests, gas figures. Needs Node; the first run
# fetches the npm packages. Exits non-zero when anything is not as committed.
set -eu
cd "$(dirname "$0")"

# npm writes its own lock file last, so a missing or older one means an unfinished or outdated install.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --ignore-scripts --no-audit --no-fund
fi

# The binaries come from npm for common platforms; elsewhere, forge has to be on the PATH. They are used without their
# wrapper package @foundry-rs/forge, whose command exits 0 whatever forge says.
forge=$(node -p '`node_modules/@foundry-rs/forge-${process.platform}-${process.arch.replace("x64", "amd64")}/bin/forge`')
[ -x "$forge" ] || forge=forge

node build.mjs --check
"$forge" fmt --check
node gas.mjs
FORGE_SNAPSHOT_CHECK=true "$forge" test "$@"
