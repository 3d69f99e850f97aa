//! `prospect triage`: from a dataset with wrong labels to a list that `prepare` takes.

use serde_json::{Value, json};

use crate::support::{Place, Run};

/// Runs a command that must succeed.
fn succeed(place: &Place, command: &str) -> Run {
    let run = place.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    run
}

/// Pairs of which one occurs in both orders, one has contradictory scores and one is cut off.
fn suspicious() -> String {
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let mut rows: Vec<Value> = (0..12).map(|n| pair(&format!("question {n}"), "gladly", "no")).collect();
    rows.push(pair("question 3", "no", "gladly"));
    rows.push(json!({"prompt": "scored", "chosen": "<b>worse</b>", "rejected": "better", "score_chosen": 1, "score_rejected": 3}));
    rows.push(pair("cut", "Take the bread out. Let it rest for an hour before you put the", "no idea"));
    rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn signals_without_a_model_are_listed_and_the_list_corrects_the_dataset() {
    let place = Place::new();
    place.write("pairs.jsonl", suspicious());
    succeed(&place, "prepare pairs.jsonl --out data/pairs");
    let run = succeed(&place, "triage data/pairs --out triaged");
    insta::assert_snapshot!("triage_signals", run);
    let page = fs_err::read_to_string(place.path("triaged/index.html")).unwrap();
    assert!(page.contains("&lt;b&gt;worse") && !page.contains("<b>worse"));
    // The two judgements that contradict each other come first.
    let list = fs_err::read_to_string(place.path("triaged/suspects.txt")).unwrap();
    assert_eq!(list.lines().filter(|line| line.ends_with("both_orders")).count(), 2, "{list}");
    succeed(&place, "prepare pairs.jsonl --out data/without --set exclude=triaged/suspects.txt");
    let manifest: Value =
        serde_json::from_slice(&fs_err::read(place.path("data/without/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["corrections"]["excluded_pairs"], 4, "{}", manifest["corrections"]);
    assert_eq!(manifest["corrections"]["unmatched_exclude"], 0);
    let clean = succeed(&place, "triage data/without --out again --json");
    let summary: Value = serde_json::from_str(&clean.stdout).unwrap();
    assert_eq!((summary["judgements"].clone(), summary["with_signals"].clone()), (json!(11), json!(0)));
}

#[test]
fn options_of_policies_need_a_model() {
    let place = Place::new();
    let refused = place.run("triage data/pairs --folds 5");
    assert_eq!(refused.code, Some(2), "{refused}");
    let refused = place.run("triage data/pairs --model tiny");
    assert!(refused.stderr.contains("is no prepared dataset"), "{refused}");
}

/// A world whose labels noise flips, and a small model.
const WORLD: &str = "\
source: { kind: synthetic, pairs: 360 }
split: { test_fraction: 0 }
noise: { swap_pairs: 0.2 }
";

#[test]
fn held_out_policies_dispute_flipped_labels() {
    let place = Place::new();
    place.write("world.yaml", WORLD);
    succeed(&place, "prepare world.yaml --out data/world");
    let command = "triage data/world --model tiny --folds 3 --max-length 160 --out triaged --json";
    let first = succeed(&place, command);
    let summary: Value = serde_json::from_str(&first.stdout).unwrap();
    let pairs = &summary["policies"][0];
    assert_eq!((&pairs["kind"], &pairs["scored"]), (&json!("pair"), &json!(360)), "{summary:#}");
    let known = &pairs["known_flips"];
    assert_eq!(known["flipped"], 72);
    assert!(known["auc"]["low"].as_f64().unwrap() > 0.55, "{summary:#}");
    // A fifth of the labels is flipped.
    let bound = &pairs["flipped_at_most"];
    assert!(bound.as_f64().is_none_or(|bound| bound > 0.2 && bound < 0.5), "{summary:#}");
    assert_eq!(bound.is_null(), pairs["no_bound"].is_string(), "{summary:#}");
    // A second call trains nothing and gives the same bytes.
    let files = ["triage.parquet", "suspects.txt", "triage.json", "index.html"];
    let read = || files.map(|file| fs_err::read(place.path("triaged").join(file)).unwrap());
    let before = read();
    assert_eq!(succeed(&place, command).stdout, first.stdout);
    assert!(before == read());
    // The list is in the order of the ranks.
    let list = fs_err::read_to_string(place.path("triaged/suspects.txt")).unwrap();
    assert_eq!(list.lines().count(), 360);
    assert!(list.lines().next().unwrap().contains("# 1, 0."), "{list}");
}
