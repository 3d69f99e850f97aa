#!/usr/bin/env bash
# Fuzzes the readers of feedback, models, settings and answers of services, guided by coverage.
#
#   scripts/fuzz.sh SECONDS [TARGET...]     default: all targets, SECONDS each
#
# Needs a nightly compiler and cargo-fuzz. What a target found stays in fuzz/corpus and is continued; an input that
# crashes, hangs or takes 2 GB of memory is in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:?"scripts/fuzz.sh SECONDS [TARGET...]"}
shift
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || mapfile -t targets < <(cargo +nightly fuzz list)

# Errors of some libraries carry a backtrace, which takes seconds to resolve in these builds.
export RUST_BACKTRACE=0 RUST_LIB_BACKTRACE=0
cargo +nightly run --quiet --release --example seeds
failed=()
for target in "${targets[@]}"; do
    # A small model has 100 KB. The HTTP client's threads outlive a request, and count as leaks.
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -max_len=131072 \
        -detect_leaks=0 -print_final_stats=1 || failed+=("$target")
done
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "fuzz: ${failed[*]}: see fuzz/artifacts" >&2
    exit 1
fi
