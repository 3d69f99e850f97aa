#!/usr/bin/env bash
# Benchmarks whole optimizer steps, reference included: LoRA r16 on all linear layers of SmolLM2-135M, HH, batch 4,
# max_length 256. Prospect in f32 and bf16 with a cold and a warm reference cache; with PYTHON, also TRL on the same rows.
#
#   benches/train.sh HH_FILE WEIGHTS [PYTHON]
#
#   HH_FILE   harmless-base/test.jsonl.gz of HH
#   WEIGHTS   the model, a GGUF file (scripts/smollm2.sh downloads it)
#   PYTHON    Python interpreter with torch, transformers, trl, peft and datasets
#   DTYPES    (environment) Prospect's element types, default "f32 bf16"
#   PROMPTS   (environment) training prompts, default 40: 20 steps of KTO, 10 of DPO
#
# Measures one epoch over these prompts without the first two steps (warm-up). Peak memory is that of the process.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
file=$(realpath "$1") weights=$(realpath "$2") python=${3:-}
prospect=${PROSPECT:-$root/target/release/prospect} prompts=${PROMPTS:-40}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# ours METHOD COMPLETIONS_PER_STEP STEPS ACTIVATIONS DTYPE: a run with a cold cache, then one with a warm cache.
ours() {
    local method=$1 batch=$2 steps=$3 activations=$4 dtype=$5
    for cache in cold warm; do
        for length in 2 "$steps"; do
            local name=$method-$activations-$dtype-$length
            cat >"$name.yaml" <<YAML
question: How long does a step take?
data: $root/pipelines/hh.yaml
model: $root/models/smollm2-135m.yaml
settings: { data.source.path: $file, data.select.train_prompts: $prompts, data.select.test_prompts: 2, model.weights: $weights, model.activations: $activations, model.dtype: $dtype }
train: { learning_rate: 1e-4, batch_size: $batch, max_length: 256, max_prompt_length: 192, max_steps: $length }
linked: { method: { $method: { train.objective: $method } } }
matrix: { data.seed: [0] }
seeds: [0]
report: { x: data.seed, series: method, baseline: $method }
YAML
            # A warm run reuses only the reference log-probs of earlier runs.
            rm -rf "runs/$name"
            [[ $cache == warm ]] || rm -rf runs/.reference
            /usr/bin/time -f %M "$prospect" sweep "$name.yaml" >/dev/null 2>"log-$length" || { cat "log-$length"; exit 1; }
        done
        python3 - "$method" "$cache, $activations" "$steps" "$(tail -n 1 "log-$steps")" "$activations-$dtype" "$dtype" <<'PYTHON'
import json, pathlib, sys
method, what, steps, peak, name, dtype = sys.argv[1:]
seconds, tokens = {}, {}
for length in (2, int(steps)):
    (run,) = pathlib.Path(f"runs/{method}-{name}-{length}/runs").glob("*/status.json")
    status = json.loads(run.read_text())
    seconds[length], tokens[length] = status["seconds"], status["tokens"]
time = seconds[int(steps)] - seconds[2]
rate, packed = 4 * (int(steps) - 2) / time, (tokens[int(steps)] - tokens[2]) / time
print(f"prospect {dtype:4} {what:16} {method}: {rate:.2f} examples/s, {packed:.0f} packed tokens/s, peak {int(peak) / 1e6:.2f} GB", flush=True)
PYTHON
    done
}

for activations in keep recompute; do
    for dtype in ${DTYPES:-f32 bf16}; do
        ours kto 4 $((prompts / 2)) $activations "$dtype"
        ours dpo 8 $((prompts / 4)) $activations "$dtype"
    done
done

if [[ -n $python ]]; then
    "$prospect" export "$root/models/smollm2-135m.yaml" --set "weights=$weights" --out base >/dev/null
    "$prospect" prepare "$root/pipelines/hh.yaml" --set "source.path=$file" --set "select.train_prompts=$prompts" --set select.test_prompts=2 --out data >/dev/null
    for dtype in float32 bfloat16; do
        for method in kto dpo; do
            "$python" "$root/benches/peers/time_trl.py" $method data base --dtype $dtype 2>/dev/null | tail -n 1
        done
    done
fi
