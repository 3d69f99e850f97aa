use std::{collections::BTreeMap, path::Path};

use prospect_core::config::Document;

use super::*;
use crate::{PipelineFile, Split, prepare, read_binary, read_pairs};

/// Prepares JSON rows, with further keys of the recipe.
fn dataset(folder: &Path, rows: &[serde_json::Value], more: &str) -> std::path::PathBuf {
    let input = folder.join("rows.jsonl");
    fs_err::write(&input, rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")).unwrap();
    let recipe = format!("source: {{path: {}}}\nmax_rejected: 1\n{more}", input.display());
    let file: PipelineFile = Document::from_text("recipe.yaml", &recipe).unwrap().read().unwrap();
    let out = folder.join("dataset");
    prepare(&file.resolve(&|path| Ok(path.into())).unwrap(), &out).unwrap();
    out
}

/// Signals by completion, label and number of judgements, of the judgements that have any.
fn found(dataset: &Path) -> BTreeMap<(String, bool, String), usize> {
    let mut items = read_items(dataset).unwrap();
    mark(&mut items);
    let mut found = BTreeMap::new();
    for item in items.iter().filter(|item| !item.signals.is_empty()) {
        let row = TriageRow { item, fold: None, score: None, disagreement: None, rank: None };
        *found.entry((item.completion[0].content.clone(), item.label, row.signals())).or_default() += 1;
    }
    found
}

const TEXT: &str = "Water the tomatoes every morning. Then wait for two weeks, and feed the roots with";

#[test]
fn signals_of_thumbs_are_exact() {
    let thumb = |prompt: &str, completion: &str, label: bool| serde_json::json!({"prompt": prompt, "completion": completion, "label": label});
    let scored = |completion: &str, label: bool, score: f64| serde_json::json!({"prompt": "rate", "completion": completion, "label": label, "score": score});
    let long = "please tell me in a few words how to bake a good loaf of bread at home today";
    let answer = "mix flour and water and salt and yeast then wait and bake it for one hour";
    let rows = [
        // Two against one: only the one is suspect.
        thumb("p", "often", true),
        thumb("p", "often", true),
        thumb("p", "often", false),
        // One against one: both are.
        thumb("p", "once", true),
        thumb("p", "once", false),
        // Scores: 8 is above all desirable ones; 5 is in order with two of three.
        scored("five", true, 5.0),
        scored("six", true, 6.0),
        scored("eight", false, 8.0),
        scored("one", false, 1.0),
        scored("two", false, 2.0),
        // Near duplicates with opposite labels, of nearly the same prompt; one of another prompt.
        thumb(long, answer, true),
        thumb(&format!("{long}!"), &format!("{answer}."), false),
        thumb("something else entirely", answer, false),
        thumb("garden", TEXT, true),
        thumb("garden 2", TEXT, false),
        thumb("garden 3", &format!("{TEXT} compost."), true),
    ];
    let folder = tempfile::tempdir().unwrap();
    let expected: BTreeMap<(String, bool, String), usize> = [
        ("often", false, "opposite_label", 1),
        ("once", true, "opposite_label", 1),
        ("once", false, "opposite_label", 1),
        ("eight", false, "score", 1),
        (answer, true, "near_duplicate", 1),
        (&format!("{answer}."), false, "near_duplicate", 1),
        (TEXT, true, "cut_off", 1),
    ]
    .into_iter()
    .map(|(text, label, signals, count)| ((text.to_owned(), label, signals.to_owned()), count))
    .collect();
    assert_eq!(found(&dataset(folder.path(), &rows, "split: {test_fraction: 0.3}")), expected);
}

#[test]
fn signals_of_pairs_are_exact() {
    let pair = |prompt: &str, chosen: &str, rejected: &str| serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let scored = |prompt: &str, chosen: f64, rejected: f64| serde_json::json!({"prompt": prompt, "chosen": format!("c{prompt}"), "rejected": "r", "score_chosen": chosen, "score_rejected": rejected});
    let words = |n: usize| (0..20).map(|word| format!("w{n}x{word}")).collect::<Vec<_>>().join(" ");
    let rows = [
        pair("p", "good", "bad"),
        pair("p", "bad", "good"),
        // Twice against once.
        pair("q", "right", "wrong"),
        pair("q", "right", "wrong"),
        pair("q", "wrong", "right"),
        // A near duplicate in the other order, and one in the same order.
        pair(&words(0), &words(1), &words(2)),
        pair(&format!("{} !", words(0)), &format!("{}.", words(2)), &format!("{}.", words(1))),
        pair(&words(3), &words(4), &words(5)),
        pair(&format!("{}?", words(3)), &format!("{}.", words(4)), &words(5)),
        scored("s", 1.0, 2.0),
        scored("t", 2.0, 1.0),
        scored("u", 2.0, 2.0),
        pair("cut", TEXT, "no"),
        pair("both cut", TEXT, &TEXT.replace("tomatoes", "beans")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = dataset(folder.path(), &rows, "split: {test_fraction: 0.3}");
    let expected: BTreeMap<(String, bool, String), usize> = [
        ("good".to_owned(), "both_orders", 1),
        ("bad".to_owned(), "both_orders", 1),
        ("wrong".to_owned(), "both_orders", 1),
        (words(1), "near_duplicate", 1),
        (format!("{}.", words(2)), "near_duplicate", 1),
        ("cs".to_owned(), "score", 1),
        (TEXT.to_owned(), "cut_off", 1),
    ]
    .into_iter()
    .map(|(text, signals, count)| ((text, true, signals.to_owned()), count))
    .collect();
    assert_eq!(found(&path), expected);
    // The judgement that contradicts is named.
    let mut items = read_items(&path).unwrap();
    mark(&mut items);
    let good = items.iter().find(|item| item.completion[0].content == "good").unwrap();
    let bad = items.iter().find(|item| item.completion[0].content == "bad").unwrap();
    assert_eq!(good.counterpart.as_ref(), Some(&bad.id));
}

#[test]
fn folds_hold_every_prompt_out_once_and_keep_what_noise_did() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<serde_json::Value> = (0..60)
        .map(|n| serde_json::json!({"prompt": format!("p{}", n / 2), "chosen": format!("yes {n}"), "rejected": "no"}))
        .collect();
    let path = dataset(folder.path(), &rows, "noise: {swap_pairs: 0.25}\n");
    let all: Vec<_> = Split::ALL.into_iter().flat_map(|split| read_pairs(&path, split).unwrap()).collect();
    let out = folder.path().join("folds");
    let folds = write_folds(&path, &out, 4, 0).unwrap();
    let mut held_out = Vec::new();
    for fold in &folds {
        let [train, test] = Split::ALL.map(|split| read_pairs(&fold.path, split).unwrap());
        assert_eq!(train.len() + test.len(), all.len());
        assert!(train.iter().all(|pair| !fold.prompts.contains(&pair.prompt_id)));
        assert!(test.iter().all(|pair| fold.prompts.contains(&pair.prompt_id)));
        let rows = read_binary(&fold.path, Split::Test).unwrap();
        assert_eq!(rows.len(), 2 * test.len());
        // Every row is a side of a pair of the fold, under its new id.
        assert!(rows.iter().all(|row| test.iter().any(|pair| Some(&pair.pair_id) == row.pair_id.as_ref())));
        let manifest = crate::read_manifest(&fold.path).unwrap();
        assert_eq!((manifest.train.pairs, manifest.test.pairs), (train.len() as u64, test.len() as u64));
        held_out.extend(test);
    }
    let key = |pair: &crate::PairRow| (pair.prompt_id.clone(), pair.chosen[0].content.clone(), pair.swapped);
    let keys = |pairs: &[crate::PairRow]| pairs.iter().map(key).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((held_out.len(), keys(&held_out)), (all.len(), keys(&all)));
    assert!(all.iter().any(|pair| pair.swapped));
    // Items and folds agree on the ids of contents.
    let items = read_items(&path).unwrap();
    assert!(items.iter().all(|item| held_out.iter().any(|pair| pair.pair_id == item.content_id)));
    assert_eq!(
        items.iter().filter(|item| item.is_flipped).count(),
        all.iter().filter(|pair| pair.swapped).count()
    );
    // A second call leaves the folds alone, and writes a damaged one again.
    let written =
        |fold: &Fold| fs_err::metadata(fold.path.join("manifest.json")).unwrap().modified().unwrap();
    let before: Vec<_> = folds.iter().map(written).collect();
    fs_err::write(folds[1].path.join("BLAKE3SUMS"), "").unwrap();
    let again = write_folds(&path, &out, 4, 0).unwrap();
    assert_eq!(again, folds);
    let after: Vec<_> = folds.iter().map(written).collect();
    assert_eq!((before[0], before[2] == after[2], before[1] == after[1]), (after[0], true, false));
    assert!(write_folds(&path, &folder.path().join("more"), 100, 0).is_err());
}

#[test]
fn the_table_is_written_with_all_columns() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        serde_json::json!({"prompt": "p", "completion": "a", "label": true}),
        serde_json::json!({"prompt": "p", "completion": "a", "label": false}),
    ];
    let mut items = read_items(&dataset(folder.path(), &rows, "split: {test_fraction: 0}")).unwrap();
    mark(&mut items);
    let rows: Vec<TriageRow<'_>> = items
        .iter()
        .map(|item| TriageRow { item, fold: Some(1), score: Some(0.5), disagreement: None, rank: Some(1) })
        .collect();
    let file = folder.path().join("triage.parquet");
    write_table(&file, &rows).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
        fs_err::File::open(&file).unwrap().into_file(),
    );
    let batch = reader.unwrap().build().unwrap().next().unwrap().unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        names.join(" "),
        "kind id label prompt_id split source domain fold score disagreement rank signals counterpart"
    );
    assert_eq!(batch.num_rows(), 2);
    assert_eq!(batch.column(9).null_count(), 2);
    // An entry of the list names the judgement alone.
    assert!(items.iter().any(|item| item.list_entry() == format!("{} false", item.id)));
}
