#!/usr/bin/env bash
# Runs the tests of the crate with CPU kernels under AddressSanitizer: reads and writes outside of allocations end them.
#
#   scripts/sanitize.sh [FILTER]     default: all tests of prospect-model
#
# Needs a nightly compiler. Each instruction set that this CPU has is tested, as in other runs of these tests.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized
export RUSTFLAGS='-Zsanitizer=address' ASAN_OPTIONS=detect_leaks=0
# Tests that count allocations replace the allocator, which the sanitizer does as well.
cargo +nightly test --release --target "$host" --package prospect-model --lib --test integration -- "$@"
