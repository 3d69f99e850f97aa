#!/usr/bin/env bash
# Checks a GPU with a binary that was built elsewhere: our kernels, the rate of products, and steps of LoRA on shapes of 1, 7
# and 30 billion weights; beside them the same steps with torch and peft, where python3 has them. In under nine minutes.
#
#   scripts/gpu-check.sh [BINARY] [FOLDER]     FOLDER gets a JSON file for each part, and the tables as summary.txt
#   scripts/gpu-check.sh --small [...]         tiny models: half a minute, to see that all of it runs
#
# Needs no Rust and no network: a driver for CUDA 13, and CUDA 13's libraries on LD_LIBRARY_PATH, in CUDA_HOME, in
# /usr/local/cuda, or in python3's wheels (nvidia-cublas, nvidia-curand, nvidia-cuda-runtime, nvidia-cuda-nvrtc; torch brings them).
#
# BINARY                  by default PROSPECT_CUDA_BINARY, a `prospect` beside this script, or what scripts/check-cuda.sh built
# FOLDER                  by default OUT, or gpu-check
# PROSPECT_KERNELS        our kernels that the steps run with (docs/kernels.md); none by default
# PROSPECT_CHECK_DEVICE   another GPU (cuda:1), or cpu, to try the script where there is no GPU
#
# A part that fails or takes too long does not stop the others. The exit code is 0 if all passed, 1 if one failed, and 2 if
# nothing could be checked.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { echo "gpu-check: $*" >&2; }
give_up() {
    say "$*"
    exit 2
}

small=()
if [[ ${1:-} == --small ]]; then
    small=(--small)
    shift
fi
binary=${1:-${PROSPECT_CUDA_BINARY:-}}
for candidate in "$here/prospect" "$here/../target/cuda/release/prospect" "${CARGO_TARGET_DIR:-/nowhere}/cuda/release/prospect"; do
    [[ -n $binary ]] || { [[ -f $candidate ]] && binary=$candidate; }
done
[[ -n $binary ]] || give_up "no binary: give one, or build it with scripts/check-cuda.sh"
[[ -f $binary ]] || give_up "$binary: there is no such file"
[[ -x $binary ]] || chmod +x "$binary" || give_up "$binary: not executable"
out=${2:-${OUT:-gpu-check}}
mkdir -p "$out" || give_up "$out: cannot be made"
device=${PROSPECT_CHECK_DEVICE:-cuda:0}
python=$(command -v python3 || true)

# --- libraries --------------------------------------------------------------------------------------------------------

folders=()
for folder in ${CUDA_HOME:+"$CUDA_HOME/lib64"} /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
    [[ -d $folder ]] && folders+=("$folder")
done
if [[ -n $python ]]; then
    # The wheels put their libraries into nvidia/*/lib of any folder that Python looks into.
    while IFS= read -r folder; do folders+=("$folder"); done < <("$python" - <<'PYTHON'
import glob, os, sys
for place in sys.path:
    for folder in sorted(glob.glob(os.path.join(place or ".", "nvidia", "*", "lib"))):
        print(os.path.abspath(folder))
PYTHON
    )
fi
for folder in "${folders[@]}"; do
    LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}

missing=$(ldd "$binary" 2>/dev/null | awk '/not found/ { print $1 }' | sort -u | paste -sd ' ')
if [[ -n $missing ]]; then
    [[ $missing == *libcuda.so* ]] && say "libcuda comes with the driver: is there a GPU? (nvidia-smi must list it)"
    give_up "not found: $missing; looked in ${LD_LIBRARY_PATH:-no folder}"
fi

# --- the GPU ----------------------------------------------------------------------------------------------------------

if [[ $device == cuda* ]]; then
    command -v nvidia-smi >/dev/null || give_up "no nvidia-smi, so no driver: nothing to check"
    card=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>&1) ||
        give_up "nvidia-smi sees no GPU: $card"
    say "$(paste -sd ';' <<<"$card")"
    # "CUDA Version: 13.0", or "CUDA UMD Version" from some drivers on.
    cuda=$(nvidia-smi | grep -oE 'CUDA[A-Z ]* Version: *[0-9]+' | grep -oE '[0-9]+$' | head -n 1)
    if [[ -n $cuda ]] && ((cuda < 13)); then
        give_up "the driver is for CUDA $cuda, the binary for CUDA 13: update the driver (580 or newer)"
    fi
