#!/usr/bin/env bash
# Builds the wheel of the CUDA build, installs it with NVIDIA's libraries in a fresh environment, and checks that they load.
# No GPU is needed: the driver's stub of scripts/check-cuda.sh stands in for one.
# Usage: scripts/check-cuda-wheel.sh [FOLDER]   keeps both wheels in FOLDER
#
# PROSPECT_CUDA_BINARY   a build with CUDA to use instead of building one
# PROSPECT_WHEEL         a wheel of prospect-kto to use instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
wheels=$(realpath -m "${1:-$scratch/wheels}")
mkdir -p "$wheels"

toolkit=$(scripts/check-cuda.sh --toolkit)
if [[ -z ${PROSPECT_CUDA_BINARY:-} ]]; then
    scripts/check-cuda.sh --locked
    PROSPECT_CUDA_BINARY=$(realpath "${CARGO_TARGET_DIR:-target}/cuda/${CUDA_PROFILE:-release}/prospect")
    export PROSPECT_CUDA_BINARY
fi

python3 -m venv "$scratch/build"
"$scratch/build/bin/pip" install --quiet 'maturin>=1.9,<2' 'hatchling>=1.27,<2'
if [[ -n ${PROSPECT_WHEEL:-} ]]; then
    cp "$PROSPECT_WHEEL" "$wheels"
else
    "$scratch/build/bin/maturin" build --quiet --release --locked --out "$wheels"
fi
"$scratch/build/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$wheels" packaging/cuda
ls -lh "$wheels"

python3 -m venv "$scratch/use"
"$scratch/use/bin/pip" install --quiet --find-links "$wheels" 'prospect-kto[cuda]'
"$scratch/use/bin/pip" list 2>/dev/null | grep -iE 'prospect|nvidia'
packages=$("$scratch/use/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
binary=$packages/prospect_kto_cuda/prospect

# Every library except the driver's comes from NVIDIA's wheels or from the system's C library.
env -u LD_LIBRARY_PATH ldd "$binary" >"$scratch/libraries"
readelf --dynamic --wide "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' >"$scratch/needed"
while read -r library; do
    found=$(awk -v name="$library" '$1 == name { print ($3 == "not" ? "" : $3) }' "$scratch/libraries")
    case $library in
        libcuda.so.1) continue ;;
        libcu* | libnv* | libnccl*)
            [[ $found == "$packages"/* ]] || {
                echo "check-cuda-wheel: $library is not found in $packages but in ${found:-no folder}" >&2
                exit 1
            }
            echo "$library: ${found#"$packages"/}"
            ;;
        *)
            grep -q "^\s*$library " "$scratch/libraries" || [[ $library == ld-linux* ]] || {
                echo "check-cuda-wheel: $library is not found" >&2
                exit 1
            }
            ;;
    esac
done <"$scratch/needed"
grep -q '^libcublas' "$scratch/needed" || {
    echo "check-cuda-wheel: $PROSPECT_CUDA_BINARY is no build with CUDA" >&2
    exit 1
}

mkdir "$scratch/empty"
cd "$scratch/empty"
prospect=$scratch/use/bin/prospect
# doctor EXPECTED COMMAND...: the command's `doctor` describes the GPU so.
doctor() {
    local expected=$1 facts
    shift
    facts=$("$@" doctor)
    echo "$facts"
    grep -q "^GPU .*$expected" <<<"$facts" || {
        echo "check-cuda-wheel: expected the GPU to be '$expected'" >&2
        exit 1
    }
}

echo '== without a driver'
doctor 'none: no NVIDIA driver' env PROSPECT_CUDA=auto "$prospect"
"$prospect" sweep theory >/dev/null

echo '== with a driver that has no GPU'
eval "$toolkit"
doctor 'none: .*no CUDA driver found' env PROSPECT_CUDA=on LD_LIBRARY_PATH="$CUDA_HOME/lib64/stubs" "$prospect"

echo '== with the CUDA build wanted, and no driver'
if PROSPECT_CUDA=on "$prospect" doctor 2>"$scratch/error"; then
    echo 'check-cuda-wheel: the CUDA build started without a driver' >&2
    exit 1
fi
cat "$scratch/error"
grep -q 'libcuda.so.1' "$scratch/error"
echo 'check-cuda-wheel: passed'
