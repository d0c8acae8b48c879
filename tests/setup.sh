#!/usr/bin/env bash
# Brings what the tests run against into .tools: anvil and cast, the JavaScript and Python clients, Prometheus.
# Each step is skipped when its result is there already. Nothing outside .tools is changed.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$PWD/.tools"
mkdir -p "$tools"

need() {
    command -v "$1" >/dev/null || { echo "tests/setup.sh: $1 is missing; install $2" >&2; exit 1; }
}
need node "Node.js 20 or newer"
need npm "npm"
need python3 "Python 3.11 or newer"

# A stamp holds the checksum of what was installed, so that a changed lock file installs anew.
stamp() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }
fresh() { [ -f "$tools/$1.stamp" ] && [ "$(cat "$tools/$1.stamp")" = "$2" ]; }

key=$(stamp tests/clients/package.json tests/clients/package-lock.json)
if ! fresh node "$key"; then
    cp tests/clients/package.json tests/clients/package-lock.json "$tools/"
    npm ci --prefix "$tools" --no-audit --no-fund --loglevel=error
    echo "$key" > "$tools/node.stamp"
fi

key=$(stamp tests/clients/requirements.txt)
if ! fresh python "$key"; then
    [ -x "$tools/python/bin/python" ] || python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
    echo "$key" > "$tools/python.stamp"
fi

# What shows which calls the sequencer makes of the system, and in which order. Where it cannot be had, one test less is run.
if ! command -v strace >/dev/null && [ ! -x "$tools/strace/strace" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    apt-cache show strace >/dev/null 2>&1 || apt-get update -qq || true
    if (mkdir -p "$tools/strace" && cd "$tools/strace" && apt-get download -qq strace libunwind8 && for package in *.deb; do dpkg -x "$package" .; done && rm -f ./*.deb); then
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "'$tools/strace/usr/lib/$(uname -m)-linux-gnu'" "'$tools/strace/usr/bin/strace'" > "$tools/strace/strace"
        chmod +x "$tools/strace/strace"
    else
        echo "tests/setup.sh: strace cannot be installed; the test that uses it will be skipped" >&2
    fi
fi

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
    if [ ! -x "$tools/prometheus/usr/bin/prometheus" ]; then
        need apt-get "Prometheus (prometheus and promtool on PATH)"
        need dpkg "Prometheus (prometheus and promtool on PATH)"
        # The package's index may be missing on a fresh machine; only root can fetch it.
        apt-cache show prometheus >/dev/null 2>&1 || apt-get update -qq
        (cd "$tools" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb prometheus && rm -f prometheus_*.deb)
    fi
fi
