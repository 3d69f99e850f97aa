//! Runs every recipe in `pipelines/` on small local files in the layout of its source.

#![cfg(test)]

use std::path::{Path, PathBuf};

use prospect_core::config::Document;
use prospect_data::{Manifest, PipelineFile, Split, prepare, read_binary, read_pairs};
use serde_json::json;

fn write(root: &Path, name: &str, rows: &[serde_json::Value]) {
    let path = root.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    fs_err::write(path, lines.join("\n")).unwrap();
}

/// Makes a folder per Hub repository, with files in the layout of that source.
fn hub() -> tempfile::TempDir {
    let hub = tempfile::tempdir().unwrap();
    let root = hub.path();
    for split in ["train", "test"] {
        for folder in [
            "harmless-base",
            "helpful-base",
            "helpful-online",
            "helpful-rejection-sampled",
            "red-team-attempts",
        ] {
            let side = |text: &str| format!("\n\nHuman: {split} {folder}?\n\nAssistant: {text}");
            write(
                root,
                &format!("hh-rlhf/{folder}/{split}.jsonl"),
                &[json!({"chosen": side("yes"), "rejected": side("no")})],
            );
        }
    }
    for split in ["train", "validation", "test"] {
        for domain in ["askdocs", "askengineers", "legaladvice"] {
            let rows: Vec<_> = (0..7)
                .map(|n| {
                    json!({"post_id": domain, "domain": format!("{domain}_{split}"), "history": format!("{split} {domain}?"),
                        "human_ref_A": format!("a{n}"), "human_ref_B": format!("b{n}"), "labels": 1,
                        "score_A": if n == 0 { 3 } else { 8 }, "score_B": 2})
                })
                .collect();
            write(root, &format!("SHP/{domain}/{split}.json"), &rows);
        }
    }
    for split in ["train", "validation"] {
        let message = |id: &str, parent: Option<&str>, rank: Option<i64>| {
            let role = if rank.is_some() { "assistant" } else { "prompter" };
            json!({"message_id": id, "parent_id": parent, "text": format!("{split} {id}"), "role": role, "lang": "en", "rank": rank})
        };
        let rows = [
            message("p", None, None),
            message("c", Some("p"), Some(2)),
            message("b", Some("p"), Some(1)),
            message("a", Some("p"), Some(0)),
        ];
        write(root, &format!("oasst1/data/{split}.jsonl"), &rows);
    }
    let scored = |n: usize| {
        let completion =
            |text: &str, score: f64| json!({"model": "m", "response": text, "overall_score": score});
        json!({"instruction": format!("q{n}"), "completions": [completion("a", 8.5), completion("b", 4.0), completion("c", 7.0)]})
    };
    write(root, "UltraFeedback/some.jsonl", &(0..20).map(scored).collect::<Vec<_>>());
    comparisons(root);
    pairs(root);
    hub
}

fn turn(role: &str, text: &str) -> serde_json::Value {
    json!({"role": role, "content": text})
}

/// Writes sets of comparisons and ranks.
fn comparisons(root: &Path) {
    let strength = |split: &str, n: i32| json!({"split": split, "prompt": format!("{split} {n}?"), "response_1": "a", "response_2": "b", "preference_strength": n});
    let rows = [strength("train", -1), strength("train", 2), strength("train", 0), strength("val", 3)];
    write(root, "HelpSteer2/preference/preference.jsonl", &rows);
    for (split, file) in [("train", "train"), ("validation", "validation")] {
        let rows: Vec<_> = ["general", "stem", "code", "code"]
            .iter()
            .enumerate()
            .map(|(n, domain)| {
                json!({"domain": domain, "language": "english", "context": [turn("user", &format!("{split} {n}?"))],
                    "response1": "a", "response2": "b", "overall_preference": 1, "individual_preference": []})
            })
            .collect();
        write(root, &format!("HelpSteer3/preference/{file}.jsonl"), &rows);
    }
    for split in ["train", "test"] {
        let rows = [0, 1].map(|better| {
            json!({"prompt": format!("{split} {better}?"), "response_0": "a", "response_1": "b",
                "is_response_0_safe": true, "is_response_1_safe": false, "better_response_id": better, "safer_response_id": 0})
        });
        write(root, &format!("PKU-SafeRLHF/data/Alpaca-7B/{split}.jsonl"), &rows);
    }
    let vote = |n: usize| {
        let side = |reply: &str| {
            format!(
                "[{{'role': 'user', 'content': 'law {n}?'}}\n {{'role': 'assistant', 'content': '{reply}'}}]"
            )
        };
        json!({"winner": "model_b", "conversation_a": side("a"), "conversation_b": side("b"), "evaluation_order": 1,
            "occupational_tags": {"legal_and_government": true, "mathematical": n < 10, "travel": null}})
    };
    write(root, "arena-expert-5k/data/train-00000-of-00001.jsonl", &(0..20).map(vote).collect::<Vec<_>>());
    let answer = |rank: u8| json!({"answer": format!("a{rank}"), "model": "m", "rank": rank});
    let ranked = |n: usize| json!({"prompt": format!("\n\nHuman: {n}?\n\nAssistant: "), "answers": [answer(3), answer(1), answer(2)], "turns": 1});
    write(root, "Nectar/rlaif.jsonl", &(0..20).map(ranked).collect::<Vec<_>>());
}

