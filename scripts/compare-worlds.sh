#!/usr/bin/env bash
# Repeats `prospect compare` on synthetic worlds in which one method is truly better, and counts its recommendations.
#
#   scripts/compare-worlds.sh WORLD [REPETITIONS] [FIRST]
#
# WORLD  dpo: most thumbs are down and KTO gets no class weights, so DPO is better
#        kto: 5 % of the completions of each kind are left, so DPO has a dozen whole pairs, and KTO is better
#
# Every repetition has other feedback. STEPS is the budget of each (4500 and 3000), JOBS the number of processes (2). Results are kept in OUT
# (runs/compare-worlds), so a second call continues.
set -euo pipefail

world=${1:?usage: scripts/compare-worlds.sh dpo|kto [REPETITIONS] [FIRST]}
count=${2:-60}
first=${3:-0}
prospect=${PROSPECT:-target/release/prospect}
out=${OUT:-runs/compare-worlds}
export RAYON_NUM_THREADS=1

set_options=(
    --set 'model.architecture={vocab_size: 258, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2, head_dim: 16, max_position_embeddings: 256, tie_word_embeddings: true}'
    --max-length 200 --batch-size 16 --methods dpo,kto
    --set data.split.test_fraction=0.25
)
case $world in
dpo)
    steps=4500
    set_options+=(--set data.source.pairs=4000 --set 'data.source.world.thumbs={threshold: 0.3}'
        --set 'linked.method.kto={"train.objective": "kto", "train.beta": 0.1}')
    ;;
kto)
    steps=3000
    set_options+=(--set data.source.pairs=7600 --learning-rate 2e-3
        --set data.imbalance.keep_desirable=0.05 --set data.imbalance.keep_undesirable=0.05)
    ;;
*) echo "compare-worlds: there is no world \`$world\`; worlds: dpo, kto" >&2; exit 2 ;;
esac

one() {
    local seed=$1 folder=$out/$world-$1
    if [[ ! -s $folder.txt ]]; then
        "$prospect" compare pipelines/worlds.yaml --model models/tiny.yaml "${set_options[@]}" \
            --set data.seed="$seed" --steps "${STEPS:-$steps}" --out "$folder" >"$folder.part" 2>"$folder.log"
        mv "$folder.part" "$folder.txt"
        # Only the record and the summary are kept.
        rm -rf "$folder/runs" "$folder/data" "$folder/report"
    fi
}

mkdir -p "$out"
for ((seed = first; seed < first + count; seed++)); do
    while (($(jobs -rp | wc -l) >= ${JOBS:-2})); do wait -n; done
    one "$seed" &
done
wait

tally() { cat "$out/$world"-*.txt | grep -c "^$1" || true; }
printf '%s is truly better: %s repetitions, dpo recommended in %s, kto in %s, inconclusive %s\n' "$world" \
    "$(cat "$out/$world"-*.txt | grep -Ec '^(Recommendation|Inconclusive)')" \
    "$(tally 'Recommendation: dpo\.')" "$(tally 'Recommendation: kto\.')" "$(tally Inconclusive)"
