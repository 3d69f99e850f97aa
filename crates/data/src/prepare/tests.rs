use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use prospect_core::config::Document;
use prospect_testkit::flipped;

use super::*;
use crate::{BinaryRow, NoiseKindCounts, PipelineFile, Shard, read_binary, read_pairs, shard_file};

mod logs;

fn pipeline(yaml: &str) -> Result<Pipeline, DataError> {
    let file: PipelineFile = Document::from_text("recipe.yaml", yaml).unwrap().read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path)))
}

fn make(yaml: &str) -> (Manifest, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    (prepare(&pipeline(yaml).unwrap(), out.path()).unwrap(), out)
}

/// Reads all files of a dataset, by name.
fn files(dataset: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dataset.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(dataset).unwrap().to_owned(), fs_err::read(&path).unwrap());
            }
        }
    }
    files
}

const NOISY: &str = "
source: { kind: synthetic, pairs: 300 }
imbalance: { keep_undesirable: 0.5 }
noise: { flip_desirable: 0.2, flip_undesirable: 0.1 }
";

#[test]
fn counting_gives_the_manifest_without_the_dataset() {
    let (manifest, _folder) = make(NOISY);
    assert_eq!(dry_run(&pipeline(NOISY).unwrap()).unwrap(), manifest);
}

#[test]
fn the_same_recipe_gives_the_same_bytes_whatever_else_runs() {
    let alone = files(make(NOISY).1.path());
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| files(make(NOISY).1.path()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone.len(), 9, "{:?}", alone.keys());
    assert!(together.iter().all(|files| *files == alone));
    assert_ne!(files(make(&format!("seed: 1{NOISY}")).1.path()), alone);
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    // More rows than fit into a block and a row group.
    let recipe = NOISY.replace("pairs: 300", "pairs: 9000");
    let made = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| files(make(&recipe).1.path()))
    });
    assert!(made.iter().all(|files| *files == made[0]));
}

/// Writes pairs as HH's lines, some of them unusable, and a recipe that reads them beside generated
/// and scored feedback.
fn mixed_sources(folder: &Path) -> String {
    let side = |n: usize, text: &str| format!("\n\nHuman: ask {n}\n\nAssistant: {text}");
    let lines: Vec<String> = (0..3000)
        .map(|n| match n % 97 {
            0 => String::new(),
            1 => format!("{{\"chosen\": {n}"),
            _ => serde_json::json!({"chosen": side(n, "yes please"), "rejected": side(n, "no")}).to_string(),
        })
        .collect();
    fs_err::write(folder.join("hh.jsonl"), lines.join("\n")).unwrap();
    let scored: Vec<String> = (0..2500)
        .map(|n| {
            serde_json::json!({"prompt": format!("q{n}"), "completion": "a", "score": n % 7}).to_string()
        })
        .collect();
    fs_err::write(folder.join("scored.jsonl"), scored.join("\n")).unwrap();
    let path = folder.display();
    format!(
        "
source:
  - {{ kind: hh, path: {path}/hh.jsonl }}
  - {{ kind: synthetic, pairs: 300 }}
  - {{ kind: scores, path: {path}/scored.jsonl, binarise: {{ by: mean, over: source }} }}
imbalance: {{ keep_undesirable: 0.5 }}
deduplicate: {{ near: {{ threshold: 0.9 }} }}
noise: {{ flip_desirable: 0.2, shuffle: {{ desirable: 0.1 }} }}
max_rejected: 0.1
"
    )
}

#[test]
fn merged_shards_give_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = pipeline(&mixed_sources(folder.path())).unwrap();
    let alone = folder.path().join("alone");
    prepare(&recipe, &alone).unwrap();
    for of in [1, 2, 5] {
        let out = folder.path().join(format!("of-{of}"));
        for shard in Shard::all(of) {
            assert!(!is_shard_prepared(&recipe, &out, shard).unwrap());
            prepare_shard(&recipe, &out, shard).unwrap();
            assert!(is_shard_prepared(&recipe, &out, shard).unwrap());
        }
        merge_shards(&recipe, &out).unwrap();
        assert!(files(&out) == files(&alone), "{of} shards");
        assert!(!shards_folder(&out).exists());
    }
}

