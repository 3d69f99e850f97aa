//! Dataset card: the `README.md` from which the Hugging Face `datasets` library learns configs and
//! splits.

use crate::{Manifest, SplitCounts};

/// Returns the text of the card.
pub(crate) fn card(manifest: &Manifest) -> String {
    let row = |name: &str, counts: SplitCounts| {
        let SplitCounts { prompts, pairs, n_desirable, n_undesirable } = counts;
        format!("| {name} | {prompts} | {pairs} | {n_desirable} | {n_undesirable} |")
    };
    let (train, test) = (row("train", manifest.train), row("test", manifest.test));
    let groups = match &manifest.logs {
        Some(logs) if logs.train.groups + logs.test.groups > 0 => {
            "* `group` is a salted hash of the user or conversation that a judgement comes from.\n"
        }
        _ => "",
    };
    format!(
        "---
configs:
- config_name: kto
  default: true
  data_files:
  - split: train
    path: kto/train-*.parquet
  - split: test
    path: kto/test-*.parquet
- config_name: dpo
  data_files:
  - split: train
    path: dpo/train-*.parquet
  - split: test
    path: dpo/test-*.parquet
---

# Human feedback, binary and paired

Made by `prospect prepare` from {read} rows, of which {rejected} could not be used (`rejected.jsonl`).
`manifest.json` holds the recipe, the hashes of the inputs and every count by reason.

| split | prompts | pairs | desirable | undesirable |
|---|---|---|---|---|
{train}
{test}

* `kto`: `prompt`, `completion`, `label`, as TRL's `KTOTrainer` reads them. `original_label` is the label before
  `noise`; `id`, `prompt_id` and `pair_id` are hashes of the content.
* `dpo`: `prompt`, `chosen`, `rejected`, as TRL's `DPOTrainer` reads them. `swapped` says whether noise exchanged
  the two sides.
{groups}
Both hold the same rows with the same corruption; the test split is never corrupted.
",
        read = manifest.reading.read,
        rejected = manifest.reading.rejected,
    )
}
