#!/usr/bin/env bash
# The one test command: installs what the tests need beyond cargo, and runs everything.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL=0

# Beside cargo and a C compiler (for the cryptography of JWT) the tests run the README's curl lines.
needed=(curl cc)
missing=()
for tool in "${needed[@]}"; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ "${#missing[@]}" -gt 0 ]; then
  packages=("${missing[@]/#cc/build-essential}")
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  if command -v apt-get >/dev/null && { [ -z "$sudo" ] || command -v sudo >/dev/null; }; then
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"
  else
    echo "tests/run.sh: please install: ${missing[*]}" >&2
    exit 1
  fi
fi

cargo test --features full "$@"