#[test]
fn shards_that_are_missing_foreign_or_damaged_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let text = mixed_sources(folder.path());
    let recipe = pipeline(&text).unwrap();
    let refused = || merge_shards(&recipe, &out).unwrap_err().to_string();
    assert!(refused().contains("holds no shards"));
    let shards: Vec<Shard> = Shard::all(3).collect();
    prepare_shard(&recipe, &out, shards[1]).unwrap();
    assert!(refused().contains("lacks the shards 1/3, 3/3"), "{}", refused());
    for shard in &shards {
        prepare_shard(&recipe, &out, *shard).unwrap();
    }
    prepare_shard(&pipeline(&format!("seed: 1{text}")).unwrap(), &out, shards[0]).unwrap();
    assert!(refused().contains("shard 1/3 of another recipe"), "{}", refused());
    prepare_shard(&recipe, &out, shards[0]).unwrap();
    let path = shard_file(&out, shards[2]);
    let bytes = fs_err::read(&path).unwrap();
    for end in [0, 5, 40, bytes.len() - 1] {
        fs_err::write(&path, &bytes[..end]).unwrap();
        assert!(refused().contains("make it again with `--shard`"), "{end}: {}", refused());
    }
    for (position, damaged) in flipped(&bytes, 200) {
        fs_err::write(&path, damaged).unwrap();
        assert!(refused().contains("make it again with `--shard"), "byte {position}: {}", refused());
    }
    // The end of a block is not the end of a shard.
    let end = bytes.len() - (8 + 1 + 8);
    fs_err::write(&path, &bytes[..end]).unwrap();
    assert!(refused().contains("make it again with `--shard"), "{}", refused());
    assert!(!out.exists());
}

#[test]
fn rows_over_a_number_of_tokens_are_dropped_with_their_pairs() {
    let recipe = "{ source: { kind: synthetic, pairs: 200 }, select: { max_tokens: 12 }, tokenizer: words }";
    let counter = |name: &str| {
        let words = |messages: &[crate::Message]| messages[0].content.split_whitespace().count();
        crate::TokenCounter::new(
            name.to_owned(),
            std::sync::Arc::new(move |prompt, completion| Ok((words(prompt), words(completion)))),
        )
    };
    let counted = pipeline(recipe).unwrap().counting(counter("words"));
    assert_ne!(
        counted.fingerprint().unwrap(),
        pipeline(recipe).unwrap().counting(counter("others")).fingerprint().unwrap()
    );
    let out = tempfile::tempdir().unwrap();
    let manifest = prepare(&counted, out.path()).unwrap();
    assert!(manifest.selection.long_pairs > 0 && manifest.train.pairs > 0, "{manifest:?}");
    let rows = Split::ALL.into_iter().flat_map(|split| read_binary(out.path(), split).unwrap());
    let words = |messages: &[crate::Message]| messages[0].content.split_whitespace().count();
    assert!(rows.into_iter().all(|row| words(&row.prompt) + words(&row.completion) <= 12));
    assert!(pipeline("{ source: { kind: synthetic }, select: { max_tokens: 9 } }").is_err());
    assert!(pipeline("{ source: { kind: synthetic }, tokenizer: words }").is_err());
}

#[test]
fn binary_and_paired_files_hold_the_same_rows_with_the_same_corruption() {
    let (manifest, out) = make(NOISY);
    for split in Split::ALL {
        let rows = read_binary(out.path(), split).unwrap();
        let pairs = read_pairs(out.path(), split).unwrap();
        let mut by_pair: BTreeMap<_, Vec<&BinaryRow>> = BTreeMap::new();
        for row in &rows {
            by_pair.entry(row.pair_id.clone().unwrap()).or_default().push(row);
        }
        assert_eq!(pairs.len(), by_pair.values().filter(|rows| rows.len() == 2).count());
        for pair in &pairs {
            let rows = &by_pair[&pair.pair_id];
            let original = rows.iter().find(|row| row.original_label).unwrap();
            assert_eq!(pair.swapped, rows.iter().any(|row| row.noise == "flip"));
            let side = if pair.swapped { &pair.rejected } else { &pair.chosen };
            let score = if pair.swapped { pair.score_rejected } else { pair.score_chosen };
            assert_eq!((side, score), (&original.completion, original.score));
        }
        if split == Split::Test {
            assert!(rows.iter().all(|row| row.label == row.original_label));
            assert_eq!(rows.len(), 2 * pairs.len());
        }
    }
    let (train, noise) = (manifest.train, &manifest.noise);
    assert_eq!((manifest.imbalance.desirable.kept, manifest.imbalance.undesirable.kept), (270, 135));
    assert_eq!((noise.flipped_desirable, noise.flipped_undesirable), (54, 14));
    assert_eq!((train.n_desirable, train.n_undesirable), (270 - 54 + 14, 135 - 14 + 54));
    assert_eq!(read_manifest(out.path()).unwrap(), manifest);
}

