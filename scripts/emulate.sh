#!/usr/bin/env bash
# Builds an emulated CUDA machine and a `prospect` for it, and runs the tests that need one. No GPU is needed.
#
#   scripts/emulate.sh [FILTER]     build, then run the tests (of this name)
#   scripts/emulate.sh --machine    only build the machine, and print the variables to build and run programs with
#
# The machine (crates/testkit/cuda) is a libcuda, libcublas, libcurand and libnccl for CPUs. It runs candle's kernels,
# compiled from the sources in cargo's registry, and ours; NVRTC is the real one. docs/kernels.md describes it.
#
# CXX   C++ compiler, default g++
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
machine=$target/emulated/machine
cxx=${CXX:-g++}
sources=$PWD/crates/testkit/cuda
kernels=$PWD/crates/kernels/cuda

version() { sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/\1/p}" Cargo.lock; }
registry=$(compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/src/*/candle-kernels-$(version candle-kernels)" | head -n 1) || {
    cargo fetch --quiet --locked
    registry=$(compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/src/*/candle-kernels-$(version candle-kernels)" | head -n 1)
}
bindings=${registry%/*}/cudarc-$(version cudarc)/src

mkdir -p "$machine"/{bin,include,lib64}
ln -sfn lib64 "$machine/lib"

# Stands in for nvcc: candle's kernels are not compiled for a GPU, so their PTX is empty.
cat >"$machine/bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
case "$*" in
    *--version*) printf 'nvcc\n\n\nCuda compilation tools, release 13.0, V13.0.0\n' && exit ;;
    *--list-gpu-code*) echo sm_90 && exit ;;
esac
folder=. output= library=
while (($#)); do
    case $1 in
        -o) output=$2 ;;
        --output-directory) folder=$2 ;;
        --lib) library=1 ;;
    esac
    last=$1
    shift
done
name=${last##*/}
file=${output:-$folder/${name%.cu}.ptx}
if [[ -n $library ]]; then printf '!<arch>\n' >"$file"; else : >"$file"; fi
NVCC
chmod +x "$machine/bin/nvcc"