/// Writes sets of pairs and labels.
fn pairs(root: &Path) {
    let side = |prompt: &str, reply: &str| json!([turn("user", prompt), turn("assistant", reply)]);
    for file in ["train_prefs", "test_prefs", "train_sft", "test_gen"] {
        let (prompt, chosen) = (format!("{file}?"), side(&format!("{file}?"), "a"));
        let row = json!({"prompt": prompt, "chosen": chosen, "messages": chosen, "rejected": side(&prompt, "b"),
            "score_chosen": 8.0, "score_rejected": 2.0});
        write(root, &format!("ultrafeedback_binarized/data/{file}-00000-of-00001.jsonl"), &[row]);
    }
    let orca = |n: usize| json!({"system": "", "question": format!("{n}?"), "chosen": "a", "rejected": "b"});
    write(root, "orca_dpo_pairs/orca_rlhf.jsonl", &(0..20).map(orca).collect::<Vec<_>>());
    for file in ["train", "test"] {
        let row = |label: bool| json!({"prompt": [turn("user", &format!("{file} {label}?"))], "completion": [turn("assistant", "a")], "label": label});
        write(root, &format!("kto-mix-14k/data/{file}-00000-of-00001.jsonl"), &[row(true), row(false)]);
    }
    let tulu = |n: usize| {
        let side = |reply: &str| {
            let first = format!("{n}?");
            json!([
                turn("user", &first),
                turn("assistant", "so"),
                turn("user", "more"),
                turn("assistant", reply)
            ])
        };
        json!({"id": n, "prompt": format!("{n}?"), "chosen": side("a"), "rejected": side("b"), "source": "some"})
    };
    let rows: Vec<_> = (0..20).map(tulu).collect();
    write(root, "llama-3.1-tulu-3-8b-preference-mixture/data/train-00000-of-00001.jsonl", &rows);
    for file in ["train", "test", "valid1", "valid2"] {
        let row = json!({"prompt": format!("POST: {file}"), "chosen": "TL;DR: a", "rejected": "TL;DR: b"});
        write(root, &format!("openai_summarize_comparisons/data/{file}-00000-of-00001.jsonl"), &[row]);
    }
    let medical = |n: usize| {
        json!({"prompt_id": n, "label_type": "gpt4", "prompt": format!("{n}?"), "chosen": side(&format!("{n}?"), "a"),
            "rejected": side(&format!("{n}?"), "b"), "metadata": {}})
    };
    write(root, "UltraMedical-Preference/data/all.json", &(0..20).map(medical).collect::<Vec<_>>());
}

/// Runs a recipe of `pipelines/` with its `hf://` addresses resolved to folders of `hub`.
fn run(name: &str, hub: &Path) -> (Manifest, tempfile::TempDir) {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines").join(name);
    let file: PipelineFile = Document::open(&recipe).unwrap().read().unwrap();
    let local = |address: &str| {
        let (repository, path) = address.split_once('@').unwrap();
        let name = repository.rsplit('/').next().unwrap();
        Ok(hub.join(name).join(path.split_once('/').map_or("", |(_, path)| path)))
    };
    let out = tempfile::tempdir().unwrap();
    let manifest = prepare(&file.resolve(&local).unwrap(), &out.path().join("out")).unwrap();
    (manifest, out)
}

