#!/usr/bin/env bash
# Checks the workspace with the oldest Rust that Cargo.toml supports (rustup toolchain install VERSION).
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# A folder of its own, because another compiler would make the other build stale.
CARGO_TARGET_DIR=target/msrv rustup run "$version" cargo check --release --workspace --all-targets --locked
