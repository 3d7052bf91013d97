#!/usr/bin/env bash
# Fuzzes every target for SECONDS each (60 unless told), as many at once as there are processors:
#
#   fuzz/run.sh [SECONDS] [TARGET...]
#
# It needs the stable toolchain and a C++ compiler, neither nightly nor cargo-fuzz: coverage comes from LLVM's
# own pass. No sanitizer is linked in; the library has no unsafe code for it to watch. FUZZ_SEED makes a run that
# can be repeated; without it each is another.
# What is found anew is kept in corpus-new/, what fails in artifacts/. To run an input again, give it to the
# target's binary as its argument.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

command -v c++ >/dev/null || { echo "fuzz/run.sh: please install a C++ compiler" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p')
flags=(--cfg fuzzing -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# With --target, build scripts and macros are spared the flags.
RUSTFLAGS="${flags[*]}" cargo build --release --target "$host"

fuzz() {
    mkdir -p "corpus-new/$1" "corpus/$1" "artifacts/$1"
    if "$BINARIES/$1" "corpus-new/$1" "corpus/$1" -max_total_time="$SECONDS_EACH" -timeout=10 \
        -seed="${FUZZ_SEED:-0}" -rss_limit_mb=1024 -artifact_prefix="artifacts/$1/" -verbosity=1 >"artifacts/$1.log" 2>&1; then
        printf '%-14s ok      %s\n' "$1" "$(grep '^Done' "artifacts/$1.log")"
    else
        printf '%-14s FAILED\n' "$1"
        grep -A 1 'panicked at' "artifacts/$1.log" || true
        tail -n 6 "artifacts/$1.log"
        return 1
    fi
}
export -f fuzz
export BINARIES=${CARGO_TARGET_DIR:-target}/$host/release SECONDS_EACH=$seconds

printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I {} bash -c 'fuzz {}'
