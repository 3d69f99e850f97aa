#!/usr/bin/env bash
# Builds the Python wheel, installs it in a fresh environment, and uses it in an empty folder.
# Usage: scripts/check-wheel.sh [FOLDER]   keeps the wheel in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
wheels=${1:-$scratch/wheels}

# Ignored by git: the licences of all crates that the wheel's binary contains.
python3 scripts/third-party.py licenses --out packaging/THIRD-PARTY-LICENSES.txt
python3 -m venv "$scratch/build"
"$scratch/build/bin/pip" install --quiet 'maturin>=1.9,<2'
# The profile of `cargo run --release`, whose build it shares. Releases are built with the profile `dist`.
"$scratch/build/bin/maturin" build --quiet --release --locked --out "$wheels"
python3 -m zipfile -l "$wheels"/prospect_kto-*.whl | grep -q THIRD-PARTY-LICENSES || {
    echo 'check-wheel: the wheel lacks the licences of its crates (packaging/THIRD-PARTY-LICENSES.txt)' >&2
    exit 1
}

python3 -m venv "$scratch/use"
"$scratch/use/bin/pip" install --quiet --no-index "$wheels"/prospect_kto-*.whl
mkdir "$scratch/empty"
cd "$scratch/empty"
"$scratch/use/bin/prospect" --version
"$scratch/use/bin/prospect" doctor
"$scratch/use/bin/prospect" demo
test -s runs/demo/report/index.html
ls -lh "$wheels"
