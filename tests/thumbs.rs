//! One's own thumbs, which never were pairs, from a file to a report.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{MODEL, Place};

const TASKS: [&str; 5] = ["bake bread", "boil rice", "water plants", "fold shirts", "sharpen knives"];
const EXTRAS: [&str; 4] = ["at home", "in winter", "with a friend", "on a budget"];

/// A prompt, a completion, and whether people liked it. They like polite completions and dislike
/// curt ones, with one exception in ten.
fn thumb(index: usize) -> (String, String, bool) {
    let (task, extra) = (TASKS[index % 5], EXTRAS[index / 5 % 4]);
    let polite = index.is_multiple_of(2);
    let prompt = format!("How do I {task} {extra}, question {}?", index / 2);
    let completion = if polite { format!("Sure, gladly: {task} slowly.") } else { "no idea".to_owned() };
    (prompt, completion, polite ^ index.is_multiple_of(10))
}

fn jsonl() -> String {
    (0..200).fold(String::new(), |mut text, index| {
        let (prompt, completion, label) = thumb(index);
        writeln!(text, "{}", json!({"prompt": prompt, "completion": completion, "label": label})).unwrap();
        text
    })
}

fn csv() -> String {
    (0..200).fold("prompt,completion,label\n".to_owned(), |mut text, index| {
        let (prompt, completion, label) = thumb(index);
        writeln!(text, "\"{prompt}\",\"{completion}\",{label}").unwrap();
        text
    })
}

fn place() -> Place {
    let place = Place::new();
    place.write("model.yaml", MODEL);
    place.write("thumbs.jsonl", jsonl());
    place.write("thumbs.csv", csv());
    place
}

const OPTIONS: &str = "--model model.yaml --batch-size 16 --max-length 160 --learning-rate 0.01 \
    --set train.max_prompt_length=100";

/// Values of the last evaluation of the run whose path a command printed.
fn last_evaluation(place: &Place, run: &str) -> Value {
    let metrics = fs_err::read_to_string(place.path(run.trim()).join("metrics.jsonl")).unwrap();
    let records = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.rev().find(|record| record["kind"] == "eval").unwrap()
}

#[test]
fn thumbs_of_a_file_train_and_are_evaluated_by_auc() {
    let place = place();
    let mut evaluations = Vec::new();
    for file in ["thumbs.jsonl", "thumbs.csv"] {
        let out = file.replace('.', "-");
        let run = place.run(&format!("train {file} --objective kto {OPTIONS} --out runs/{out}"));
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stderr.contains("AUC on held-out thumbs"), "{run}");
        let evaluation = last_evaluation(&place, &run.stdout);
        for metric in
            ["auc", "balanced_accuracy", "log_loss", "brier_skill", "base_rate", "length_auc", "prompt_auc"]
        {
            assert!(evaluation[format!("eval_thumbs/{metric}")].is_number(), "{metric}: {evaluation}");
        }
        assert!(evaluation["eval_rewards/accuracies"].is_null(), "{evaluation}");
        let thumbs = fs_err::read_to_string(place.path(run.stdout.trim()).join("thumbs.jsonl")).unwrap();
        let probabilities = thumbs.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert!(probabilities.into_iter().all(|thumb| thumb["probability"].is_number()), "{thumbs}");
        evaluations.push(evaluation);
    }
    assert_eq!(evaluations[0], evaluations[1], "the same thumbs in two formats");
    // Liked completions are long, and the model learns something like it.
    assert!(evaluations[0]["eval_thumbs/length_auc"].as_f64().unwrap() > 0.7);
    assert!(evaluations[0]["eval_thumbs/auc"].as_f64().unwrap() > 0.6, "{}", evaluations[0]);
}