#[test]
fn every_recipe_runs_on_local_files() {
    let hub = hub();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
    let mut names: Vec<PathBuf> =
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut ran = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (manifest, out) = run(name, hub.path());
        let (train, test) = (manifest.train, manifest.test);
        let rows = read_binary(&out.path().join("out"), Split::Train).unwrap();
        assert_eq!(rows.len() as u64, train.n_desirable + train.n_undesirable, "{name}");
        ran.push((
            name.trim_end_matches(".yaml").to_owned(),
            train.pairs,
            test.pairs,
            manifest.reading.rejected,
        ));
    }
    let ran: Vec<_> =
        ran.iter().map(|(name, train, test, bad)| (name.as_str(), *train, *test, *bad)).collect();
    // SHP: 7 rows a file; one is under the ratio, and at most five a post stay. OASST: adjacent
    // ranks.
    let expected = [
        ("all", 4 + 15 + 2, 4 + 21 + 2, 0),
        ("domains-code", 2, 2, 0),
        ("domains-legal-experts", 18, 2, 0),
        ("domains-legal", 5, 7, 0),
        ("domains-medical", 5, 7, 0),
        ("domains-technical", 5, 7, 0),
        ("domains-ultramedical", 18, 2, 0),
        ("helpsteer2", 2, 1, 0),
        ("helpsteer3", 4, 4, 0),
        ("hh", 1, 1, 0),
        ("kto-mix", 0, 0, 0),
        ("nectar", 36, 4, 0),
        ("oasst", 2, 2, 0),
        ("orca-dpo-pairs", 18, 2, 0),
        ("pku-saferlhf", 2, 2, 0),
        ("shp", 15, 21, 0),
        ("summarize-from-feedback", 1, 1, 0),
        ("synthetic", 480, 120, 0),
        ("thumbs", 0, 0, 0),
        ("tulu3-mixture", 18, 2, 0),
        ("ultrafeedback-binarized", 1, 1, 0),
        ("ultrafeedback-binary", 18, 2, 0),
        ("worlds", 1920, 480, 0),
    ];
    assert_eq!(ran, expected);
}

#[test]
fn recipes_of_public_sets_name_their_licence() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        let names = text.lines().any(|line| line.starts_with("# Licence"));
        assert_eq!(names, text.contains("hf://"), "{}", path.display());
    }
}

#[test]
fn a_mix_keeps_source_and_domain_of_every_row() {
    let hub = hub();
    let (_, out) = run("all.yaml", hub.path());
    let mut origins: Vec<(String, String)> = read_pairs(&out.path().join("out"), Split::Train)
        .unwrap()
        .into_iter()
        .map(|pair| (pair.source, pair.domain))
        .collect();
    origins.dedup();
    let origins: Vec<_> = origins.iter().map(|(source, domain)| (source.as_str(), domain.as_str())).collect();
    let expected = [
        ("hh", "harmless-base"),
        ("hh", "helpful-base"),
        ("hh", "helpful-online"),
        ("hh", "helpful-rejection-sampled"),
        ("shp", "askdocs"),
        ("shp", "askengineers"),
        ("shp", "legaladvice"),
        ("oasst", "oasst"),
    ];
    assert_eq!(origins, expected);
}

#[test]
fn scores_become_thumbs_by_the_mean_of_their_prompt() {
    let hub = hub();
    let (manifest, out) = run("ultrafeedback-binary.yaml", hub.path());
    // Of the scores 8.5, 4 and 7 (mean 6.5), two are desirable.
    assert_eq!((manifest.train.n_desirable, manifest.train.n_undesirable), (36, 18));
    let rows = read_binary(&out.path().join("out"), Split::Test).unwrap();
    assert!(rows.iter().all(|row| row.label == (row.score.unwrap() >= 6.5)));
    let pairs = read_pairs(&out.path().join("out"), Split::Test).unwrap();
    assert!(pairs.iter().all(|pair| (pair.score_chosen, pair.score_rejected) == (Some(8.5), Some(4.0))));
}