#[test]
fn spoilt_completions_are_the_same_in_both_files() {
    let recipe = "
source: { kind: synthetic, pairs: 500 }
noise:
  flip_desirable: 0.1
  swap_pairs: 0.1
  score_flip: { temperature: 1, desirable: 0.1, undesirable: 0.1 }
  length_flip: { desirable: 0.2, undesirable: 0.2 }
  annotators: { contrary: 0.2 }
  shuffle: { desirable: 0.2, undesirable: 0.1 }
  truncate: { undesirable: 0.2 }
  drop_words: { desirable: 0.3, drop: 0.4 }
";
    let (_, clean) = make("source: { kind: synthetic, pairs: 500 }");
    let (manifest, corruption) = make(recipe);
    assert!(manifest.warnings.is_empty(), "{:?}", manifest.warnings);
    assert!(!corruption.path().join(".completions").exists());
    let rows = |out: &tempfile::TempDir| read_binary(out.path(), Split::Train).unwrap();
    let (before, after) = (rows(&clean), rows(&corruption));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let texts: HashSet<&str> = before.iter().map(|row| row.completion[0].content.as_str()).collect();
    let mut others = 0;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.id, before.label), (&after.id, after.original_label));
        let [old, new] = [before, after].map(|row| row.completion[0].content.as_str());
        for kind in after.noise.split('+') {
            *counts.entry(kind).or_default() += 1;
        }
        let text = after.noise.split('+').next_back().unwrap();
        match text {
            "shuffle" => {
                assert!(texts.contains(new));
                others += u64::from(old != new);
            }
            "truncate" => assert!(old.starts_with(new) && new.len() < old.len()),
            "drop_words" => assert!(new.split(' ').count() < old.split(' ').count()),
            _ => assert_eq!(old, new),
        }
    }
    for (kind, name) in
        [("shuffle", "shuffle"), ("flip", "flip"), ("swap_pairs", "swap"), ("annotators", "annotator")]
    {
        let NoiseKindCounts { desirable, undesirable, .. } = manifest.noise.kinds[kind];
        assert_eq!(counts[name], desirable.changed + undesirable.changed, "{kind}");
    }
    assert_eq!(counts["truncate"], manifest.noise.kinds["truncate"].undesirable.changed);
    assert!(others > counts["shuffle"] * 9 / 10);

    let mut by_pair: BTreeMap<_, Vec<&BinaryRow>> = BTreeMap::new();
    for row in &after {
        by_pair.entry(row.pair_id.clone().unwrap()).or_default().push(row);
    }
    for pair in read_pairs(corruption.path(), Split::Train).unwrap() {
        let [first, second] = by_pair[&pair.pair_id][..] else { panic!() };
        let (chosen, rejected) = if pair.swapped { (second, first) } else { (first, second) };
        assert_eq!((&pair.chosen, &pair.rejected), (&chosen.completion, &rejected.completion));
        assert_eq!(pair.swapped, [first, second].iter().any(|row| row.label != row.original_label));
        for kind in [first, second].iter().flat_map(|row| row.noise.split('+')).filter(|kind| *kind != "none")
        {
            assert!(pair.noise.split('+').any(|name| name == kind), "{} lacks {kind}", pair.noise);
        }
    }
}

#[test]
fn synthetic_data_knows_its_oracle() {
    let (manifest, out) = make("{source: {kind: synthetic, pairs: 2000}, split: {test_fraction: 0.5}}");
    let accuracy = manifest.oracle_accuracy.unwrap();
    assert!((0.87..0.93).contains(&accuracy), "{accuracy}");
    assert!(manifest.duplicates.exact == 0 && manifest.unique_prompt_fraction > 0.9);
    assert!(out.path().join("raw.jsonl").exists());
}

#[test]
fn a_dataset_is_named_by_content_not_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        let yaml = format!("source: {{kind: hh, path: {}}}", path.display());
        pipeline(&yaml).unwrap().fingerprint().unwrap()
    };
    assert_eq!(write("a", "x"), write("b", "x"));
    assert_ne!(write("a", "x"), write("b", "y"));
}

