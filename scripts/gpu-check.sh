#!/usr/bin/env bash
# Tests and benchmarks a GPU with a binary that was built elsewhere: small models against the CPU, CUDA kernels, and LoRA
# training steps on model shapes of 1, 7 and 30 billion parameters, at 7 billion also with each group of kernels alone; then
# the same steps in TRL or torch, if a Python has them. Under nine minutes. Kernels that pass are used on this GPU from
# then on.
#
#   scripts/gpu-check.sh [BINARY] [FOLDER]     FOLDER receives a JSON file per part, and summary.txt
#   scripts/gpu-check.sh --small [...]         tiny models and long time limits: a smoke test, also on the emulated GPU of
#                                              scripts/emulate.sh
#
# Requires a driver for CUDA 13, and CUDA 13's libraries on LD_LIBRARY_PATH, in CUDA_HOME, in /usr/local/cuda, or in python3's
# wheels (nvidia-cublas, nvidia-curand, nvidia-cuda-runtime, nvidia-cuda-nvrtc; torch installs them). Needs neither Rust nor
# a network.
#
# PYTHON                  Python with torch, transformers and peft to compare with, and TRL if its trainers
#                         are to be timed; default: python3
# BINARY                  default: PROSPECT_CUDA_BINARY, `prospect` in this script's folder, or the build of scripts/check-cuda.sh
# FOLDER                  default: OUT, or gpu-check
# PROSPECT_KERNELS        own kernels in the training steps (docs/kernels.md); default: those that passed
# PROSPECT_CHECK_DEVICE   another GPU (cuda:1), or cpu to try the script without a GPU
#
# A part that fails or times out does not stop the others. Exit code: 0 if all parts passed, 1 if one failed, 2 if nothing
# could be checked.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

log() { echo "gpu-check: $*" >&2; }
give_up() {
    log "$*"
    exit 2
}

small=()
# Factor of all time limits.
patience=1
if [[ ${1:-} == --small ]]; then
    small=(--small)
    patience=10
    shift
fi
binary=${1:-${PROSPECT_CUDA_BINARY:-}}
for candidate in "$here/prospect" "$here/../target/cuda/release/prospect" "${CARGO_TARGET_DIR:-/nowhere}/cuda/release/prospect"; do
    [[ -n $binary ]] || { [[ -f $candidate ]] && binary=$candidate; }
done
[[ -n $binary ]] || give_up "no binary: pass its path, or build it with scripts/check-cuda.sh"
[[ -f $binary ]] || give_up "$binary: no such file"
[[ -x $binary ]] || chmod +x "$binary" || give_up "$binary: not executable"
out=${2:-${OUT:-gpu-check}}
mkdir -p "$out" || give_up "cannot create $out"
device=${PROSPECT_CHECK_DEVICE:-cuda:0}
python=$(command -v "${PYTHON:-python3}" || true)
[[ -n $python || -z ${PYTHON:-} ]] || give_up "PYTHON is $PYTHON: no such program"

# --- libraries --------------------------------------------------------------------------------------------------------

folders=()
for folder in ${CUDA_HOME:+"$CUDA_HOME/lib64"} /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
    [[ -d $folder ]] && folders+=("$folder")
done
if [[ -n $python ]]; then
    # Wheels install their libraries in nvidia/*/lib of a folder on Python's path.
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
    [[ $missing == *libcuda.so* ]] && log "libcuda is part of the driver; check that nvidia-smi lists the GPU"
    give_up "missing libraries: $missing; searched ${LD_LIBRARY_PATH:-no folder}"
fi

# --- the GPU ----------------------------------------------------------------------------------------------------------

if [[ $device == cuda* ]]; then
    command -v nvidia-smi >/dev/null || give_up "no nvidia-smi, so no driver; install one"
    card=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>&1) ||
        give_up "nvidia-smi reports no GPU: $card"
    log "$(paste -sd ';' <<<"$card")"
    # "CUDA Version: 13.0"; newer drivers print "CUDA UMD Version".
    cuda=$(nvidia-smi | grep -oE 'CUDA[A-Z ]* Version: *[0-9]+' | grep -oE '[0-9]+$' | head -n 1)
    if [[ -n $cuda ]] && ((cuda < 13)); then
        give_up "the driver supports CUDA $cuda, the binary needs CUDA 13; update the driver (580 or newer)"
    fi
fi

# --- parts ------------------------------------------------------------------------------------------------------------

# Time limit of all parts together, in seconds.
end=$((530 * patience))
failed=0
summary=$out/summary.txt
: >"$summary"

