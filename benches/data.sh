#!/usr/bin/env bash
# Benchmarks data preparation: HH harmless replicated 40 and 160 times with distinct prompts, on one thread and on two. With
# PYTHON, also the same file with `datasets` and TRL, and with polars. All in one run.
#
#   benches/data.sh HH_FILE [PYTHON]
#
#   HH_FILE   harmless-base/test.jsonl.gz of HH
#   PYTHON    Python interpreter with datasets, trl and polars
#
# Each line: wall time, CPU time and peak memory of the process. The times of other tools include their imports;
# `datasets` starts with an empty cache.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
file=$(realpath "$1") python=${2:-}
prospect=${PROSPECT:-$root/target/release/prospect}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# repeat TIMES: prints every row TIMES times, with the number of the round in its first turn.
repeat() {
    local round
    for ((round = 0; round < $1; round++)); do
        gzip -dc "$file" | sed 's/\\n\\nHuman: /\\n\\nHuman: ('"$round"') /; s/\("rejected": *"\)\\n\\nHuman: /\1\\n\\nHuman: ('"$round"') /'
    done
}

# timed NAME COMMAND...: prints time and memory of the command.
timed() {
    local name=$1
    shift
    "$(type -P time)" -f "%e %U %S %M" -o usage "$@" >/dev/null 2>log || { cat log >&2; exit 1; }
    tail -n 1 usage | awk -v name="$name" '{ printf "%-28s %7.2f s wall %7.2f s processor %7.0f MB\n", name, $1, $2 + $3, $4 / 1024 }'
}

repeat 40 >x40.jsonl
repeat 160 >x160.jsonl
cat >recipe.yaml <<YAML
source: { kind: hh, path: x40.jsonl }
imbalance: { keep_desirable: 0.5 }
noise: { flip_desirable: 0.1, flip_undesirable: 0.1 }
YAML

wc -lc x40.jsonl x160.jsonl
for threads in 1 2; do
    for size in x40 x160; do
        RAYON_NUM_THREADS=$threads timed "prospect, $size, $threads threads" \
            "$prospect" prepare recipe.yaml --set source.path=$size.jsonl --out "$size-$threads"
    done
done
if [ -n "$python" ]; then
    HF_HOME=$scratch/hf timed "datasets and TRL, x40" "$python" "$root/benches/peers/prepare_datasets.py" x40.jsonl datasets
    timed "polars (half the work), x40" "$python" "$root/benches/peers/prepare_polars.py" x40.jsonl polars
fi