#[test]
fn a_dataset_is_up_to_date_only_whole_and_for_its_recipe() {
    let (_, out) = make(NOISY);
    let same = pipeline(NOISY).unwrap();
    assert!(prepared(&same, out.path()).unwrap().is_some());
    assert!(prepared(&pipeline(&format!("seed: 2{NOISY}")).unwrap(), out.path()).unwrap().is_none());
    fs_err::remove_file(out.path().join("dpo/test-00000-of-00001.parquet")).unwrap();
    assert!(prepared(&same, out.path()).unwrap().is_none());
}

#[test]
fn a_changed_byte_in_any_file_of_a_dataset_is_found_and_named() {
    let (_, out) = make(NOISY);
    let (same, dataset) = (pipeline(NOISY).unwrap(), out.path());
    let intact = files(dataset);
    // Everything that reads a dataset: training, previews, exports, queries.
    let read = || -> Vec<Result<(), DataError>> {
        let mut results = vec![read_manifest(dataset).map(drop)];
        for split in Split::ALL {
            results.push(read_binary(dataset, split).map(drop));
            results.push(read_pairs(dataset, split).map(drop));
        }
        results.push(crate::read_rejected(dataset).map(drop));
        results
    };
    assert!(read().iter().all(Result::is_ok));
    let card = Path::new("README.md");
    let generated = Path::new("raw.jsonl");
    for (name, bytes) in intact.iter().filter(|(name, _)| ![card, generated].contains(&name.as_path())) {
        let longer = (bytes.len(), [bytes.as_slice(), b"\n"].concat());
        let shorter = bytes.split_last().map(|(_, rest)| (rest.len(), rest.to_vec()));
        for (position, damaged) in flipped(bytes, 24).chain([longer]).chain(shorter) {
            fs_err::write(dataset.join(name), damaged).unwrap();
            let errors: Vec<String> =
                read().into_iter().filter_map(|result| Some(result.err()?.to_string())).collect();
            let what = format!("{}, byte {position}: {errors:?}", name.display());
            assert!(!errors.is_empty(), "{what}");
            if name.as_path() != Path::new(prospect_core::checksums::FILE) {
                let path = dataset.join(name).display().to_string();
                assert!(errors.iter().all(|error| error.contains(&path)), "{what}");
                assert!(errors[0].contains("BLAKE3 hash is"), "{what}");
            }
            assert!(errors[0].contains("make the dataset again with `prospect prepare"), "{what}");
            assert!(prepared(&same, dataset).unwrap().is_none(), "{what}");
        }
        fs_err::write(dataset.join(name), bytes).unwrap();
    }
    assert!(prepared(&same, dataset).unwrap().is_some());
    for name in [card, generated] {
        fs_err::write(dataset.join(name), "edited").unwrap();
        assert!(prepared(&same, dataset).unwrap().is_some(), "nothing reads {}", name.display());
    }
    fs_err::write(dataset.join("kto/train-00000-of-00001.parquet"), "PAR1").unwrap();
    prepare(&same, dataset).unwrap();
    assert!(files(dataset) == intact);
    // Datasets of earlier versions have no hashes.
    fs_err::remove_file(dataset.join(prospect_core::checksums::FILE)).unwrap();
    assert!(prepared(&same, dataset).unwrap().is_none());
    let error = read_manifest(dataset).unwrap_err().to_string();
    assert!(error.contains("BLAKE3SUMS does not exist; make the dataset with"), "{error}");
}

#[test]
fn other_peoples_folders_are_not_replaced() {
    let out = tempfile::tempdir().unwrap();
    fs_err::write(out.path().join("thesis.tex"), "x").unwrap();
    assert!(matches!(prepare(&pipeline(NOISY).unwrap(), out.path()), Err(DataError::Occupied(_))));
    assert!(out.path().join("thesis.tex").exists());
}

#[test]
fn fractions_out_of_range_name_their_key() {
    for (key, yaml) in [
        ("noise.flip_desirable", "{source: {kind: synthetic, pairs: 1}, noise: {flip_desirable: 1.1}}"),
        (
            "imbalance.keep_undesirable",
            "{source: {kind: synthetic, pairs: 1}, imbalance: {keep_undesirable: -1}}",
        ),
        (
            "noise.truncate.keep",
            "{source: {kind: synthetic, pairs: 1}, noise: {truncate: {desirable: 0.1, keep: 2}}}",
        ),
        (
            "noise.annotators.groups",
            "{source: {kind: synthetic, pairs: 1}, noise: {annotators: {contrary: 0.1, groups: 0}}}",
        ),
        ("imbalance.total", "{source: {kind: synthetic, pairs: 1}, imbalance: {total: 3}}"),
        (
            "imbalance.ratio",
            "{source: {kind: synthetic, pairs: 1}, imbalance: {ratio: 1:2, keep_desirable: 0.5}}",
        ),
        ("mix.temperature", "{source: {kind: synthetic, pairs: 1}, mix: {temperature: 0}}"),
        ("split.test_fraction", "{source: {kind: synthetic, pairs: 1}, split: {test_fraction: .nan}}"),
    ] {
        assert!(pipeline(yaml).unwrap_err().to_string().starts_with(&format!("`{key}` is ")), "{key}");
    }
}

