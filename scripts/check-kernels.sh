#!/usr/bin/env bash
# Compiles every CUDA kernel with NVRTC to machine code for each GPU generation. No GPU is needed. About a minute.
#
#   scripts/check-kernels.sh            download NVRTC (90 MB) if it is missing, then compile
#   scripts/check-kernels.sh --nvrtc    only download NVRTC, and print its folder
#
# CUDA_HOME               installed toolkit whose NVRTC is used instead
# KERNEL_ARCHITECTURES    default: sm_80 sm_90 sm_100 (A100, H100 and H200, B200)
set -euo pipefail
cd "$(dirname "$0")/.."

version=13.0.88
cache=${XDG_CACHE_HOME:-$HOME/.cache}/prospect
python=$(command -v python3 || command -v python) || {
    echo "check-kernels: no python3 to download and call NVRTC; install python3 with pip" >&2
    exit 1
}

# Prints the folder of libnvrtc: of an installed toolkit, of scripts/check-cuda.sh, or of a download of its own.
find_nvrtc() {
    local folder scratch
    for folder in ${CUDA_HOME:+"$CUDA_HOME/lib64"} "$cache/cuda-$version/lib" "$cache/nvrtc-$version/lib"; do
        if compgen -G "$folder/libnvrtc.so*" >/dev/null; then
            echo "$folder"
            return
        fi
    done
    mkdir -p "$cache"
    scratch=$(mktemp -d "$cache/nvrtc.XXXXXX")
    # shellcheck disable=SC2064  # expand the folder now
    trap "rm -rf '$scratch'" EXIT
    "$python" -m pip download --quiet --no-deps --dest "$scratch" "nvidia-cuda-nvrtc==$version" >&2
    "$python" -m zipfile -e "$scratch"/*.whl "$scratch/tree"
    # Rename at the end, so that an interrupted run leaves no partial folder under the final name.
    mv -T "$scratch/tree/nvidia/cu13" "$cache/nvrtc-$version"
    echo "$cache/nvrtc-$version/lib"
}

nvrtc=$(find_nvrtc)
if [[ ${1:-} == --nvrtc ]]; then
    echo "$nvrtc"
    exit
fi

sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
cargo run --quiet --release --package prospect-kernels --example sources -- "$sources"

# NVRTC searches this path for its builtins.
export LD_LIBRARY_PATH=$nvrtc${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
read -ra architectures <<<"${KERNEL_ARCHITECTURES:-sm_80 sm_90 sm_100}"
"$python" - "$nvrtc" "$sources" "${architectures[@]}" <<'PYTHON'
import ctypes, glob, os, re, sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer

nvrtc_folder, folder, *architectures = sys.argv[1:]
# Excludes libnvrtc-builtins and the alternative build in the wheel.
library = min(glob.glob(os.path.join(nvrtc_folder, "libnvrtc.so*")), key=len)
nvrtc = ctypes.CDLL(library)


def call(name, *arguments):
    code = getattr(nvrtc, name)(*arguments)
    if code != 0:
        raise SystemExit(f"check-kernels: {name} of {library} failed with code {code}")


def text(program, what):
    size = c_size_t()
    call(f"nvrtcGet{what}Size", program, byref(size))
    buffer = create_string_buffer(size.value)
    call(f"nvrtcGet{what}", program, buffer)
    return buffer.raw


major, minor = c_int(), c_int()
call("nvrtcVersion", byref(major), byref(minor))
count = c_int()
call("nvrtcGetNumSupportedArchs", byref(count))
known = (c_int * count.value)()
call("nvrtcGetSupportedArchs", known)
print(f"NVRTC {major.value}.{minor.value}")

failed = False
compiled = 0
for architecture in architectures:
    if int(re.sub(r"\D", "", architecture)) not in list(known):
        print(f"{architecture}: skipped, not supported by this NVRTC")
        continue
    for path in sorted(glob.glob(os.path.join(folder, "*.cu"))):
        name = os.path.basename(path)
        with open(path, "rb") as file:
            source = file.read()
        with open(path[: -len("cu")] + "entries") as file:
            entries = file.read().split()
        program = c_void_p()
        call("nvrtcCreateProgram", byref(program), source, name.encode(), 0, None, None)
        options = ["--std=c++17", f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
        array = (c_char_p * len(options))(*(option.encode() for option in options))
        code = nvrtc.nvrtcCompileProgram(program, len(options), array)
        log = text(program, "ProgramLog").rstrip(b"\0").decode()
        what = f"{architecture} {name}"
        if code != 0 or re.search(r"warning", log):
            failed = True
            print(f"{what}: FAILED\n{log}")
            continue
        machine_code = text(program, "CUBIN")
        missing = [entry for entry in entries if b".text." + entry.encode() + b"\0" not in machine_code]
        if missing:
            failed = True
            print(f"{what}: FAILED, missing entry {', '.join(missing)}")
            continue
        compiled += len(entries)
        registers = max(map(int, re.findall(r"Used (\d+) registers", log)))
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill stores", log)))
        print(f"{what}: {len(entries)} kernels, at most {registers} registers, {spilled} bytes spilled in total")
        call("nvrtcDestroyProgram", byref(program))

if failed or compiled == 0:
    raise SystemExit("check-kernels: some kernels do not compile")
print(f"check-kernels: {compiled} kernels compiled")
PYTHON
