//! Feedback logs: groups, times, thumbs, several judgements, one row per prompt.

use serde_json::{Value, json};

use super::*;
use crate::{PairRow, output::parquet};

/// Writes rows as JSON lines and returns the start of a recipe that reads them.
fn source(folder: &Path, rows: &[Value], settings: &str) -> String {
    let path = folder.join("log.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs_err::write(&path, lines.join("\n")).unwrap();
    format!("source: {{ path: {}, {settings} }}\n", path.display())
}

const COLUMNS: &str = "columns: { label: rating, group: user, time: at }";

/// Thumbs of 40 users, one a minute, on 690 prompts. Every seventh has no rating, every eleventh no
/// user, every 500th an unusable time.
fn thumbs(count: usize) -> Vec<Value> {
    let row = |n: usize| {
        json!({
            "prompt": format!("question {}", n * 31 % 690),
            "completion": format!("answer {}", n % 3),
            "rating": if n % 7 == 3 { Value::Null } else { json!(if n.is_multiple_of(8) { "👎" } else { "thumbsUp" }) },
            "user": if n % 11 == 5 { Value::Null } else { json!(format!("user-{}@example.org", n * n % 40)) },
            "at": if n % 500 == 499 { json!("lately") } else { json!(1_714_557_600 + 60 * n) },
        })
    };
    (0..count).map(row).collect()
}

#[test]
fn groups_are_salted_hashes_and_their_names_are_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = source(folder.path(), &thumbs(1500), COLUMNS);
    let groups = |recipe: &str| -> (Vec<Option<String>>, String) {
        let (manifest, out) = make(recipe);
        assert_eq!(manifest.reading.rejected_by_reason["bad_value"], 3);
        let rows = Split::ALL.map(|split| read_binary(out.path(), split).unwrap()).concat();
        let mut text = format!("{rows:?}");
        for (name, bytes) in files(out.path()) {
            if name.extension().is_none_or(|extension| extension != "parquet") {
                text += &String::from_utf8(bytes).unwrap();
            }
        }
        assert!(!text.contains("example.org") && !text.contains("hush"), "{text}");
        (rows.into_iter().map(|row| row.group).collect(), text)
    };
    let (by_seed, card) = groups(&recipe);
    assert!(card.contains("* `group` is a salted hash"));
    let (salted, _) = groups(&format!("group_salt: hush\n{recipe}"));
    assert_eq!(by_seed.len(), salted.len());
    // The same rows belong together under any salt, and no hash is the same.
    let pairs: HashSet<_> = by_seed.iter().zip(&salted).collect();
    let names: HashSet<_> = by_seed.iter().collect();
    assert!(names.len() > 5 && names.contains(&None), "{names:?}");
    assert_eq!(pairs.len(), names.len());
    assert!(
        pairs.iter().all(|(one, other)| one.is_none() == other.is_none() && (one != other || one.is_none()))
    );
    assert!(names.iter().all(|name| name.as_ref().is_none_or(|name| name.len() == 16)));
}

#[test]
fn a_dataset_without_groups_has_no_such_column() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = source(folder.path(), &thumbs(100), "columns: { label: rating }");
    let (manifest, out) = make(&format!("{recipe}max_rejected: 0.1"));
    assert_eq!(manifest.logs, None);
    assert_eq!(manifest.reading.filtered["no_judgement"], 14);
    let batch =
        parquet::batches::<BinaryRow>(out.path(), Split::Train, &[], None).unwrap().next().unwrap().unwrap();
    assert!(batch.columns().optional_text("group").is_err());
    assert!(batch.rows::<BinaryRow>().unwrap().iter().all(|row| row.group.is_none()));
}

#[test]
fn merged_shards_of_a_log_give_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = source(folder.path(), &thumbs(3500), COLUMNS);
    text += "contradictions: latest\none_per_prompt: alternate\nsplit: { test_fraction: 0.2 }\n";
    for by in ["group", "time"] {
        let mut file = Document::from_text("recipe.yaml", &text).unwrap();
        file.set("split.by", by.into()).unwrap();
        let resolve = || {
            let file: PipelineFile = file.read().unwrap();
            file.resolve(&|path| Ok(PathBuf::from(path))).unwrap()
        };
        let alone = folder.path().join(format!("alone-{by}"));
        let manifest = prepare(&resolve(), &alone).unwrap();
        assert!(manifest.contradictions.dropped > 0 && manifest.one_per_prompt_dropped > 0);
        let out = folder.path().join(by);
        for shard in Shard::all(3) {
            prepare_shard(&resolve(), &out, shard).unwrap();
        }
        merge_shards(&resolve(), &out).unwrap();
        assert!(files(&out) == files(&alone), "{by}");
    }
}

