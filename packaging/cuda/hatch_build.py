"""Puts the CUDA build into the wheel, with the platform tag that its symbols need."""

import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[2]


def platform_tag(binary):
    """Returns the manylinux tag of the newest glibc symbol that the binary uses."""
    symbols = subprocess.run(
        ["readelf", "--version-info", "--wide", binary], check=True, capture_output=True, text=True
    ).stdout
    versions = [tuple(map(int, each)) for each in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)]
    if not versions:
        raise RuntimeError(f"{binary} uses no symbol of glibc; is it a dynamically linked Linux binary?")
    major, minor = max(versions)
    return f"manylinux_{major}_{minor}_{platform.machine()}"


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        binary = Path(os.environ.get("PROSPECT_CUDA_BINARY", ROOT / "target/cuda/release/prospect")).resolve()
        if not binary.is_file():
            raise FileNotFoundError(f"{binary}: build it with scripts/check-cuda.sh, or set PROSPECT_CUDA_BINARY")
        self.scratch = tempfile.TemporaryDirectory()
        stripped = Path(self.scratch.name) / "prospect"
        subprocess.run(["strip", "-o", stripped, binary], check=True)
        build_data["force_include"][str(stripped)] = "prospect_kto_cuda/prospect"
        licenses = [
            *ROOT.glob("LICENSE-*"),
            *ROOT.glob("crates/report/assets/LICENSE-*"),
            *ROOT.glob("packaging/THIRD-PARTY-*.txt"),
        ]
        for file in licenses:
            build_data["force_include"][str(file)] = f"prospect_kto_cuda/{file.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(binary)}"

    def finalize(self, version, build_data, artifact_path):
        self.scratch.cleanup()
