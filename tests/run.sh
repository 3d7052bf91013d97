#!/usr/bin/env bash
# The one test command: installs what the tests need beyond cargo, and runs everything.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL=0

# Beside cargo: compilers for the cryptography of JWT and for the fuzzer, curl and openssl for clients, ip and nft for hosts of their
# own, script for a terminal, and a Redis server, of which the tests start their own.
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc build-essential
need c++ build-essential
need curl curl
need openssl openssl
need python3 python3
if [ "$(uname)" = Linux ]; then
  need ip iproute2
  need nft nftables
  need unshare util-linux
  need script bsdutils
fi
# The oldest Redis comes as a wheel.
[ -n "${PORTCULLIS_REDIS_SERVERS+told}" ] || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
command -v redis-server >/dev/null || command -v valkey-server >/dev/null || missing+=(redis-server)
if [ "${#missing[@]}" -gt 0 ]; then
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  if command -v apt-get >/dev/null && { [ -z "$sudo" ] || command -v sudo >/dev/null; }; then
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "tests/run.sh: please install: ${missing[*]}" >&2
    exit 1
  fi
fi

# The oldest Redis that is promised to do, and Valkey, beside the server that is installed. One that is not there fails the
# tests.
if [ -z "${PORTCULLIS_REDIS_SERVERS+told}" ]; then
  PORTCULLIS_REDIS_SERVERS=$(tests/servers.sh)
fi
export PORTCULLIS_REDIS_SERVERS

# Most tests wait for a clock or a socket for the most of their time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * $(getconf _NPROCESSORS_ONLN)))}

cargo test --features full "$@"
