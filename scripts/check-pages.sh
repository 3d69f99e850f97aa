#!/usr/bin/env bash
# Checks rendered pages in Chromium: reports of the demo, of thumbs, of a theory file and of a comparison, a page of
# `prospect inspect`, and the list of reports. Feedback with markup must not reach the browser as markup.
# Usage: scripts/check-pages.sh [--needs]   --needs only tells whether Chromium, Node.js and npm are installed
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
for program in "${chromium:-chromium}" node npm; do
    command -v "$program" >/dev/null || {
        echo "$program is not installed (apt-get install chromium nodejs npm)" >&2
        exit 1
    }
done
[[ ${1:-} != --needs ]] || exit 0

checks=$PWD/tests/pages
(cd "$checks" && npm ci --silent --no-audit --no-fund)
prospect=${PROSPECT:-}
if [[ -z $prospect ]]; then
    cargo build --release
    prospect=${CARGO_TARGET_DIR:-$PWD/target}/release/prospect
fi
prospect=$(realpath "$prospect")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
"$prospect" demo --out runs/demo >/dev/null
"$prospect" sweep theory >/dev/null
for i in $(seq 120); do
    label=$([[ $((i % 2)) == 0 ]] && echo true || echo false)
    echo "{\"prompt\": \"$i <script>console.log(1)</script> अंगूठा 👍\", \"completion\": \"$((i % 7)) <img src=http://127.0.0.1:99/x onerror=console.log(2)>\", \"label\": $label}"
done >thumbs.jsonl
"$prospect" prepare thumbs.jsonl --out data/thumbs
"$prospect" inspect data/thumbs --html inspect.html >/dev/null
for objective in kto bco; do
    "$prospect" train data/thumbs --model tiny --objective "$objective" --max-length 256 --set train.max_steps=4 \
        --set 'evaluate={generations: {prompts: 4, max_new_tokens: 8}}' --out runs/thumbs >/dev/null
done
"$prospect" report runs/thumbs >/dev/null
"$prospect" report --compare runs/demo runs/thumbs --out reports/both >/dev/null
mapfile -t pages < <(find . -name '*.html' | sort)
printf '%s\n' "${pages[@]}"
node "$checks/check.mjs" "$(command -v "$chromium")" "${pages[@]}"