fi

# --- parts ------------------------------------------------------------------------------------------------------------

# Everything ends by then, in seconds.
end=530
failed=0
summary=$out/summary.txt
: >"$summary"

# part NAME SECONDS COMMAND...: the output goes to the summary, errors are told and noted.
part() {
    local name=$1 limit=$2 left=$((end - SECONDS)) start=$SECONDS code=0
    shift 2
    ((limit < left)) || limit=$left
    if ((limit < 5)); then
        say "$name: left out, no time is left"
        echo "$name: left out, no time was left" >>"$summary"
        return
    fi
    say "$name: at most $limit s"
    timeout --kill-after=5 "$limit" "$@" >"$out/.part" || code=$?
    cat "$out/.part" | tee -a "$summary"
    rm -f "$out/.part"
    if ((code == 124 || code == 137)); then
        echo "$name: FAILED, took longer than $limit s" | tee -a "$summary"
    elif ((code != 0)); then
        echo "$name: FAILED (exit code $code)" | tee -a "$summary"
    fi
    ((code == 0)) || failed=1
    say "$name: $((SECONDS - start)) s"
}

ours() {
    part "prospect $1" "$2" "$binary" gpu-check --device "$device" "${small[@]}" --only "$1" --json "$out/$1.json"
}
theirs() {
    part "torch $1" "$2" "$python" "$here/../benches/peers/time_gpu_step.py" --device "$device" "${small[@]}" --model "$1" --json "$out/torch-$1.json"
}

ours kernels 90
ours 1b 60
ours 7b 110
if [[ -z $python ]]; then
    say "torch: left out, there is no python3"
elif ! "$python" -c 'import torch, transformers, peft' 2>/dev/null; then
    say "torch: left out, python3 has not all of torch, transformers and peft"
elif [[ ! -f $here/../benches/peers/time_gpu_step.py ]]; then
    say "torch: left out, benches/peers/time_gpu_step.py is not there"
else
    theirs 1b 60
    theirs 7b 100
fi
ours 30b 180

# --- side by side -----------------------------------------------------------------------------------------------------

if [[ -n $python ]]; then
    "$python" - "$out" <<'PYTHON' | tee -a "$summary"
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
lines = []


def add(what, model, step, rate):
    seconds, peak = step["seconds"], step["peak"]
    lines.append([
        model, step["objective"], what, f"{step['examples'] / seconds:.2f}", f"{step['rows'] / seconds:.0f}",
        f"{100 * step['operations'] / seconds / rate:.1f} %" if rate and step.get("operations") else "-",
        f"{peak / 2**30:.1f} GiB" if peak else "-",
    ])


for model in ("1b", "7b", "30b"):
    steps, rate = [], None
    if (folder / f"{model}.json").exists():
        report = json.loads((folder / f"{model}.json").read_text())
        rate = ((report.get("rate") or {}).get("done") or {}).get("operations_per_second")
        steps += [("prospect", {**step["done"], "objective": step["objective"]}) for step in report["steps"] if "done" in step]
    if (folder / f"torch-{model}.json").exists():
        steps += [("torch + peft", step) for step in json.loads((folder / f"torch-{model}.json").read_text())["steps"] if "seconds" in step]
    # One step is one step: both are measured by the operations that prospect counts for it.
    known = {step["objective"]: step["operations"] for _, step in steps if "operations" in step}
    for _, step in steps:
        step.setdefault("operations", known.get(step["objective"]))
    for what, step in sorted(steps, key=lambda step: (step[1]["objective"] != "kto", step[0])):
        add(what, model, step, rate)
if lines:
    heads = ["model", "objective", "with", "examples/s", "rows/s", "of products", "peak"]
    widths = [max(len(row[i]) for row in [heads, *lines]) for i in range(len(heads))]
    print("\n== Side by side: whole steps, reference included")
    for row in [heads, *lines]:
        print("  " + "  ".join(cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))))
PYTHON
fi
say "$([[ $failed == 0 ]] && echo passed || echo FAILED) after $SECONDS s; results in $out"
exit "$failed"