#[test]
fn whole_groups_or_the_latest_rows_are_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = source(folder.path(), &thumbs(1400), COLUMNS);
    let split = |by: &str| {
        let (manifest, out) = make(&format!("{recipe}split: {{ by: {by}, test_fraction: 0.25 }}"));
        let rows = Split::ALL.map(|split| read_binary(out.path(), split).unwrap());
        let [train, test] =
            rows.each_ref().map(|rows| rows.iter().map(|row| &row.prompt_id).collect::<HashSet<_>>());
        assert!(train.is_disjoint(&test), "{by}");
        (manifest, rows)
    };
    let (manifest, [train, test]) = split("group");
    let logs = manifest.logs.unwrap();
    let groups = |rows: &[BinaryRow]| rows.iter().filter_map(|row| row.group.clone()).collect::<HashSet<_>>();
    assert!(groups(&train).is_disjoint(&groups(&test)));
    assert_eq!(
        (logs.train.groups, logs.test.groups),
        (groups(&train).len() as u64, groups(&test).len() as u64)
    );
    assert!(logs.groups_in_both_splits == 0 && logs.rows_without_group > 0 && logs.rows_without_time == 0);
    assert!(manifest.leaked_rows_dropped > 0);

    let (manifest, [train, test]) = split("time");
    let logs = manifest.logs.unwrap();
    assert!(logs.train.last < logs.test.first && logs.groups_in_both_splits > 0, "{logs:?}");
    assert_eq!(logs.test.last.unwrap(), "2024-05-02T09:19:00Z");
    let total = train.len() + test.len() + manifest.leaked_rows_dropped as usize;
    assert_eq!(test.len(), (total as f64 * 0.25).round() as usize);
}

#[test]
fn a_split_without_a_unit_is_by_prompt_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = source(folder.path(), &thumbs(200), "columns: { label: rating }");
    let fingerprint = |split: &str| pipeline(&format!("{recipe}{split}")).unwrap().fingerprint().unwrap();
    let old = fingerprint("split: { test_fraction: 0.1 }");
    for same in ["", "split: { by: prompt }", "split: { by: prompt, test_fraction: 0.1 }"] {
        assert_eq!(fingerprint(same), old, "{same}");
    }
}

#[test]
fn settings_that_need_each_other_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = source(folder.path(), &thumbs(20), "columns: { label: rating }");
    let timed = source(folder.path(), &thumbs(20), "columns: { label: rating, time: at }");
    let words =
        source(folder.path(), &thumbs(20), "columns: { label: rating }, words: { desirable: [a, A] }");
    for (start, settings, message) in [
        (&recipe, "split: { by: group }", "`split.by` is group: it needs groups"),
        (&timed, "split: { by: group }", "`split.by` is group: it needs groups"),
        (&recipe, "split: { by: time }", "`split.by` is time: it needs times"),
        (&recipe, "contradictions: latest", "`contradictions` is latest: it needs times"),
        (&recipe, "group_salt: x", "`group_salt` is given: it has no effect"),
        (
            &recipe,
            "{ one_per_pair: hash, one_per_prompt: hash }",
            "`one_per_prompt` is given: it leaves nothing",
        ),
        (&words, "", "`source.words` is `a`: it is listed twice"),
    ] {
        let text = match settings.strip_prefix("{ ") {
            Some(two) => format!("{start}{}", two.trim_end_matches(" }").replace(", ", "\n")),
            None => format!("{start}{settings}"),
        };
        let error = pipeline(&text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let (manifest, _out) = make(&format!("{timed}max_rejected: 0.1"));
    assert!(
        manifest.warnings[0].starts_with("`columns.time: at` selects nothing"),
        "{:?}",
        manifest.warnings
    );
    let missing = source(folder.path(), &thumbs(20), "columns: { label: rating, group: who, time: when }");
    for by in ["group", "time"] {
        let error = prepare(
            &pipeline(&format!("{missing}split: {{ by: {by} }}")).unwrap(),
            &folder.path().join("out"),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("`split.by: {by}` needs {by}s, but no row has one")), "{error}");
    }
    let warnings = make(&missing).0.warnings.join("\n");
    assert!(warnings.contains("`columns.group: who` has no effect: no row has it"), "{warnings}");
}

