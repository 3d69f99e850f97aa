#!/usr/bin/env bash
# Runs short tests of CPU kernels under Miri, which finds undefined behaviour, also with AVX2.
#
#   scripts/miri.sh
#
# Needs a nightly compiler with miri and rust-src. Tests that try all numbers or large matrices take too long there.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# Crossbeam does not keep the rules of Stacked Borrows.
export MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-tree-borrows -Zmiri-ignore-leaks'
tests=(
    ops::cpu::lanes
    ops::cpu::mixed::round
    ops::cpu::mixed::tests::{empty,parts_of,sums}
    ops::cpu::product::tests::products
    ops::twins::{activations,log_probs,norms,rotations}
)
for cpu in x86-64 x86-64-v3; do
    CARGO_TARGET_DIR=$target/miri/$cpu RUSTFLAGS="-C target-cpu=$cpu" cargo +nightly miri test --package prospect-model --lib -- \
        --test-threads 1 "${tests[@]}"
done
