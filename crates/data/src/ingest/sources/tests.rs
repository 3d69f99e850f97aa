//! Reads whole files through a source, written as in a recipe.

use std::path::Path;

use prospect_core::config::Document;

use super::*;
use crate::{SourceFiles, ingest::raw::RawGroup};

mod damage;
mod formats;

/// Everything that a source passes on.
pub(crate) type Collected = crate::ingest::rejections::tests::CollectedRows;

/// Resolves a source as written, with the test's own path.
fn resolve(source: &str, path: &Path) -> Result<ResolvedSources, DataError> {
    let mut document = Document::from_text("source", source).unwrap();
    document.set("path", path.display().to_string().into()).unwrap();
    let file: SourceFiles = document.read().unwrap();
    Ok(file.resolve(0, &|path| Ok(path.into()))?.0)
}

fn collect(source: &str, path: &Path) -> Collected {
    let sources = resolve(source, path).unwrap();
    let mut first = Collected::default();
    sources.read(Path::new("unused"), &mut first).unwrap();
    // Reading a source twice gives the same rows.
    let mut again = Collected::default();
    sources.read(Path::new("unused"), &mut again).unwrap();
    assert_eq!((&first.groups, &first.counts), (&again.groups, &again.counts));
    assert_eq!(first.rejected.len() as u64, first.counts.rejected);
    first
}

/// Reads a file with this name and content; `source` is YAML without `path`.
pub(crate) fn read(source: &str, name: &str, content: &[u8]) -> Collected {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(name), content).unwrap();
    collect(source, &folder.path().join(name))
}

/// Reads a folder with these files.
pub(crate) fn read_folder(source: &str, files: &[(&str, &str)]) -> Collected {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    collect(source, folder.path())
}

/// Reads the single group of a one-record file whose kind is detected.
pub(crate) fn only(record: &serde_json::Value) -> RawGroup {
    let mut read = read("{}", "a.jsonl", record.to_string().as_bytes());
    assert_eq!((read.groups.len(), read.counts.rejected), (1, 0), "{record}");
    read.groups.remove(0)
}

#[test]
fn hh_reads_its_four_folders_with_their_splits_and_no_red_team() {
    let row = |text: &str| {
        format!(
            r#"{{"chosen": "\n\nHuman: q\n\nAssistant: {text}", "rejected": "\n\nHuman: q\n\nAssistant: no"}}"#
        )
    };
    let names: Vec<String> =
        ["harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled", "red-team-attempts"]
            .iter()
            .flat_map(|folder| ["train", "test"].map(|split| format!("{folder}/{split}.jsonl")))
            .collect();
    let rows: Vec<String> = names.iter().map(|name| row(name)).collect();
    let files: Vec<(&str, &str)> =
        names.iter().zip(&rows).map(|(name, row)| (name.as_str(), row.as_str())).collect();
    let domains = |source: &str| -> Vec<String> {
        read_folder(source, &files).groups.iter().map(|group| group.domain.to_string()).collect()
    };
    assert_eq!(domains("{kind: hh}").len(), 8);
    assert_eq!(domains("{kind: hh, only: harmless}"), ["harmless-base"; 2]);
    assert_eq!(domains("{kind: hh, only: helpful}").len(), 6);
    assert_eq!(domains("{kind: hh, domains: [helpful-online]}"), ["helpful-online"; 2]);
}

#[test]
fn a_setting_that_the_kind_does_not_know_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (source, setting) in [
        ("{kind: hh, ranks: all}", "ranks"),
        ("{kind: shp, only: helpful}", "only"),
        ("{kind: oasst, columns: {prompt: p}}", "columns"),
        ("{kind: shp, columns: {group: user}}", "columns"),
        ("{kind: pairs, words: {desirable: [a]}}", "words"),
        ("{kind: pairs, max_pairs_per_post: null}", "max_pairs_per_post"),
    ] {
        let error = resolve(source, file.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`source.{setting}` has no effect")), "{error}");
    }
    assert!(matches!(
        resolve("{kind: scores}", file.path()),
        Err(DataError::Value { key, .. }) if key == "source.binarise"
    ));
    let row = r#"{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}"#;
    fs_err::write(file.path(), row).unwrap();
    let hh = resolve("{kind: hh, binarise: {by: best_and_worst}}", file.path()).unwrap();
    let read = hh.read(Path::new("unused"), &mut Collected::default());
    assert!(matches!(read, Err(DataError::NoScores(_))), "{read:?}");
}

