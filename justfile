# Every recipe passes further arguments on: `just sweep imbalance --dry-run`.

prospect := "cargo run --release --"

# List the recipes.
[private]
default:
    @just --list

# Turn raw feedback into KTO and DPO parquet, as pipelines/NAME.yaml says.
[group('experiments')]
prepare-data NAME="hh" *ARGS:
    {{ prospect }} prepare pipelines/{{ NAME }}.yaml {{ ARGS }}

# Show what the dataset data/NAME holds (`--html FILE` for a page with figures).
[group('experiments')]
inspect NAME="hh" *ARGS:
    {{ prospect }} inspect data/{{ NAME }} {{ ARGS }}

# Train one model on the feedback of pipelines/NAME.yaml (`just train hh --model models/smollm2-135m.yaml`).
[group('experiments')]
train NAME *ARGS:
    {{ prospect }} train pipelines/{{ NAME }}.yaml {{ ARGS }}

# Run the experiment of experiments/NAME.yaml; a second call continues where it stopped.
[group('experiments')]
sweep NAME *ARGS:
    {{ prospect }} sweep experiments/{{ NAME }}.yaml {{ ARGS }}

# Show how far a sweep has come, also while it runs (`--json` for scripts).
[group('experiments')]
status NAME *ARGS:
    {{ prospect }} sweep status {{ NAME }} {{ ARGS }}

# Draw the figures and tables of a sweep.
[group('experiments')]
report NAME *ARGS:
    {{ prospect }} report {{ NAME }} {{ ARGS }}

# Go from synthetic feedback to a report with a tiny model, in a minute or two.
[group('experiments')]
demo *ARGS:
    {{ prospect }} demo {{ ARGS }}

# Run all tests.
[group('checks')]
test *ARGS:
    cargo test --workspace --release {{ ARGS }}

# Check format and lints.
[group('checks')]
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Check every recipe, model recipe and experiment that ships.
[group('checks')]
validate:
    {{ prospect }} validate pipelines/*.yaml models/*.yaml experiments/*.yaml

# Check licences, banned crates and sources (needs cargo-deny).
[group('checks')]
deny:
    cargo deny check bans licenses sources

# Run everything that CI runs.
[group('checks')]
ci:
    .ci/run

# Build with CUDA, with a toolkit made from wheels where there is none (no GPU needed, 13 to 26 minutes on 2 cores).
[group('checks')]
check-cuda *ARGS:
    scripts/check-cuda.sh {{ ARGS }}

# Check a GPU with the binary of check-cuda: kernels, rate, steps of 1 to 30 billion weights, torch beside them (under nine minutes).
[group('checks')]
gpu-check *ARGS:
    scripts/gpu-check.sh {{ ARGS }}

# Compile the CUDA kernels with NVRTC, which is fetched where there is none (no GPU needed, about a minute).
[group('checks')]
check-kernels:
    scripts/check-kernels.sh

# Time NAME beside its peers: `bench data HH_FILE [PYTHON]`, `bench train HH_FILE WEIGHTS [PYTHON]`, `bench jobs HH_FILE WEIGHTS`; see benches/NAME.sh.
[group('checks')]
bench NAME *ARGS:
    cargo build --release
    benches/{{ NAME }}.sh {{ ARGS }}