# What scripts/gpu-check.sh asks of the driver.
cat >"$machine/bin/nvidia-smi" <<'SMI'
#!/usr/bin/env bash
if (($#)); then echo 'Emulated GPU, 81920 MiB, 580.00'; else echo '| CUDA Version: 13.0 |'; fi
SMI
chmod +x "$machine/bin/nvidia-smi"

# Kernels read several elements through pointers of another type. The products take the most time.
flags=(-std=c++17 -fPIC -O2 -fno-strict-aliasing -ffp-contract=off -U_FORTIFY_SOURCE -I "$sources" -I "$sources/include")
build=$machine/build

# table NAME THREADS PRELUDE SOURCE...: writes a file that compiles the kernels of the sources and registers them.
table() {
    local name=$1 threads=$2 prelude=$3 names
    shift 3
    {
        echo "#include \"$prelude\""
        # Sources have helpers of the same name.
        echo 'namespace {'
        printf '#include "%s"\n' "$@"
        echo '}'
    } >"$build/$name.cpp"
    names=$("$cxx" -E -P "${flags[@]}" -D__global__=EMULATED_ENTRY -D'__launch_bounds__(...)=' "$build/$name.cpp" | tr '\n' ' ' |
        grep -oE 'EMULATED_ENTRY +void +[A-Za-z0-9_]+' | awk '{ print $NF }')
    [[ -n $names ]] || {
        echo "emulate: $name has no kernels; has the layout of its source changed?" >&2
        return 1
    }
    {
        echo '__attribute__((constructor)) static void add_entries() {'
        # shellcheck disable=SC2086  # one line per name
        printf "    ENTRY($threads, %s);\n" $names
        echo '}'
    } >>"$build/$name.cpp"
}

make_machine() {
    local name source file
    rm -rf "$build"
    mkdir -p "$build"
    for name in affine binary cast fill indexing ternary unary; do
        table "candle_$name" independent candle.h "$registry/src/$name.cu"
    done
    table candle_reduce fibres candle.h "$registry/src/reduce.cu"
    # Only the kernels that dequantise: Prospect multiplies dequantised matrices.
    sed '/^DEQUANTIZE(q8_0)/q' "$registry/src/quantized.cu" >"$build/dequantise.cu"
    table candle_quantized fibres candle.h "$build/dequantise.cu"
    for source in "$kernels"/*.cu; do
        table "prospect_$(basename "$source" .cu)" fibres entries.h "$kernels/common.cuh" "$source"
    done
    cp "$sources"/*.cpp "$build"
    printf '%s\n' "$build"/*.cpp | xargs -P "$(nproc)" -I FILE "$cxx" "${flags[@]}" -O3 -march=native -c FILE -o FILE.o
    # Functions of CUDA that nothing should call.
    {
        grep -ohE 'fn (cu|cublas|cublasLt|curand|nccl)[A-Z][A-Za-z0-9_]*' "$bindings"/{driver,cublas,cublaslt,curand,nccl}/sys/mod.rs |
            cut -d ' ' -f 2
        grep -oE 'fn [a-z0-9_]+' "$registry/src/ffi.rs" | cut -d ' ' -f 2
    } | sort -u >"$build/all"
    nm --defined-only "$build"/*.o | awk '$2 == "T" { print $3 }' | sort -u >"$build/defined"
    {
        echo '#include "machine.h"'
        comm -23 "$build/all" "$build/defined" | sed 's/.*/extern "C" void &() { machine::fail("& is not emulated"); }/'
    } >"$build/missing.cpp"
    "$cxx" "${flags[@]}" -c "$build/missing.cpp" -o "$build/missing.cpp.o"
    # One library has everything; the others only exist.
    "$cxx" -shared -Wl,-soname,libcuda.so.1 "$build"/*.o -o "$machine/lib64/libcuda.so.1"
    for name in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libcudart.so.13 libnccl.so.2; do
        "$cxx" -shared -Wl,-soname,"$name" -x c++ - -o "$machine/lib64/$name" <<<''
    done
    ln -sf "$(scripts/check-kernels.sh --nvrtc)"/libnvrtc* "$machine/lib64/"
    for file in "$machine"/lib64/lib*.so.*; do
        ln -sf "$(basename "$file")" "${file%%.so.*}.so"
    done
}

inputs=$(cat "$kernels"/* "$sources"/*.* "$sources"/include/*.h "$0" <("$cxx" --version) <(echo "$registry") | sha256sum)
if [[ ! -e $machine/made || $(<"$machine/made") != "$inputs" ]]; then
    echo "emulate: building the machine" >&2
    make_machine
    echo "$inputs" >"$machine/made"
fi

# Crates that do not depend on candle are shared with other builds.
export CARGO_BUILD_BUILD_DIR=$target CARGO_TARGET_DIR=$target/emulated
export CUDA_HOME=$machine NVCC=$machine/bin/nvcc CUDA_COMPUTE_CAP=90 PATH=$machine/bin:$PATH
export LIBRARY_PATH=$machine/lib64${LIBRARY_PATH:+:$LIBRARY_PATH}
export LD_LIBRARY_PATH=$machine/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

if [[ ${1:-} == --machine ]]; then
    for name in CARGO_BUILD_BUILD_DIR CARGO_TARGET_DIR CUDA_HOME NVCC CUDA_COMPUTE_CAP PATH LIBRARY_PATH LD_LIBRARY_PATH; do
        printf 'export %s=%q\n' "$name" "${!name}"
    done
    exit
fi

# Compiled in less time: the models are small.
fast=(--config 'profile.release.package.prospect-model.opt-level=1' --config 'profile.release.package.prospect-model.codegen-units=16')
cargo test --release --features nccl "${fast[@]}" --test integration "${1:-needs_emulator}" -- --ignored