#[test]
fn thumbs_of_users_are_evaluated_by_user() {
    let place = place();
    let users = (0..200).fold(String::new(), |mut text, index| {
        let (prompt, completion, label) = thumb(index);
        let user = format!("user-{}", index % 40);
        let row = json!({"prompt": prompt, "completion": completion, "label": label, "user": user});
        writeln!(text, "{row}").unwrap();
        text
    });
    place.write("users.jsonl", users);
    let recipe = "source: { path: users.jsonl, columns: { group: user } }\n\
                  split: { by: group, test_fraction: 0.25 }\n";
    place.write("users.yaml", recipe);
    let run = place.run(&format!("train users.yaml --objective kto {OPTIONS}"));
    assert_eq!(run.code, Some(0), "{run}");
    let directory = place.path(run.stdout.trim());
    let summary = fs_err::read_to_string(directory.join("../../summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let groups = summary["points"][0]["thumbs"]["groups"].as_u64().unwrap();
    assert!((5..=15).contains(&groups), "{summary}");
    let thumbs = fs_err::read_to_string(directory.join("thumbs.jsonl")).unwrap();
    assert!(thumbs.contains("\"group\":") && !thumbs.contains("user-"), "{thumbs}");
}

#[test]
fn runs_of_one_directory_are_compared_in_a_report() {
    let place = place();
    for objective in ["kto", "bco", "sft"] {
        let run = place.run(&format!("train thumbs.jsonl --objective {objective} {OPTIONS} --out runs/mine"));
        assert_eq!(run.code, Some(0), "{run}");
    }
    let report = place.run("report runs/mine --out report");
    assert_eq!(report.code, Some(0), "{report}");
    let page = fs_err::read_to_string(place.path("report/index.html")).unwrap();
    for text in ["Held-out AUC of the reward", "Held-out thumbs", "Brier skill", "kto", "bco", "sft"] {
        assert!(page.contains(text), "{text}");
    }
    let table = fs_err::read_to_string(place.path("report/tables/thumbs.csv")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    let rewards = fs_err::read_to_string(place.path("report/tables/thumb_rewards.csv")).unwrap();
    assert_eq!((rewards.lines().count() - 1) % 3, 0, "{rewards}");
    assert!(place.path("report/tables/reliability.csv").exists());
    assert!(place.path("report/figures/reliability.svg").exists());
}

#[test]
fn paired_objectives_refuse_thumbs_with_the_way_out() {
    let place = place();
    let run = place.run(&format!("train thumbs.jsonl --objective dpo {OPTIONS}"));
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("dpo trains on pairs, and these thumbs are none: train with kto"), "{run}");
    assert!(run.stderr.contains("source.binarise"), "{run}");
}

#[test]
fn thumbs_that_are_all_up_are_trained_on_and_not_ranked() {
    let place = place();
    let up = (0..40).fold(String::new(), |mut text, index| {
        let (prompt, completion, _) = thumb(index);
        writeln!(text, "{}", json!({"prompt": prompt, "completion": completion, "label": true})).unwrap();
        text
    });
    place.write("up.jsonl", up);
    let run = place.run(&format!("train up.jsonl --objective kto {OPTIONS}"));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("are all of one kind"), "{run}");
    assert!(run.stderr.contains("Rewards cannot be ranked"), "{run}");
}

#[test]
fn a_prepared_dataset_is_trained_on_and_previewed_as_it_is() {
    let place = place();
    let prepared = place.run("prepare thumbs.jsonl --out mine --set split.test_fraction=0.2");
    assert_eq!(prepared.code, Some(0), "{prepared}");
    let run = place.run(&format!("train mine --objective kto {OPTIONS}"));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(last_evaluation(&place, &run.stdout)["eval_thumbs/auc"].is_number());
    let refused = place.run(&format!("train mine {OPTIONS} --set data.imbalance.keep_desirable=0.5"));
    assert!(refused.code == Some(1) && refused.stderr.contains("is a prepared dataset"), "{refused}");
    let again = place.run("prepare mine");
    assert!(again.code == Some(1) && again.stderr.contains("is a prepared dataset already"), "{again}");
    let preview = place.run("preview mine --model model.yaml --split test -n 1 --max-length 160");
    assert!(preview.code == Some(0) && preview.stdout.contains("test, "), "{preview}");
    // Twenty prompts are too long to train on.
    let long = (0..20).fold(jsonl(), |mut text, index| {
        let prompt = format!("{index} {}", "and why ".repeat(20));
        writeln!(text, "{}", json!({"prompt": prompt, "completion": "x", "label": true})).unwrap();
        text
    });
    place.write("long.jsonl", long);
    let prepared = place.run("prepare long.jsonl --out long --set split.test_fraction=0.2");
    assert_eq!(prepared.code, Some(0), "{prepared}");
    let preview = place.run("preview long --model model.yaml -n 1 --max-length 160 --max-prompt-length 100");
    assert!(preview.stderr.contains("training conversations are left out: the last turn"), "{preview}");
}

#[test]
fn a_sweep_over_imbalance_and_noise_compares_aucs() {
    let place = place();
    place.write("data.yaml", "source: { path: thumbs.jsonl }\nsplit: { test_fraction: 0.2 }\n");
    place.write(
        "experiment.yaml",
        "question: Which method learns from few thumbs?\n\
         data: data.yaml\n\
         model: model.yaml\n\
         train: { learning_rate: 0.01, batch_size: 16, max_length: 160, max_prompt_length: 100, max_steps: 4 }\n\
         linked: { method: { kto: { train.objective: kto }, bco: { train.objective: bco } } }\n\
         matrix: { data.imbalance.keep_desirable: [0.5, 1.0] }\n\
         settings: { data.noise.flip_desirable: 0.1 }\n\
         seeds: [0, 1]\n\
         evaluate: { every: 2, generations: { prompts: 4, max_new_tokens: 8 } }\n\
         report: { x: data.imbalance.keep_desirable, series: method, baseline: kto, \
         primary: { series: bco, x: 1.0 } }\n",
    );
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let summary = fs_err::read_to_string(place.path("runs/experiment/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let contrasts = summary["contrasts"].as_array().unwrap();
    assert_eq!(contrasts.len(), 2, "{summary}");
    assert!(contrasts.iter().all(|contrast| contrast["measure"] == "auc"), "{summary}");
    let primary: Vec<_> = contrasts.iter().filter(|contrast| contrast["is_primary"] == true).collect();
    assert_eq!((primary.len(), &primary[0]["x"]), (1, &json!(1.0)), "{summary}");
    let thumbs = &summary["points"][0]["thumbs"];
    assert!(thumbs["auc"]["low"].as_f64() < thumbs["auc"]["high"].as_f64(), "{thumbs}");
    assert!(summary["points"][0]["accuracy"].is_null());
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains("Difference in AUC from kto"));
}