#[test]
fn settings_without_effect_and_missing_classes_are_told() {
    let (manifest, _) = make(
        "{source: {kind: synthetic, pairs: 20}, imbalance: {keep_desirable: 0}, noise: {flip_undesirable: 0.001}}",
    );
    let warnings = manifest.warnings.join("\n");
    assert!(warnings.contains("no desirable row"), "{warnings}");
    assert!(warnings.contains("`noise.flip_undesirable: 0.001` has no effect"), "{warnings}");
    let yaml = "{source: {kind: synthetic, pairs: 20}, split: {test_fraction: 1}}";
    let out = tempfile::tempdir().unwrap();
    let error = prepare(&pipeline(yaml).unwrap(), &out.path().join("x")).unwrap_err();
    assert!(matches!(error, DataError::EmptyTrain(_)), "{error}");
    assert_eq!(fs_err::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn too_many_bad_rows_are_an_error_with_reasons_and_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs_err::write(&path, "{}\nnot json\n").unwrap();
    let pipeline = pipeline(&format!("source: {{kind: hh, path: {}}}", path.display())).unwrap();
    let error = prepare(&pipeline, &folder.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("2 of 2 rows") && error.contains("a.jsonl:2: expected ident"), "{error}");
}

mod needs_data {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn real_hh_files_give_the_known_counts() {
        let folder = prospect_testkit::test_data("");
        let make = |file: &str, more: &str| {
            make(&format!("source: {{kind: hh, path: {}}}\n{more}", folder.join("hh").join(file).display()))
        };
        let lines = |out: &Path, reason: &str| -> Vec<usize> {
            let text = fs_err::read_to_string(out.join("rejected.jsonl")).unwrap();
            let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            // The reference counts rows from 0.
            rows.filter(|row| row["reason"] == reason)
                .map(|row| row["line"].as_u64().unwrap() as usize - 1)
                .collect()
        };

        let (harmless, out) = make("harmless-base_test.jsonl.gz", "");
        let counts = &harmless.reading;
        assert_eq!((counts.read, counts.pairs, counts.rejected), (2312, 2303, 9));
        assert!(counts.rejected_overlaps.is_empty());
        assert_eq!(lines(out.path(), "unequal_prompts"), [1254, 1688, 1950, 1952, 2036]);
        assert_eq!(lines(out.path(), "empty_completion"), [86, 516, 925, 1103]);
        assert_eq!(harmless.train.pairs + harmless.test.pairs, 2303);

        let (helpful, out) = make("helpful-base_test.rows0-1851.jsonl.gz", "");
        let counts = &helpful.reading;
        assert_eq!((counts.read, counts.pairs, counts.rejected), (1852, 1840, 12));
        assert_eq!(lines(out.path(), "unequal_prompts"), [168, 354, 567, 742, 959, 1010, 1165, 1306, 1449]);
        assert_eq!(lines(out.path(), "empty_completion"), [120, 739, 1213]);
        assert_eq!(helpful.unique_prompts, 1840);

        // A fraction of 0.1 is a subset of 0.5, with exact counts and the same test rows.
        let keep = |share: f64| {
            let (manifest, out) =
                make("harmless-base_test.jsonl.gz", &format!("imbalance: {{keep_desirable: {share}}}"));
            let ids = |split| {
                read_binary(out.path(), split).unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>()
            };
            let train: HashSet<String> = ids(Split::Train).into_iter().collect();
            (manifest, train, ids(Split::Test))
        };
        let ((tenth, small, test), (half, large, same_test)) = (keep(0.1), keep(0.5));
        assert!(small.is_subset(&large) && test == same_test);
        let total = tenth.train.n_undesirable;
        assert_eq!(tenth.train.n_desirable, (0.1 * total as f64).round() as u64);
        assert_eq!(half.train.n_desirable, (0.5 * total as f64).round() as u64);
    }
}