#[test]
fn tables_of_public_sets_are_read_with_their_numbers_as_text() {
    let shp = b"post_id,history,human_ref_A,human_ref_B,labels,score_A,score_B\n7,q,a,b,1,4,2.0\n8,q,a,b,0.0,2,4\n9,q,a,b,2,2,4\n";
    let read = super::tests::read("{}", "a.csv", shp);
    assert_eq!((read.counts.kept, read.counts.rejected_by_reason["bad_value"]), (2, 1));
    let chosen: Vec<_> =
        read.groups.iter().map(|group| group.completions[0].messages[0].content.as_str()).collect();
    assert_eq!((chosen, read.groups[0].completions[0].score), (vec!["a", "b"], Some(4.0)));
    let hh = b"chosen,rejected,score_chosen,score_rejected\n\"\n\nHuman: q\n\nAssistant: a\",\"\n\nHuman: q\n\nAssistant: b\",3.5,\n";
    let read = super::tests::read("{}", "a.csv", hh);
    let scores: Vec<_> = read.groups[0].completions.iter().map(|side| side.score).collect();
    assert_eq!((scores, read.counts.kept), (vec![Some(3.5), None], 1));
}

#[test]
fn the_recipe_can_give_encoding_delimiter_and_quoting() {
    let western = b"prompt;completion;label\ngr\xfcn;a;true\n";
    let source = "{encoding: windows-1252, csv: {delimiter: ';', quoting: none}}";
    let read = super::tests::read(source, "a.csv", western);
    assert_eq!(
        (read.groups[0].prompt[0].content.as_str(), read.counts.repaired["windows_1252"]),
        ("grün", 1)
    );
    let refused = super::tests::read("{kind: labels, encoding: utf-8}", "a.csv", western);
    assert_eq!(refused.counts.rejected_by_reason["not_utf8"], 1);
    let open = b"prompt,completion,label\n\"q,a,true\nr,\"b,false\n";
    let read = super::tests::read("{csv: {quoting: none}}", "a.csv", open);
    assert_eq!((read.groups[0].prompt[0].content.as_str(), read.counts.kept), ("\"q", 2));
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    let error = resolve("{kind: labels, csv: {delimiter: tab}}", file.path()).unwrap_err().to_string();
    assert!(error.contains("source.csv") && error.contains("no file"), "{error}");
}

mod bad_input {
    use proptest::prelude::*;

    use super::resolve_and_read;

    const KINDS: [&str; 6] = [
        "{kind: hh}",
        "{kind: shp}",
        "{kind: oasst, ranks: all}",
        "{kind: pairs}",
        "{kind: labels}",
        "{kind: scores, binarise: {by: best_and_worst}}",
    ];

    #[test]
    fn every_reader_rejects_what_it_cannot_use_and_reads_on() {
        let deep = format!("{{\"chosen\": {}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        let bad = [
            "true",
            "[]",
            "{}",
            "{\"chosen\": true, \"rejected\": true, \"prompt\": true, \"completion\": true, \"label\": true}",
            "{\"a\": 1, \"a\": 2}",
            "{\"a",
            "\u{0}",
            "nul",
            &deep,
        ];
        for kind in KINDS {
            // A leading blank keeps a line that begins with `[` from making the file an array.
            let text = format!("{{}}\n{}\n", bad.join("\n"));
            let mut bytes = text.into_bytes();
            bytes.extend(b"{\"prompt\": \"\xff\"}\r\n");
            let read = super::read(kind, "a.jsonl", &bytes);
            assert_eq!((read.counts.read, read.counts.rejected), (11, 11), "{kind}: {:?}", read.counts);
            assert_eq!(
                read.rejected.last().map(|row| (row.line, row.reason.as_str())),
                Some((11, "not_utf8"))
            );
        }
    }