#[test]
fn several_judgements_of_a_completion_become_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let row = |completion: &str, label: &str, at: u32| json!({"prompt": "p", "completion": completion, "rating": label, "at": at});
    let rows = [
        row("mostly liked", "like", 1),
        row("mostly liked", "dislike", 3),
        row("mostly liked", "like", 2),
        row("always liked", "up", 1),
        row("always liked", "👍", 2),
    ];
    let recipe = source(folder.path(), &rows, "columns: { label: rating, time: at }");
    let settled = |policy: &str| {
        let text = format!(
            "{recipe}contradictions: {policy}\ndeduplicate: {{ drop_exact: true }}\nsplit: {{ test_fraction: 0 }}"
        );
        let (_, out) = make(&text);
        let rows = read_binary(out.path(), Split::Train).unwrap();
        rows.into_iter().map(|row| (row.completion[0].content.clone(), row.label)).collect::<Vec<_>>()
    };
    let both = |first: bool| vec![("mostly liked".to_owned(), first), ("always liked".to_owned(), true)];
    assert_eq!(settled("majority"), both(true));
    assert_eq!(settled("latest"), both(false));
    assert_eq!(settled("drop"), both(true)[1..]);
}

#[test]
fn one_row_of_each_prompt_remains_for_training() {
    let (manifest, out) = make(
        "{source: {kind: synthetic, pairs: 600, world: {completions: 3}}, one_per_prompt: alternate, \
         split: {test_fraction: 0.2}}",
    );
    let rows = read_binary(out.path(), Split::Train).unwrap();
    assert_eq!(rows.len() as u64, manifest.train.prompts);
    assert_eq!((manifest.train.pairs, manifest.test.pairs), (0, 120));
    assert_eq!(manifest.train.n_desirable, manifest.train.n_undesirable);
    assert_eq!(manifest.one_per_prompt_dropped, 160 * 6 - 160);
}

#[test]
fn scores_against_the_pairs_and_unclear_labels_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |n: usize, high: i32, low: i32| json!({"prompt": format!("p{n}"), "chosen": "a", "rejected": "b", "score_chosen": high, "score_rejected": low});
    let rows: Vec<Value> = (0..20).map(|n| if n < 17 { pair(n, 1, 5) } else { pair(n, 5, 1) }).collect();
    let recipe = source(folder.path(), &rows, "name: public");
    let (manifest, out) = make(&recipe);
    assert_eq!(manifest.quality["public"].lower_score_preferred, 17);
    let warnings = manifest.warnings.join("\n");
    assert!(
        warnings.contains("source public: the lower score is preferred in 17 of 20 scored pairs"),
        "{warnings}"
    );
    let against = |pair: &PairRow| pair.score_chosen < pair.score_rejected;
    let pairs = Split::ALL.map(|split| read_pairs(out.path(), split).unwrap()).concat();
    assert_eq!(pairs.iter().filter(|pair| against(pair)).count(), 17);

    let thumb = |n: usize, label: i32| json!({"prompt": format!("p{n}"), "completion": "a", "label": label});
    let labelled = |labels: [i32; 3], settings: &str| {
        let rows: Vec<Value> = (0..30).map(|n| thumb(n, labels[n % 3])).collect();
        make(&source(folder.path(), &rows, settings)).0
    };
    let unclear = labelled([1, 0, -1], "kind: labels");
    assert!(unclear.warnings.iter().any(|warning| warning.starts_with("10 labels are 0 and 10 are -1")));
    let clear = labelled([1, 0, -1], "kind: labels, words: { no_judgement: [0] }");
    assert_eq!((clear.reading.filtered["no_judgement"], clear.reading.noted.len()), (10, 0));
    for labels in [[1, 0, 0], [1, -1, -1]] {
        assert!(labelled(labels, "kind: labels").reading.noted.is_empty());
    }
}

#[test]
fn a_source_that_nobody_judged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let row = json!({"prompt": "p", "completion": "a", "label": null});
    let recipe = source(folder.path(), &[row], "kind: labels, name: silent");
    let error = prepare(&pipeline(&recipe).unwrap(), &folder.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("1 left out (no_judgement 1)"), "{error}");
    let path = folder.path().join("log.jsonl").display().to_string();
    let (manifest, _out) = make(&format!(
        "source: [{{ kind: synthetic, pairs: 20 }}, {{ kind: labels, name: silent, path: {path} }}]"
    ));
    assert!(
        manifest.warnings[0].starts_with("source silent: none of its rows is used"),
        "{:?}",
        manifest.warnings
    );
}

#[test]
fn manifests_from_before_logs_are_read() {
    let (manifest, _out) = make("{source: {kind: synthetic, pairs: 20}}");
    let mut older = serde_json::to_value(&manifest).unwrap();
    for field in ["quality", "logs", "leaked_group_rows_dropped", "one_per_prompt_dropped"] {
        assert!(older.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    let read: Manifest = serde_json::from_value(older).unwrap();
    assert!(read.quality.is_empty() && read.logs.is_none());
    assert_eq!((read.train, read.fingerprint), (manifest.train, manifest.fingerprint));
}
