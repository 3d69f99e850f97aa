#!/usr/bin/env bash
# Benchmarks eight parallel runs against a single run: KTO with LoRA r16 on SmolLM2-135M, HH, batch 4, max_length 256, f32,
# each run with its own seed and a cold reference cache. Whole processes: loading and evaluation included.
#
#   benches/jobs.sh HH_FILE WEIGHTS
#
#   HH_FILE   harmless-base/test.jsonl.gz of HH
#   WEIGHTS   the model, a GGUF file (scripts/smollm2.sh downloads it)
#   STEPS     (environment) optimizer steps per run, default 4
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
file=$(realpath "$1") weights=$(realpath "$2")
prospect=${PROSPECT:-$root/target/release/prospect} steps=${STEPS:-4}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

cat >sweep.yaml <<YAML
question: What do eight runs cost?
data: $root/pipelines/hh.yaml
model: $root/models/smollm2-135m.yaml
settings: { data.source.path: $file, data.select.train_prompts: 40, data.select.test_prompts: 2, model.weights: $weights }
train: { learning_rate: 1e-4, batch_size: 4, max_length: 256, max_prompt_length: 192, max_steps: $steps }
linked: { method: { kto: { train.objective: kto } } }
matrix: { data.seed: [0] }
seeds: [0, 1, 2, 3, 4, 5, 6, 7]
report: { x: data.seed, series: method, baseline: kto }
YAML

# measure NAME ARGUMENTS…: prints wall time, CPU time and peak memory of the sweep.
measure() {
    local name=$1
    shift
    rm -rf runs reports
    /usr/bin/time -f "$name: %e s, %U s of processors, peak %M kB" "$prospect" sweep sweep.yaml "$@" >/dev/null 2>log || { cat log; exit 1; }
    tail -n 1 log
}

measure "one run" --set 'seeds=[0]'
for jobs in ${JOBS:-1 2 8}; do
    measure "eight runs, $jobs in parallel" --jobs "$jobs"
done
