#!/usr/bin/env bash
# Builds the binary with CUDA. Assembles a toolkit from NVIDIA's Python wheels if none is installed. No GPU is needed.
#
#   scripts/check-cuda.sh              set up the toolkit, then build (13 to 26 minutes on 2 cores)
#   scripts/check-cuda.sh --lean       build a binary to carry to a machine with a GPU: optimised for size, stripped, without the
#                                      feature `query`, which links polars. An error if it is larger than 48 MB
#   scripts/check-cuda.sh --check      only type-check: `cargo check` (about two minutes)
#   scripts/check-cuda.sh --toolkit    only set up the toolkit, and print the variables that a build needs
#
# With --features nccl, GPUs communicate through NCCL (docs/groups.md), and the binary needs libnccl at start.
#
# CUDA_HOME          installed toolkit to use instead
# CUDA_COMPUTE_CAP   GPU generation, default 90 (H100, H200)
# CUDA_PROFILE       cargo profile, default release
#
# The binary needs libcuda, libcublas, libcurand and libcudart at start, so it has a target folder of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/prospect
wheels=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85
    nvidia-cublas==13.1.0.3
    nvidia-curand==10.4.0.35
    nvidia-cuda-nvrtc==13.0.88
)

# All wheels unpack into nvidia/cu13, which becomes the toolkit.
make_toolkit() {
    local python scratch target=$1 library
    python=$(command -v python3 || command -v python) || {
        echo "check-cuda: no CUDA_HOME, and no python3 to download a toolkit; set CUDA_HOME, or install python3 with pip" >&2
        return 1
    }
    mkdir -p "$cache"
    scratch=$(mktemp -d "$cache/cuda.XXXXXX")
    # shellcheck disable=SC2064  # expand the folder now
    trap "rm -rf '$scratch'" EXIT
    "$python" -m pip download --quiet --no-deps --dest "$scratch/wheels" "${wheels[@]}" >&2
    for wheel in "$scratch"/wheels/*.whl; do
        "$python" -m zipfile -e "$wheel" "$scratch/tree"
    done
    cd "$scratch/tree/nvidia/cu13"
    # zipfile does not restore permissions.
    chmod +x bin/* nvvm/bin/*
    # Wheels contain only libX.so.N; the linker needs libX.so.
    for library in lib/lib{cublas,cublasLt,curand,nvrtc,cudart}.so.*; do
        ln -sf "$(basename "$library")" "${library%%.so.*}.so"
    done
    ln -sfn lib lib64
    make_driver_stub
    cd - >/dev/null
    mv "$scratch/tree/nvidia/cu13" "$target"
}

# The driver is not part of the toolkit. A stub with its functions lets the binary link; each function returns
# CUDA_ERROR_NO_DEVICE.
make_driver_stub() {
    local cc functions
    cc=${CC:-cc}
    # Names as written and after macro expansion (cuMemAlloc, cuMemAlloc_v2).
    mapfile -t functions < <({ cat include/cuda.h && "$cc" -E -P -I include -x c include/cuda.h; } |
        grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' | tr -d '( \t' | sort -u)
    if ((${#functions[@]} < 300)); then
        echo "check-cuda: cuda.h declares fewer driver functions than expected; has its layout changed?" >&2
        return 1
    fi
    mkdir -p lib/stubs
    printf 'int %s(void) { return 100; }\n' "${functions[@]}" |
        "$cc" -shared -fPIC -w -Wl,-soname,libcuda.so.1 -x c - -o lib/stubs/libcuda.so
    ln -sf libcuda.so lib/stubs/libcuda.so.1
}

if [[ -z ${CUDA_HOME:-} ]]; then
    CUDA_HOME=$cache/cuda-13.0.88
    [[ -x $CUDA_HOME/bin/nvcc ]] || (make_toolkit "$CUDA_HOME")
fi
export CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export LIBRARY_PATH=$CUDA_HOME/lib64:$CUDA_HOME/lib64/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
nvcc --version | tail -n 2 >&2

nccl=nvidia-nccl-cu13==2.30.7
make_nccl() {
    local python scratch
    python=$(command -v python3 || command -v python) || {
        echo "check-cuda: no python3 to download NCCL; install python3 with pip, or add the folder of libnccl.so to LIBRARY_PATH" >&2
        return 1
    }
    scratch=$(mktemp -d "$cache/nccl.XXXXXX")
    # shellcheck disable=SC2064  # expand the folder now
    trap "rm -rf '$scratch'" EXIT
    "$python" -m pip download --quiet --no-deps --dest "$scratch/wheels" "$nccl" >&2
    "$python" -m zipfile -e "$scratch"/wheels/*.whl "$scratch/tree"
    ln -sf libnccl.so.2 "$scratch/tree/nvidia/nccl/lib/libnccl.so"
    mv "$scratch/tree/nvidia/nccl" "$1"
}

if [[ " $* " == *nccl* && ${1:-} != --check ]]; then
    home=$cache/nccl-${nccl##*==}
    [[ -e $home/lib/libnccl.so ]] || (make_nccl "$home")
    export LIBRARY_PATH=$home/lib:$LIBRARY_PATH
fi

if [[ ${1:-} == --toolkit ]]; then
    printf 'export %s=%q\n' CUDA_HOME "$CUDA_HOME" CUDA_COMPUTE_CAP "$CUDA_COMPUTE_CAP" LIBRARY_PATH "$LIBRARY_PATH" PATH "$PATH"
    exit
fi

# Types do not depend on the compiled form of candle's kernels, so a stub of nvcc writes empty files.
make_nvcc_stub() {
    local stub=$1
    mkdir -p "$stub/bin"
    ln -sfn "$CUDA_HOME/include" "$stub/include"
    ln -sfn "$CUDA_HOME/lib64" "$stub/lib64"
    cat >"$stub/bin/nvcc" <<'STUB'
#!/usr/bin/env bash
case "$*" in *--version* | *--list-gpu-code*) exec "$CUDA_HOME/bin/nvcc" "$@" ;; esac
folder=. output=
while (($#)); do
    case $1 in
        -o) output=$2 ;;
        --output-directory) folder=$2 ;;
    esac
    last=$1
    shift
done
name=${last##*/}
: >"${output:-$folder/${name%.cu}.ptx}"
STUB
    chmod +x "$stub/bin/nvcc"
}

