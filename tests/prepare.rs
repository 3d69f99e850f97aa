//! `prospect prepare`, from the command line.

use std::io::Write;

use insta::assert_snapshot;
use prospect_data::{Split, read_binary, read_manifest, read_pairs};

use crate::support::{Place, repository};

const RECIPE: &str = "\
seed: 3
source: { kind: hh, path: hh.jsonl }
split: { test_fraction: 0.2 }
noise:
  flip_desirable: 0.25
  flip_undesirable: 0.25
max_rejected: 0.2
";

/// Returns a folder with twelve rows in `hh.jsonl`, two of them unusable, and their recipe.
fn place() -> Place {
    let place = Place::new();
    place.write("hh.jsonl", fs_err::read(repository("tests/fixtures/hh.jsonl")).unwrap());
    place.write("recipe.yaml", RECIPE);
    place
}

#[test]
fn a_dataset_is_prepared_once_and_summarised() {
    let place = place();
    assert_snapshot!(place.run("prepare recipe.yaml"), @r#"
    exit code 0
    --- stdout
    data/recipe
    --- stderr
    12 rows read: 10 pairs about 9 prompts, 2 rejected
      rejected empty_completion: 1
      rejected unequal_prompts: 1
      repaired trimmed_white_space: 1
      contradictory labels (rows, dropped): 2, 0
      flipped by noise (desirable, undesirable rows): 2, 2
      swapped by noise (pairs): 2
               prompts     pairs   desirable   undesirable
    train            7         7           7             7
    test             2         3           3             3
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml"), @r#"
    exit code 0
    --- stdout
    data/recipe
    --- stderr
    up to date: same recipe and inputs (--force prepares it again)
    "#);
    assert_snapshot!(fs_err::read_to_string(place.path("data/recipe/rejected.jsonl")).unwrap(), @r#"
    {"file":"hh.jsonl","line":6,"reason":"unequal_prompts","detail":"prompts of 1 and 1 turns differ from turn 1"}
    {"file":"hh.jsonl","line":7,"reason":"empty_completion","detail":"rejected is empty"}
    "#);
    let dataset = place.path("data/recipe");
    let manifest = read_manifest(&dataset).unwrap();
    assert_eq!(read_binary(&dataset, Split::Train).unwrap().len() as u64, 2 * manifest.train.pairs);
    assert_eq!(read_pairs(&dataset, Split::Test).unwrap().len() as u64, manifest.test.pairs);
    // --force or another recipe prepares it again.
    assert!(place.run("prepare recipe.yaml --force").stderr.contains("12 rows read"));
    assert!(place.run("prepare recipe.yaml --set seed=4").stderr.contains("12 rows read"));
}

#[test]
fn shards_merge_to_the_same_dataset() {
    let place = place();
    assert!(place.run("prepare recipe.yaml --out whole").code == Some(0));
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --merge"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: parts.shards: holds no shards; make them with `--shard 1/N` to `--shard N/N`
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --shard 2/2"), @r#"
    exit code 0
    --- stdout
    parts.shards/00002-of-00002.shard
    --- stderr
    0 rows read: 0 pairs, 0 rejected
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --merge"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: parts.shards: lacks the shards 1/2; make them with `--shard`
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --shard 1/2"), @r#"
    exit code 0
    --- stdout
    parts.shards/00001-of-00002.shard
    --- stderr
    12 rows read: 10 pairs, 2 rejected
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --shard 1/2"), @r#"
    exit code 0
    --- stdout
    parts.shards/00001-of-00002.shard
    --- stderr
    up to date: same recipe and inputs (--force prepares it again)
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --out parts --shard 3/2"), @r#"
    exit code 2
    --- stdout
    --- stderr
    error: invalid value '3/2' for '--shard <I/N>': a shard is written like 2/8: its number, from 1, and the number of shards

    For more information, try '--help'.
    "#);
    assert_eq!(
        place.run("prepare recipe.yaml --out parts --merge").stderr,
        place.run("prepare recipe.yaml --out whole --force").stderr
    );
    for file in [
        "kto/train-00000-of-00001.parquet",
        "dpo/test-00000-of-00001.parquet",
        "manifest.json",
        "rejected.jsonl",
    ] {
        assert!(
            fs_err::read(place.path(&format!("whole/{file}"))).unwrap()
                == fs_err::read(place.path(&format!("parts/{file}"))).unwrap()
        );
    }
    assert!(!place.path("parts.shards").exists());
}

#[test]
fn a_dataset_is_exported_for_llama_factory() {
    let place = place();
    place.run("prepare recipe.yaml");
    assert_snapshot!(place.run("export data/recipe --out factory"), @r#"
    exit code 0
    --- stdout
    factory
    --- stderr
    30 rows and pairs written
    "#);
    let info = fs_err::read_to_string(place.path("factory/dataset_info.json")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_snapshot!(info["recipe_dpo_test"], @r#"{"file_name":"dpo_test.jsonl","formatting":"sharegpt","columns":{"messages":"messages","chosen":"chosen","rejected":"rejected"},"tags":{"role_tag":"role","content_tag":"content","user_tag":"user","assistant_tag":"assistant","system_tag":"system"},"ranking":true}"#);
    assert_snapshot!(info["recipe_kto"]["columns"], @r#"{"messages":"messages","kto_tag":"label"}"#);
    assert_snapshot!(fs_err::read_to_string(place.path("factory/dpo_test.jsonl")).unwrap(), @r#"
    {"messages":[{"role":"user","content":"What is the capital of Peru?"}],"chosen":{"role":"assistant","content":"Lima."},"rejected":{"role":"assistant","content":"Cusco."}}
    {"messages":[{"role":"user","content":"What is the capital of Peru?"}],"chosen":{"role":"assistant","content":"Lima, on the coast."},"rejected":{"role":"assistant","content":"Lima."}}
    {"messages":[{"role":"user","content":"How far is the moon?"}],"chosen":{"role":"assistant","content":"About 384,000 km."},"rejected":{"role":"assistant","content":"Not far."}}
    "#);
    assert_eq!(fs_err::read_to_string(place.path("factory/kto.jsonl")).unwrap().lines().count(), 14);
    assert_snapshot!(place.run("export data/recipe --set a=1 --out other"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: `--set` has no effect on a dataset; remove it
    "#);
    assert_snapshot!(place.run("export data/recipe --out factory"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: factory: is not empty; choose another folder or remove it
    "#);
}

#[test]
fn a_misspelt_key_is_shown_with_its_line_and_a_suggestion() {
    let place = place();
    place.write("recipe.yaml", RECIPE.replace("flip_desirable", "flip_desireable"));
    assert_snapshot!(place.run("prepare recipe.yaml"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: recipe.yaml:5: `noise.flip_desireable`: unknown field `flip_desireable`, expected one of `flip_desirable`, `flip_undesirable`, `swap_pairs`, `score_flip`, `length_flip`, `annotators`, `cycles`, `shuffle`, `truncate`, `drop_words`, `seed`; did you mean `flip_desirable`?
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --set noise"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: cannot set `noise`: write KEY=VALUE, with KEY a dotted path
    "#);
}

#[test]
fn missing_files_are_named() {
    let place = place();
    assert_snapshot!(place.run("prepare nowhere.yaml"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: nowhere.yaml does not exist: give a file or the name of a built-in recipe (`prospect recipes`)
    "#);
    assert_snapshot!(place.run("prepare recipe.yaml --set source.path=nowhere.jsonl"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: `source.path`: nowhere.jsonl does not exist; relative paths start at the current directory, [folder]
    "#);
}

#[test]
fn errors_name_the_source_of_a_list_and_similar_columns() {
    let place = Place::new();
    place.write("a.jsonl", "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n");
    let error = |sources: &str| {
        place.write("mix.yaml", format!("source: {sources}\n"));
        place.run("prepare mix.yaml").stderr
    };
    assert_snapshot!(error("[{ path: a.jsonl }, { path: b.jsonl }]"), @"error: `source[1].path`: b.jsonl does not exist; relative paths start at the current directory, [folder]");
    assert_snapshot!(error("[{ path: a.jsonl }, { path: a.jsonl, kind: hh, pairs: 3 }]"), @"error: `source[1].pairs` has no effect on feedback of kind hh; remove it");
    assert_snapshot!(error("[{ path: a.jsonl }, { kind: pairs }]"), @"error: `source[1].path` is not given: a file, a folder or an hf:// address is needed");
    assert_snapshot!(error("{ kind: pairs, pairs: 3, path: a.jsonl }"), @"error: `source.pairs` has no effect on feedback of kind pairs; remove it");
    assert_snapshot!(error("{ kind: pairs, path: a.jsonl, columns: { chosen: chozen } }"), @r"
    error: 1 of 1 rows cannot be used, more than `max_rejected: 0.05` allows:
      missing_field: 1
        a.jsonl:1: no `chozen`; did you mean `chosen`?
    look at these lines, then repair the input or raise `max_rejected`
    ");
}

#[test]
fn an_unreachable_hub_is_one_line() {
    let place = Place::new();
    let hub = [("HF_HUB_OFFLINE", ""), ("HF_ENDPOINT", "http://127.0.0.1:9"), ("NO_PROXY", "127.0.0.1")];
    let run = place.run_with("prepare hf://datasets/org/name@main", &hub);
    assert_eq!(run.code, Some(1), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    assert!(run.stderr.contains("cannot download hf://datasets/org/name@main: "), "{run}");
    assert!(run.stderr.contains("try again"), "{run}");
}

#[test]
fn damaged_gzip_says_how_far_it_was_read() {
    let place = place();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&fs_err::read(place.path("hh.jsonl")).unwrap()).unwrap();
    let mut bytes = gzip.finish().unwrap();
    // The checksum at the end no longer matches.
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    place.write("hh.jsonl", bytes);
    assert_snapshot!(place.run("prepare recipe.yaml"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: hh.jsonl: damaged gzip data after 12 whole records (1874 bytes of text); fetch the file again
      caused by: corrupt gzip stream does not have a matching checksum
    "#);
    assert!(!place.path("data/recipe").exists());
}

#[test]
fn a_truncated_line_is_rejected_and_too_many_are_an_error() {
    let place = place();
    let text = fs_err::read_to_string(place.path("hh.jsonl")).unwrap();
    place.write("hh.jsonl", &text[..text.len() - 20]);
    assert_snapshot!(place.run("prepare recipe.yaml"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: 3 of 12 rows cannot be used, more than `max_rejected: 0.2` allows:
      empty_completion: 1
        hh.jsonl:7: rejected is empty
      not_json: 1
        hh.jsonl:12: EOF while parsing a string at column 153
      unequal_prompts: 1
        hh.jsonl:6: prompts of 1 and 1 turns differ from turn 1
    look at these lines, then repair the input or raise `max_rejected`
    "#);
    assert!(!place.path("data/recipe").exists());
}

#[test]
fn with_strict_the_first_bad_row_is_an_error() {
    let place = place();
    assert_snapshot!(place.run("prepare recipe.yaml --strict"), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: hh.jsonl:6: unequal_prompts: prompts of 1 and 1 turns differ from turn 1; with `--strict` no row may be rejected
    "#);
    assert!(!place.path("data/recipe").exists());
}

#[test]
fn one_class_is_allowed_with_a_warning() {
    assert_snapshot!(place().run("prepare recipe.yaml --set noise={} --set imbalance.keep_undesirable=0 --out one"), @r#"
    exit code 0
    --- stdout
    one
    --- stderr
    12 rows read: 10 pairs about 9 prompts, 2 rejected
      rejected empty_completion: 1
      rejected unequal_prompts: 1
      repaired trimmed_white_space: 1
      contradictory labels (rows, dropped): 2, 0
      dropped by imbalance (desirable, undesirable rows): 0, 7
               prompts     pairs   desirable   undesirable
    train            7         0           7             0
    test             2         3           3             3
    warning: the training split has no undesirable row
    warning: the training split has no whole pair: paired objectives have nothing to train on
    "#);
}

#[test]
fn a_folder_that_is_not_a_dataset_is_not_replaced() {
    assert_snapshot!(place().run("prepare recipe.yaml --out ."), @r#"
    exit code 1
    --- stdout
    --- stderr
    error: . exists and is not a dataset made by `prospect prepare`; choose another directory or remove it
    "#);
}

#[test]
fn the_shipped_recipes_are_valid() {
    let place = place();
    let synthetic = repository("pipelines/synthetic.yaml");
    assert_eq!(place.run(&format!("prepare {} --out synthetic", synthetic.display())).code, Some(0));
    let hh = repository("pipelines/hh.yaml");
    let run = place
        .run(&format!("prepare {} --set source.path=hh.jsonl --set max_rejected=1 --out hh", hh.display()));
    assert_eq!(run.code, Some(0), "{run}");
}

#[test]
fn counts_are_printed_as_json() {
    let place = Place::with("");
    for _ in 0..2 {
        let run = place.run("prepare data.yaml --out data/x --json");
        assert_eq!(run.code, Some(0), "{run}");
        let manifest: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(manifest["reading"]["pairs"], 60, "{run}");
    }
}
