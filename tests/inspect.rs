//! `prospect inspect` and `prospect preview`, from the command line.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Place, repository};

const MODEL: &str = "\
weights: random
tokenizer: bytes
train: full
architecture:
  vocab_size: 258
  hidden_size: 8
  intermediate_size: 8
  num_hidden_layers: 1
  num_attention_heads: 1
  num_key_value_heads: 1
  head_dim: 8
  max_position_embeddings: 512
";

/// Returns a folder with a dataset in HH's format in `data`, and a model recipe.
fn place() -> Place {
    let place = Place::new();
    place.write("hh.jsonl", fs_err::read(repository("tests/fixtures/hh.jsonl")).unwrap());
    place.write(
        "recipe.yaml",
        "seed: 3\nsource: { kind: hh, path: hh.jsonl }\nsplit: { test_fraction: 0.2 }\n\
         noise: { flip_desirable: 0.25, flip_undesirable: 0.25 }\nmax_rejected: 0.2\n",
    );
    place.write("model.yaml", MODEL);
    let run = place.run("prepare recipe.yaml --out data");
    assert_eq!(run.code, Some(0), "{run}");
    place
}

#[test]
fn a_dataset_is_shown_as_tables() {
    assert_snapshot!(place().run("inspect data --model model.yaml --examples 1"));
}

#[test]
fn the_json_has_the_same_numbers() {
    let place = place();
    let run = place.run("inspect data --json --model model.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let summary: Value = serde_json::from_str(&run.stdout).unwrap();
    let train = &summary["splits"]["train"];
    let manifest = &summary["manifest"]["train"];
    assert_eq!(train["counts"]["desirable"], manifest["n_desirable"]);
    assert_eq!(train["counts"]["pairs"], manifest["pairs"]);
    let rows =
        train["counts"]["desirable"].as_u64().unwrap() + train["counts"]["undesirable"].as_u64().unwrap();
    assert_eq!(train["characters"]["prompt"]["count"], rows);
    assert_eq!(train["tokens"]["prompt"]["count"], rows);
    assert_eq!(summary["rejected"]["by_reason"], json!({"empty_completion": 1, "unequal_prompts": 1}));
    assert_eq!(place.run("inspect data --json --model model.yaml").stdout, run.stdout);
}

#[test]
fn the_page_is_self_contained_and_escapes_texts() {
    let place = Place::new();
    let hostile = "<script>alert(1)</script>\u{1b}[31m";
    let line = |prompt: &str| {
        let side = |text: &str| format!("\n\nHuman: {prompt} {hostile}\n\nAssistant: {text}");
        json!({"chosen": side(hostile), "rejected": side("no")}).to_string()
    };
    place.write("hh.jsonl", [line("p"), line("q"), "{}".to_owned()].join("\n"));
    place.write("recipe.yaml", "source: { kind: hh, path: hh.jsonl, domain: '<b>d</b>' }\nmax_rejected: 1\n");
    place.run("prepare recipe.yaml --out data");
    let run = place.run("inspect data --html page.html");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(!run.stdout.contains('\u{1b}'), "{run}");
    let html = fs_err::read_to_string(place.path("page.html")).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;") && !html.contains("<b>d"));
    assert!(html.contains("default-src 'none'") && !html.contains("http:") && !html.contains("https:"));
    for text in
        ["Class balance", "missing_field", "hh.jsonl:3", "figure-train-prompt-characters", "manifest.json"]
    {
        assert!(html.contains(text), "{text}");
    }
    let again = place.run("inspect data --html again.html");
    assert_eq!(again.code, Some(0));
    assert!(html == fs_err::read_to_string(place.path("again.html")).unwrap());
}

#[test]
fn a_folder_without_a_dataset_is_an_error() {
    assert_snapshot!(Place::new().run("inspect nowhere"));
}

#[test]
fn examples_are_shown_as_training_sees_them() {
    let place = place();
    assert_snapshot!("preview_kto", place.run("preview data --model model.yaml -n 2 --max-length 100"));
    let run = place.run("preview data --model model.yaml -n 1 --split test --objective dpo --max-length 70 --max-prompt-length 60");
    assert_snapshot!("preview_dpo", run);
    // The same command shows the same examples; another seed shows others.
    let shown = |args: &str| place.run(&format!("preview data --model model.yaml -n 3 {args}")).stdout;
    assert_eq!(shown(""), shown(""));
    assert_ne!(shown(""), shown("--seed 1"));
    assert!(!shown("").contains('\u{1b}'));
}

#[test]
fn the_kl_partner_has_another_prompt_of_the_same_batch() {
    let place = place();
    let run = place.run("preview data --model model.yaml -n 14 --batch-size 2");
    assert_eq!(run.code, Some(0), "{run}");
    let after = |line: &str, words: &str| line.split(words).nth(1).unwrap().to_owned();
    let own: Vec<_> =
        run.stdout.lines().filter(|line| line.starts_with("== ")).map(|l| after(l, "prompt ")).collect();
    let partners: Vec<_> = run
        .stdout
        .lines()
        .filter(|line| line.contains("KL partner"))
        .map(|l| after(l, "of prompt "))
        .collect();
    assert_eq!((own.len(), partners.len()), (14, 14));
    for (batch, partners) in own.chunks(2).zip(partners.chunks(2)) {
        assert!(batch.iter().zip(partners).all(|(own, partner)| own != partner));
        if batch[0] != batch[1] {
            assert_eq!((&partners[0], &partners[1]), (&batch[1], &batch[0]));
        }
    }
}

#[test]
fn groups_times_and_the_quality_of_sources_are_shown() {
    let place = Place::new();
    let pair = |n: usize| {
        json!({"prompt": format!("p{n}"), "chosen": "a", "rejected": "b", "who": format!("user {}", n % 4),
            "at": format!("2024-05-{:02}", n + 1), "score_chosen": n % 3, "score_rejected": 1})
    };
    let lines: Vec<String> = (0..12).map(|n| pair(n).to_string()).collect();
    place.write("pairs.jsonl", lines.join("\n"));
    place.write(
        "recipe.yaml",
        "source: { path: pairs.jsonl, columns: { group: who, time: at } }\nsplit: { by: time, test_fraction: 0.25 }\n",
    );
    place.run("prepare recipe.yaml --out data");
    let run = place.run("inspect data --examples 0");
    let shown = run.stdout.split("\n\n");
    let section = |title: &str| shown.clone().find(|section| section.starts_with(title)).unwrap_or_default();
    assert_snapshot!("groups_and_times", section("== Rows and pairs"));
    assert_snapshot!("source_quality", section("== Source quality"));
    assert!(!run.stdout.contains("user "), "{run}");
}
