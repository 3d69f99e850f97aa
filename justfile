# Every recipe passes additional arguments to its command: `just sweep imbalance --dry-run`.

prospect := "cargo run --release --"

# List the recipes.
[private]
default:
    @just --list

# Prepare the KTO and DPO datasets of pipelines/NAME.yaml.
[group('experiments')]
prepare-data NAME="hh" *ARGS:
    {{ prospect }} prepare {{ NAME }} {{ ARGS }}

# Show the contents of the dataset data/NAME (`--html FILE` for a page with figures).
[group('experiments')]
inspect NAME="hh" *ARGS:
    {{ prospect }} inspect data/{{ NAME }} {{ ARGS }}

# Show examples of the dataset data/NAME as training sees them.
[group('experiments')]
preview NAME="hh" MODEL="smollm2-135m" *ARGS:
    {{ prospect }} preview data/{{ NAME }} --model {{ MODEL }} {{ ARGS }}

# Find training settings of models/NAME.yaml that fit a memory budget (`just plan llama-30b --gpu 80GiB`).
[group('experiments')]
plan NAME *ARGS:
    {{ prospect }} plan {{ NAME }} {{ ARGS }}

# Train one model on pipelines/NAME.yaml or a file of feedback (`just train hh --model smollm2-135m`).
[group('experiments')]
train NAME *ARGS:
    {{ prospect }} train {{ NAME }} {{ ARGS }}

# Recommend a method for your feedback (`just compare feedback.jsonl smollm2-135m --budget 2h`).
[group('experiments')]
compare DATA MODEL="smollm2-135m" *ARGS:
    {{ prospect }} compare {{ DATA }} --model {{ MODEL }} {{ ARGS }}

# Run the experiment experiments/NAME.yaml; a second call resumes it.
[group('experiments')]
sweep NAME *ARGS:
    {{ prospect }} sweep {{ NAME }} {{ ARGS }}

# Show the progress of a sweep, also while it runs (`--json` for scripts).
[group('experiments')]
status NAME *ARGS:
    {{ prospect }} sweep status {{ NAME }} {{ ARGS }}

# Write the report of a sweep: figures and tables.
[group('experiments')]
report NAME *ARGS:
    {{ prospect }} report {{ NAME }} {{ ARGS }}

# Judge the generations of a sweep (`--endpoint URL --model NAME`, or `--reward-model MODEL`).
[group('experiments')]
judge NAME *ARGS:
    {{ prospect }} judge {{ NAME }} {{ ARGS }}

# Export a model, a dataset or a sweep for other tools.
[group('experiments')]
export FROM *ARGS:
    {{ prospect }} export {{ FROM }} {{ ARGS }}

# Run the whole pipeline on synthetic feedback with a tiny model (about a minute on two cores).
[group('experiments')]
demo *ARGS:
    {{ prospect }} demo {{ ARGS }}

# Run all tests.
[group('checks')]
test *ARGS:
    cargo test --workspace --release {{ ARGS }}

# Check formatting and lints.
[group('checks')]
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Simulate intervals, verdicts and comparisons in stages (`just simulate 200` is faster, `just simulate 1000 stages` only the last).
[group('checks')]
simulate *ARGS:
    cargo run --release -p prospect-analysis --example simulate -- {{ ARGS }}

# Repeat `prospect compare` on worlds in which dpo (or kto) is better, and count its recommendations (13 to 27 s of processor time each).
[group('checks')]
compare-worlds WORLD *ARGS:
    cargo build --release
    scripts/compare-worlds.sh {{ WORLD }} {{ ARGS }}

# Measure how often accuracies order the policies of a sweep on a world as their true utility does (`just measures runs/frontier-quick`).
[group('checks')]
measures *SWEEPS:
    cargo run --release -p prospect-analysis --example measures -- {{ SWEEPS }}

