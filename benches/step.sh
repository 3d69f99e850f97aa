#!/usr/bin/env bash
# Times whole optimizer steps (reference included, cold cache): LoRA r16 on SmolLM2-135M, batch 4, max_length 256, f32.
#
#   benches/step.sh kto|dpo HH_FILE WEIGHTS [keep|recompute]
#
# Two runs of different length, so that loading and evaluation cancel out. Compare with benches/peers/time_trl.py on the
# same machine; batch 4 is 4 rows for KTO and 4 pairs for DPO.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
method=$1 file=$(realpath "$2") weights=$(realpath "$3") activations=${4:-keep}
batch=$([[ $method == kto ]] && echo 4 || echo 8)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

for steps in 4 14; do
    cat >"step-$steps.yaml" <<YAML
question: How long does a step take?
data: $root/pipelines/hh.yaml
model: $root/models/smollm2-135m.yaml
settings: { data.source.path: $file, model.weights: $weights, model.activations: $activations, data.select.test_prompts: 2 }
train: { learning_rate: 1e-4, batch_size: $batch, max_length: 256, max_prompt_length: 192, max_steps: $steps }
linked: { method: { $method: { train.objective: $method } } }
matrix: { data.seed: [0] }
seeds: [0]
report: { x: data.seed, series: method, baseline: $method }
YAML
    /usr/bin/time -f %M "${PROSPECT:-$root/target/release/prospect}" sweep "step-$steps.yaml" >/dev/null 2>"log-$steps"
done
python3 - "$method" "$activations" "$(tail -n 1 log-14)" <<'PYTHON'
import json, pathlib, sys
method, activations, peak = sys.argv[1:]
status = {
    steps: json.loads(next(pathlib.Path(f"runs/step-{steps}/runs").glob("*/status.json")).read_text()) for steps in (4, 14)
}
seconds, tokens = (status[14][key] - status[4][key] for key in ("seconds", "tokens"))
print(
    f"prospect {method} f32, {activations}: {4 * 10 / seconds:.2f} examples/s,"
    f" {tokens / seconds:.0f} packed tokens/s, peak {int(peak) / 1e6:.2f} GB"
)
PYTHON
