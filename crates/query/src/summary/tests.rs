//! Summaries of small datasets, prepared as a user would.

use std::sync::Arc;

use prospect_core::config::Document;
use prospect_data::{ContradictionCounts, Message, PipelineFile, prepare};

use super::*;

fn dataset(recipe: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file: PipelineFile = Document::from_text("recipe.yaml", recipe).unwrap().read().unwrap();
    let pipeline = file.resolve(&|path| Ok(folder.path().join(path))).unwrap();
    prepare(&pipeline, &folder.path().join("out")).unwrap();
    folder
}

fn summary(folder: &tempfile::TempDir) -> DatasetSummary {
    summarise(&folder.path().join("out"), None, 2, &|_| {}).unwrap()
}

const NOISY: &str = "source: {kind: synthetic, pairs: 300}\n\
                     imbalance: {keep_desirable: 0.5}\n\
                     noise: {flip_desirable: 0.2, flip_undesirable: 0.1}\n";

#[test]
fn counts_are_those_of_the_manifest_and_add_up() {
    let summary = summary(&dataset(NOISY));
    let manifest = &summary.manifest;
    for (split, expected) in [(Split::Train, manifest.train), (Split::Test, manifest.test)] {
        let of_split = &summary.splits[&split];
        let counts = of_split.counts;
        assert_eq!((counts.desirable, counts.undesirable), (expected.n_desirable, expected.n_undesirable));
        assert_eq!(counts.pairs, expected.pairs);
        let groups: u64 =
            summary.groups.iter().filter(|g| g.split == split).map(|g| g.counts.desirable).sum();
        assert_eq!(groups, counts.desirable);
        assert_eq!(of_split.characters.prompt.count(), counts.desirable + counts.undesirable);
        assert_eq!(of_split.characters.desirable.count(), counts.desirable);
        assert_eq!(of_split.weights, (counts.desirable as f64, counts.undesirable as f64));
        let pairs: u64 = of_split.noise.values().map(|noise| noise.pairs).sum();
        assert_eq!(pairs, counts.pairs);
    }
    let flips = summary.splits[&Split::Train].noise["flip"];
    assert_eq!(flips.desirable, manifest.noise.flipped_desirable);
    assert_eq!(flips.undesirable, manifest.noise.flipped_undesirable);
    assert_eq!(flips.pairs, manifest.noise.swapped_pairs);
    assert_eq!(summary.rejected.rows, manifest.reading.rejected);
    assert!(!summary.splits[&Split::Test].noise.contains_key("flip"));
    // Two rows for each of {train, test} × {desirable, undesirable}, and for train × flipped.
    assert_eq!(summary.examples.len(), 12);
    assert!(summary.examples.iter().all(|row| row.noise == "none" || row.label != row.original_label));
}

#[test]
fn a_summary_does_not_depend_on_when_it_is_made() {
    let folder = dataset(NOISY);
    let json = |summary: &DatasetSummary| serde_json::to_string(summary).unwrap();
    assert_eq!(json(&summary(&folder)), json(&summary(&folder)));
}

/// An HH line with prompt `p`.
fn line(prompt: &str, chosen: &str, rejected: &str) -> String {
    let side = |text: &str| format!("\n\nHuman: {prompt}\n\nAssistant: {text}");
    serde_json::json!({"chosen": side(chosen), "rejected": side(rejected)}).to_string()
}

#[test]
fn policies_and_rejected_rows_are_told() {
    let folder = tempfile::tempdir().unwrap();
    // b is once desirable and twice undesirable; c is once each.
    let pairs =
        [("p", "a", "b"), ("p", "b", "c"), ("p", "c", "d"), ("p", "e", "b"), ("q", "é", "z"), ("r", "x", "")];
    let lines: Vec<_> = pairs.iter().map(|(p, c, r)| line(p, c, r)).collect();
    fs_err::write(folder.path().join("in.jsonl"), lines.join("\n") + "\nno json\n").unwrap();
    let recipe = "source: {kind: hh, path: in.jsonl}\nmax_rejected: 1\nsplit: {test_fraction: 0.5}\n";
    let file: PipelineFile = Document::from_text("recipe.yaml", recipe).unwrap().read().unwrap();
    let pipeline = file.resolve(&|path| Ok(folder.path().join(path))).unwrap();
    prepare(&pipeline, &folder.path().join("out")).unwrap();

    let summary = summary(&folder);
    let ContradictionCounts { completions, rows, policies, .. } = &summary.manifest.contradictions;
    assert_eq!((*completions, *rows), (2, 5));
    let effects: Vec<_> =
        policies.iter().map(|effect| (effect.desirable, effect.undesirable, effect.pairs)).collect();
    assert_eq!(effects, [(0, 0, 0), (2, 3, 4), (2, 1, 2)]);

    assert_eq!(summary.rejected.rows, 2);
    let reasons: Vec<_> =
        summary.rejected.by_reason.iter().map(|(reason, rows)| (reason.as_str(), *rows)).collect();
    assert_eq!(reasons, [("empty_completion", 1), ("not_json", 1)]);
    assert_eq!(summary.rejected.by_file.iter().next().unwrap(), (&"in.jsonl".to_owned(), &2));
    assert_eq!(summary.rejected.examples[1].line, 7);
    // Lengths count characters, not bytes.
    let shortest = |split: Split| summary.splits[&split].characters.desirable.quantile(1.0);
    assert!(Split::ALL.into_iter().all(|split| shortest(split) == Some(1)));
}

#[test]
fn tokens_are_counted_where_something_counts_them() {
    let folder = dataset("source: {kind: synthetic, pairs: 20}\n");
    let words =
        |messages: &[Message]| messages.iter().map(|message| message.content.split(' ').count()).sum();
    let count = move |prompt: &[Message], completion: &[Message]| Ok((words(prompt), words(completion)));
    let summary = summarise(
        &folder.path().join("out"),
        Some(&TokenCounter::new("counter".to_owned(), Arc::new(count))),
        1,
        &|_| {},
    )
    .unwrap();
    let of_train = &summary.splits[&Split::Train];
    let (tokens, characters) = (of_train.tokens.as_ref().unwrap(), &of_train.characters);
    assert_eq!(tokens.prompt.count(), characters.prompt.count());
    assert!(tokens.prompt.mean() < characters.prompt.mean());
    let fail = |_: &[Message], _: &[Message]| Err("no tokenizer".into());
    let error = summarise(
        &folder.path().join("out"),
        Some(&TokenCounter::new("none".to_owned(), Arc::new(fail))),
        1,
        &|_| {},
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "cannot count tokens: no tokenizer");
}