    /// JSON that resembles records the readers know.
    fn record() -> impl Strategy<Value = String> {
        const KEYS: &str = "prompt|chosen|rejected|completion|completions|label|labels|score|scores|messages|conversations|history|human_ref_A|human_ref_B|score_A|score_B|post_id|message_id|parent_id|text|role|rank|replies|message_tree_id|from|value|content|instruction|input|system";
        let leaf = prop_oneof![
            Just(serde_json::json!(null)),
            any::<bool>().prop_map(Into::into),
            (-2i64..3).prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "user|assistant|human|gpt|system|prompter|en|\\PC{0,6}|\n\nHuman: a\n\nAssistant: b"
                .prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map(KEYS, inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
        .prop_map(|value| value.to_string())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_records_are_used_or_rejected(records in proptest::collection::vec(record(), 1..6)) {
            for kind in KINDS {
                let text = format!("{{}}\n{}", records.join("\n"));
                let read = resolve_and_read(kind, "a.jsonl", text.as_bytes());
                if let Ok(read) = read {
                    prop_assert_eq!(read.counts.read as usize, records.len() + 1);
                    for group in &read.groups {
                        let known = |index: &usize| *index < group.completions.len();
                        prop_assert!(group.pairs.iter().all(|(chosen, rejected)| known(chosen) && known(rejected)));
                        prop_assert!(!group.prompt.is_empty());
                    }
                }
            }
        }

        #[test]
        fn arbitrary_bytes_in_any_container_never_panic(
            name in "a\\.(jsonl|json|csv|tsv|txt|parquet)",
            start in proptest::sample::select(vec![&b""[..], b"PAR1", b"\x1f\x8b", b"[", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"{\""]),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let content = [start, &bytes].concat();
            for kind in KINDS {
                let _ = resolve_and_read(kind, &name, &content);
            }
        }
    }
}

/// Like [`read`], for sources that may be rejected.
fn resolve_and_read(source: &str, name: &str, content: &[u8]) -> Result<Collected, DataError> {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(name), content).unwrap();
    let sources = resolve(source, &folder.path().join(name))?;
    let mut read = Collected::default();
    sources.read(Path::new("unused"), &mut read)?;
    Ok(read)
}

mod needs_data {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn real_oasst_files_give_the_known_pairs() {
        let folder = prospect_testkit::test_data("");
        for (file, read, adjacent, all) in
            [("oasst1_en-validation.shared.jsonl", 1606, 570, 825), ("en_99_tree.jsonl", 99, 423, 745)]
        {
            for (ranks, pairs) in [("adjacent", adjacent), ("all", all)] {
                let read_pairs = collect(&format!("{{ranks: {ranks}}}"), &folder.join("oasst1").join(file));
                let counts = &read_pairs.counts;
                assert_eq!(
                    (counts.read, counts.pairs, counts.rejected),
                    (read, pairs, 0),
                    "{file} {ranks} {counts:?}"
                );
            }
        }
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn real_shp_labels_prefer_the_side_that_hh_chose() {
        let folder = prospect_testkit::test_data("");
        let documented = collect("{}", &folder.join("shp/shp_documented_rows.jsonl"));
        assert_eq!(documented.counts.read, 2);
        let path = folder.join("shp/steamshp_anthropic_helpful_test.shared.json");
        let steam = collect("{min_score_ratio: 1, max_pairs_per_post: null}", &path);
        let hh = collect("{kind: hh}", &folder.join("hh/helpful-base_test.rows0-1851.jsonl.gz"));
        // The last human turn, the preferred reply and the rejected one.
        let chosen = |read: &Collected| -> std::collections::HashSet<[String; 3]> {
            let sides = read.groups.iter().map(|group| {
                let side = |index: usize| group.completions[index].messages[0].content.clone();
                let last =
                    group.prompt.last().unwrap().content.rsplit("HUMAN: ").next().unwrap().trim().to_owned();
                [last, side(group.pairs[0].0), side(group.pairs[0].1)]
            });
            sides.collect()
        };
        let (hh, steam) = (chosen(&hh), chosen(&steam));
        let agree = steam.iter().filter(|pair| hh.contains(*pair)).count();
        let swapped =
            |[last, chosen, rejected]: &[String; 3]| [last.clone(), rejected.clone(), chosen.clone()];
        let disagree = steam.iter().filter(|pair| hh.contains(&swapped(pair))).count();
        assert_eq!((agree, disagree), (1822, 0));
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn real_files_of_other_tools_give_the_known_counts() {
        let folder = prospect_testkit::test_data("");
        let kto = collect("{}", &folder.join("kto/kto_en_demo.json"));
        let labels =
            kto.groups.iter().flat_map(|group| &group.completions).filter(|side| side.label == Some(true));
        assert_eq!((labels.count(), kto.counts.labelled, kto.counts.rejected), (150, 300, 0));
        let dpo = collect("{}", &folder.join("kto/dpo_zh_demo.json"));
        let system = dpo.groups.iter().filter(|group| group.prompt[0].role == "system").count();
        assert_eq!((dpo.counts.pairs, system, dpo.counts.rejected), (300, 64, 0));
        let feedback = collect("{}", &folder.join("ultrafeedback/train_clean.jsonl"));
        let counts = &feedback.counts;
        // One of the 111 pairs with equal scores has identical completions too (line 307).
        assert_eq!((counts.read, counts.pairs, counts.noted["equal_scores"]), (1000, 994, 110));
        assert!(
            feedback
                .rejected
                .iter()
                .any(|row| (row.line, row.reason.as_str()) == (307, "identical_completions"))
        );
    }
}
