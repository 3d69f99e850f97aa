#!/usr/bin/env bash
# Checks rendered pages in Chromium: reports of the demo, of thumbs, of a sweep of 200 runs with names in several scripts, of a
# theory file and of a comparison, a page of `prospect inspect`, and the list of reports. Feedback with markup must not
# reach the browser as markup. Some pages are compared with accepted screenshots (tests/pages/accepted).
#
#   scripts/check-pages.sh            check
#   scripts/check-pages.sh --accept   check, and replace the accepted screenshots; look at their difference before the commit
#   scripts/check-pages.sh --needs    only tell whether Chromium, Node.js and npm are installed
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
cat >many.yaml <<'YAML'
question: Do 200 runs and names in any script fit on a page?
data: data/thumbs
model: tiny
train: { learning_rate: 1e-3, batch_size: 4, max_length: 256, max_steps: 1 }
linked:
  方法:
    kto: { train.objective: kto }
    偏好 BCO: { train.objective: bco }
    مطبخ: { train.objective: apo_zero_unpaired }
    🚲 bikes: { train.objective: kto, train.desirable_weight: 2 }
matrix: { train.beta: [0.05, 0.1, 0.2, 0.5, 1] }
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
report: { x: train.beta, series: 方法, baseline: kto }
YAML
"$prospect" sweep many.yaml >/dev/null
mapfile -t pages < <(find . -name '*.html' | sort)
printf '%s\n' "${pages[@]}"
# The pages that are compared with screenshots, by name.
named() {
    case $1 in
        ./runs/demo/report/index.html) echo "demo=$1" ;;
        ./runs/many/report/index.html) echo "many=$1" ;;
        ./reports/theory/index.html) echo "theory=$1" ;;
        ./inspect.html) echo "inspect=$1" ;;
        *) echo "$1" ;;
    esac
}
mapfile -t arguments < <(for page in "${pages[@]}"; do named "$page"; done)
(($(printf '%s\n' "${arguments[@]}" | grep -c '^[a-z]*=') == 4)) || {
    echo "check-pages: a page that screenshots are of is missing" >&2
    exit 1
}
[[ ${1:-} != --accept ]] || arguments=(--accept "${arguments[@]}")
node "$checks/check.mjs" "$(command -v "$chromium")" "${arguments[@]}"
