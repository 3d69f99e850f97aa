#!/usr/bin/env bash
# Builds the Python wheel, installs it in a fresh environment, and uses it in an empty folder.
# Usage: scripts/check-wheel.sh [FOLDER]   keeps the wheel in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
wheels=${1:-$scratch/wheels}

python3 -m venv "$scratch/build"
"$scratch/build/bin/pip" install --quiet 'maturin>=1.9,<2'
# The profile of `cargo run --release`, whose build it shares. Releases are built with the profile `dist`.
"$scratch/build/bin/maturin" build --quiet --release --locked --out "$wheels"

python3 -m venv "$scratch/use"
"$scratch/use/bin/pip" install --quiet --no-index "$wheels"/prospect_kto-*.whl
mkdir "$scratch/empty"
cd "$scratch/empty"
"$scratch/use/bin/prospect" --version
"$scratch/use/bin/prospect" doctor
"$scratch/use/bin/prospect" demo
test -s runs/demo/report/index.html
ls -lh "$wheels"