if [[ ${1:-} == --check ]]; then
    shift
    make_nvcc_stub "$cache/nvcc-stub"
    export NVCC=$cache/nvcc-stub/bin/nvcc
    exec cargo check --workspace --all-targets --features cuda "$@"
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda
if [[ ${1:-} == --lean ]]; then
    shift
    # Optimised for size, except what takes time on a machine with a GPU.
    small=(--config 'profile.dist.opt-level="s"' --config 'profile.dist.package."*".opt-level="s"')
    for crate in arrow-select arrow-cmp candle-core gemm-common gemm-f16 gemm-f32 pulp; do
        small+=(--config "profile.dist.package.$crate.opt-level='s'")
    done
    for crate in prospect-model prospect-kernels; do
        small+=(--config "profile.dist.package.$crate.opt-level=3")
    done
    # Its build script compiles for minutes; other builds of this profile share the result.
    small+=(--config 'profile.dist.package.candle-kernels.opt-level=2')
    cargo build --profile dist --no-default-features --features cuda "${small[@]}" "$@"
    lean=$CARGO_TARGET_DIR/dist/prospect-lean
    strip -s -o "$lean" "$CARGO_TARGET_DIR/dist/prospect"
    bytes=$(stat -c %s "$lean")
    echo "check-cuda: built $lean: $bytes bytes"
    ((bytes <= 48000000)) || {
        echo "check-cuda: the binary is larger than 48 MB" >&2
        exit 1
    }
    exit
fi
profile=${CUDA_PROFILE:-release}
cargo build --profile "$profile" --features cuda "$@"
echo "check-cuda: built $CARGO_TARGET_DIR/$profile/prospect; at start it needs \$CUDA_HOME/lib64 on LD_LIBRARY_PATH and a driver"