# part NAME SECONDS COMMAND...: runs a part, appends its output to the summary, and reports and records errors.
part() {
    local name=$1 limit=$((patience * $2)) left=$((end - SECONDS)) start=$SECONDS code=0
    shift 2
    ((limit < left)) || limit=$left
    if ((limit < 5)); then
        log "$name: skipped, no time left"
        echo "$name: skipped, no time left" >>"$summary"
        return
    fi
    log "$name: at most $limit s"
    timeout --kill-after=5 "$limit" "$@" >"$out/.part" || code=$?
    cat "$out/.part" | tee -a "$summary"
    rm -f "$out/.part"
    if ((code == 124 || code == 137)); then
        echo "$name: FAILED, timed out after $limit s" | tee -a "$summary"
    elif ((code != 0)); then
        echo "$name: FAILED (exit code $code)" | tee -a "$summary"
    fi
    ((code == 0)) || failed=1
    log "$name: $((SECONDS - start)) s"
}

ours() {
    part "prospect $1" "$2" "$binary" gpu-check --device "$device" "${small[@]}" --only "$1" --json "$out/$1.json"
}
# Torch brings libraries of its own.
theirs() {
    part "torch $1" "$2" env -u LD_LIBRARY_PATH "$python" "$here/../benches/peers/time_gpu_step.py" --device "$device" "${small[@]}" --model "$1" --json "$out/torch-$1.json"
}

# The most decisive part first.
ours parity 60
ours kernels 100
ours 7b 150
if [[ -z $python ]]; then
    log "torch: skipped, no python3; set PYTHON to one with torch, transformers and peft"
elif ! reason=$(env -u LD_LIBRARY_PATH "$python" -c 'import torch, transformers, peft' 2>&1); then
    log "torch: skipped: ${reason##*$'\n'}"
elif [[ ! -f $here/../benches/peers/time_gpu_step.py ]]; then
    log "torch: skipped, no benches/peers/time_gpu_step.py"
else
    theirs 7b 90
fi
ours 1b 40
ours 30b 150

# --- comparison -------------------------------------------------------------------------------------------------------

if [[ -n $python ]]; then
    "$python" - "$out" <<'PYTHON' | tee -a "$summary" || failed=1
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
lines = []


def add(program, model, step, rate):
    seconds, peak = step["seconds"], step["peak"]
    lines.append([
        model, step["objective"], program, f"{step['examples'] / seconds:.2f}", f"{step['rows'] / seconds:.0f}",
        f"{100 * step['operations'] / seconds / rate:.1f} %" if rate and step.get("operations") else "-",
        f"{peak / 2**30:.1f} GiB" if peak else "-",
    ])


def label(kernels):
    groups = 7
    names = "no own kernels" if not kernels else "all own kernels" if len(kernels) == groups else f"own {', '.join(kernels)}"
    return f"prospect, {names}"


def load(name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def passed(models):
    right = [model for model in models if "done" in model and all(model["done"][what] < 1 for what in ("log_probs", "gradients", "steps"))]
    return f"{len(right)} of {len(models)}"


for model in ("1b", "7b", "30b"):
    steps, rate = [], None
    if (folder / f"{model}.json").exists():
        report = json.loads((folder / f"{model}.json").read_text())
        rate = ((report.get("rate") or {}).get("done") or {}).get("operations_per_second")
        steps += [(label(step["kernels"]), {**step["done"], "objective": step["objective"]}) for step in report["steps"] if "done" in step]
    if (folder / f"torch-{model}.json").exists():
        report = json.loads((folder / f"torch-{model}.json").read_text())
        steps += [(report["trainer"], step) for step in report["steps"] if "seconds" in step]
    # Both programs run the same step, so both use prospect's FLOP count for it.
    known = {step["objective"]: step["operations"] for _, step in steps if "operations" in step}
    for _, step in steps:
        step.setdefault("operations", known.get(step["objective"]))
    for program, step in sorted(steps, key=lambda step: (step[1]["objective"] != "kto", step[0])):
        add(program, model, step, rate)
if lines:
    heads = ["model", "objective", "program", "examples/s", "rows/s", "of products", "peak"]
    widths = [max(len(row[i]) for row in [heads, *lines]) for i in range(len(heads))]
    print("\n== Comparison: whole steps, reference included")
    for row in [heads, *lines]:
        print("  " + "  ".join(cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))))

parity, kernels = load("parity").get("parity", []), (load("kernels").get("kernels") or {}).get("done")
print("\n== Verdict")
print(f"  small models that agree with the CPU: {passed(parity) if parity else 'not run'}")
if kernels:
    print(f"  checks of kernels that passed: {kernels['checks'] - len(kernels['failed'])} of {kernels['checks']}")
    print(f"  small models with own kernels that agree with the CPU: {passed(kernels['parity'])}")
    print(f"  own kernels used on this GPU from now on: {', '.join(kernels['verified']) or 'none'}")
else:
    print("  kernels: not checked")
for model in ("1b", "7b", "30b"):
    for step in load(model).get("steps", []):
        if "done" in step and step["done"]["peak"]:
            ratio = step["done"]["planned"] / step["done"]["peak"]
            print(f"  planned memory by peak, {model} {step['objective']}, {label(step['kernels'])}: {ratio:.2f}")
PYTHON
fi
log "$([[ $failed == 0 ]] && echo passed || echo FAILED) after $SECONDS s; results in $out"
exit "$failed"