# Kill commands at N drawn moments, make N calls of the file system fail, and compare with undisturbed runs (a quarter of an hour for 500 kills).
[group('checks')]
chaos N="500":
    PROSPECT_CHAOS_KILLS={{ N }} PROSPECT_FAULTS={{ N }} PROSPECT_MEMORY_LIMITS=40 nice -n 19 \
        cargo test --release --test integration -- --nocapture --test-threads 1 survival::kill survival::faults survival::memory

# Train thousands of tiny runs in one process, and hundreds by twenty workers without locks (five minutes).
[group('checks')]
soak RUNS="5000" WORKERS="20" SHARED="500":
    PROSPECT_SOAK_RUNS={{ RUNS }} PROSPECT_SOAK_WORKERS={{ WORKERS }} PROSPECT_SOAK_SHARED_RUNS={{ SHARED }} nice -n 19 \
        cargo test --release --test integration -- --nocapture --test-threads 1 survival::soak

# Validate all data recipes, model recipes and experiments of the repository.
[group('checks')]
validate:
    {{ prospect }} validate pipelines/*.yaml models/*.yaml experiments/*.yaml

# Build docs/ as a book with search (`just book serve --open` shows it and follows changes).
[group('checks')]
book *ARGS:
    scripts/book.sh {{ ARGS }}

# Check reports in Chromium: console, requests, widths, keyboard, accessibility (needs chromium and npm).
[group('checks')]
check-pages:
    scripts/check-pages.sh

# Check licences, banned crates and sources (needs cargo-deny).
[group('checks')]
deny:
    cargo deny check bans licenses sources

# Try ROUNDS mutated copies of model files, YAML files and feedback of every format (tests try 40 to 60).
[group('checks')]
fuzz-files ROUNDS="5000":
    PROSPECT_FUZZ_ROUNDS={{ ROUNDS }} cargo test --workspace --release -- hostile damaged

# Fuzz each reader for SECONDS, guided by coverage (needs a nightly compiler and cargo-fuzz).
[group('checks')]
fuzz SECONDS="1200" *TARGETS:
    scripts/fuzz.sh {{ SECONDS }} {{ TARGETS }}

# Run the tests of the CPU kernels under AddressSanitizer (needs a nightly compiler).
[group('checks')]
sanitize *ARGS:
    scripts/sanitize.sh {{ ARGS }}

# Run short tests of CPU kernels under Miri (ten minutes; needs a nightly compiler with miri and rust-src).
[group('checks')]
miri:
    scripts/miri.sh

# Run everything that CI runs.
[group('checks')]
ci:
    .ci/run

# Build the Python wheel, install it in a fresh environment, and run the demo there.
[group('checks')]
check-wheel *ARGS:
    scripts/check-wheel.sh {{ ARGS }}

# Build the wheel of the CUDA build, and check that it loads with NVIDIA's wheels (no GPU needed).
[group('checks')]
check-cuda-wheel *ARGS:
    scripts/check-cuda-wheel.sh {{ ARGS }}

# Build with CUDA, with a toolkit made from wheels if none is installed (no GPU needed).
[group('checks')]
check-cuda *ARGS:
    scripts/check-cuda.sh {{ ARGS }}

# Run a build with CUDA on an emulated GPU: parity with the CPU, counts of launches, memory against the plan.
[group('checks')]
emulate *ARGS:
    scripts/emulate.sh {{ ARGS }}

# Test and benchmark a GPU with the binary of check-cuda (under 9 minutes).
[group('checks')]
gpu-check *ARGS:
    scripts/gpu-check.sh {{ ARGS }}

# Compile the CUDA kernels with NVRTC, downloaded if not installed (no GPU needed, about a minute).
[group('checks')]
check-kernels:
    scripts/check-kernels.sh

# Benchmark against other tools: `data`, `train` or `jobs`, with the arguments of docs/performance.md.
[group('checks')]
bench NAME *ARGS:
    cargo build --release
    benches/{{ NAME }}.sh {{ ARGS }}
